"""What each stage cost, in floating-point operations: 6 per parameter and token in training, 2 in a forward pass.

The usual count (Kaplan et al. 2020), which the paper's petaflop/s-days follow; attention is left out, and so is
the reward model's training, for which the paper gives no figure.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models import encode_prompt

if TYPE_CHECKING:
    from labkit.experiment import Experiment

__all__ = ["costs"]

FORWARD, TRAINING = 2, 6


def costs(lab: Experiment) -> dict[str, Any]:
    """Operations of pretraining, SFT and PPO-ptx of this run's policy; None for pretraining where no recipe tells."""
    recipe = Path(lab.model) / "recipe.json"
    told = json.loads(recipe.read_text(encoding="utf-8")) if recipe.exists() else {}
    policy = sum(p.numel() for p in lab.policy("sft").parameters())
    judge = sum(p.numel() for p in lab.policy("ppo_init").parameters()) if lab.reward_base == lab.model else _judge(lab)
    sft = sum(s.metrics["tokens"] for s in lab.run.stage("sft").steps())
    found: dict[str, Any] = {
        "parameters": policy,
        "sft": TRAINING * policy * sft,
        "ppo_ptx": _ppo(lab, policy, judge),
        "pretraining": TRAINING * told["parameters"] * told["tokens"] if told else None,
    }
    return found


def _judge(lab: Experiment) -> int:
    from labkit.models import load_reward_model

    return sum(p.numel() for p in load_reward_model(lab.run.stage("reward").model).parameters())


def _ppo(lab: Experiment, policy: int, judge: int) -> float:
    """Episodes: sampling, reference, value and RM passes, updates of policy and value; and the pretraining tokens."""
    settings, steps = lab.preset.ppo, lab.run.stage("ppo_ptx").steps()
    prompts = lab.prompts("train", "ppo")[:500]
    asked = statistics.fmean(len(encode_prompt(lab.tokenizer, p.text)) for p in prompts)
    tokens = sum(s.metrics["episodes"] * (asked + s.metrics["response_length"]) for s in steps)
    episodes = sum(s.metrics["episodes"] for s in steps)
    mixed = episodes * settings.ptx_per_episode * settings.ptx_tokens
    # sampling and reference read with the policy's size, value and reward with the judge's; then both are trained
    return tokens * (policy + judge) * (2 * FORWARD + TRAINING) + mixed * policy * TRAINING
