"""What each stage cost, in floating-point operations: 6 per parameter and token in training, 2 in a forward pass.

The usual count (Kaplan et al. 2020), which the paper's petaflop/s-days follow; attention is left out. The paper gives no
figure for the reward model; here its base (the reader) is made for this very purpose, so its training is counted too.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.models import encode_prompt
from labkit.reward.data import response_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from labkit.experiment import Experiment

__all__ = ["costs", "reader_cost"]

FORWARD, TRAINING = 2, 6
SAMPLE = 300  # exercises on which their length is measured


def costs(lab: Experiment) -> dict[str, Any]:
    """Operations of pretraining, SFT, PPO init, reward model, PPO-ptx, the reader's training; None where no recipe tells."""
    told = _recipe(lab.model)
    policy = sum(p.numel() for p in lab.policy("sft").parameters())
    judge = sum(p.numel() for p in lab.policy("ppo_init").parameters()) if lab.reward_base == lab.model else _judge(lab)
    read = {name: sum(s.metrics["tokens"] for s in lab.run.stage(name).steps()) for name in ("sft", "ppo_init")}
    found: dict[str, Any] = {
        "parameters": policy,
        "sft": TRAINING * policy * read["sft"],
        "ppo_init": TRAINING * policy * read["ppo_init"],
        "reward": TRAINING * judge * _ranked(lab),
        "ppo_ptx": _ppo(lab, policy, judge),
        "reader": reader_cost(_recipe(lab.reward_base), lab.tokenizer),
        "pretraining": TRAINING * told["parameters"] * told["tokens"] if told else None,
    }
    return found


def _recipe(model: str) -> dict[str, Any]:
    """How a base of the world was made; empty for other models."""
    file = Path(model) / "recipe.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def reader_cost(told: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> float | None:
    """Operations of the training that made a reader of its start: corpus rows, and every prompt and answer of exercises.

    None for a reward base that is no reader. The recipe counts exercises; their tokens are measured on a sample. All
    answers of an exercise share one reading of its prompt; a course without marks reads the right ones alone.
    """
    if "exercises" not in told:
        return None
    from labkit.world.exercises import exercises
    from labkit.world.facts import build_world
    from labkit.world.reader import taken

    recipe = told["recipe"]
    drawn = exercises(build_world(told["world_seed"]), recipe["seed"], stray=recipe["stray"])
    found = [(p, answers if recipe["marks"] else answers[:right]) for p, answers, right in taken(tokenizer, drawn, SAMPLE)]
    read = statistics.fmean(len(p) + sum(map(len, answers)) for p, answers in found)
    earlier = reader_cost(told.get("before", {}), tokenizer) or 0.0  # a reader may have been made in several courses
    return earlier + TRAINING * told["parameters"] * (told["tokens"] + told["exercises"] * read)


def _judge(lab: Experiment) -> int:
    from labkit.models import load_reward_model

    return sum(p.numel() for p in load_reward_model(lab.run.stage("reward").model).parameters())


def _ranked(lab: Experiment) -> int:
    """Tokens that the reward model trains on: each prompt once, with all its answers."""
    read = 0
    for ranking in lab.rankings():
        read += len(encode_prompt(lab.tokenizer, ranking.prompt.text))
        read += sum(len(response_ids(lab.tokenizer, c)) for c in ranking.completions)
    return read * lab.preset.reward.epochs


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
