"""What the other methods are told; none of it is in the InstructGPT paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.errors import SettingsError
from labkit.settings import Settings, setting

if TYPE_CHECKING:
    from labkit.experiment import Experiment

__all__ = ["METHODS", "OFFLINE", "ONLINE", "PAIRS_PER_PROMPT", "OfflineSettings", "OnlineSettings", "settings_of"]

OFFLINE, ONLINE = ("dpo", "kto"), ("rloo", "grpo")
METHODS = (*OFFLINE, *ONLINE)
PAIRS_PER_PROMPT = {"smoke": 2, "findings": 2, "tour": 4, "full": 4}  # by scale, as time allows


@dataclass(frozen=True)
class OfflineSettings(Settings):
    """DPO and KTO: learn from rankings, without sampling."""

    epochs: int = setting(1, "Passes over the pairs; as many as the reward model's in the paper.", low=1)
    pairs_per_prompt: int = setting(4, "Pairs drawn from each ranking, so that no prompt outweighs the others.", low=1)
    batch_size: int = setting(32, "Pairs (KTO: completions) per optimiser step.", low=2)
    lr: float = setting(2e-4, "Peak learning rate, a tenth of SFT's at this size.", low=0.0, high=1.0)
    beta: float = setting(0.1, "Weight of staying near the reference (0.1: TRL's default).", low=0.0, high=100.0)
    seed: int = setting(0, "Seed of the pairs drawn and of their order.", low=0)


@dataclass(frozen=True)
class OnlineSettings(Settings):
    """RLOO and GRPO: sample and be paid by the reward model, with as many episodes and steps as PPO."""

    steps: int = setting(30, "Batches of fresh episodes.", low=1)
    batch: int = setting(128, "Episodes per batch.", low=2)
    minibatch: int = setting(32, "Episodes per optimiser step.", low=2)
    per_prompt: int = setting(4, "Episodes of one prompt, which are each other's baseline.", low=2)
    max_new_tokens: int = setting(32, "Length limit of a response in tokens.", low=1)
    lr: float = setting(5e-4, "Learning rate after warm-up; PPO's.", low=0.0, high=1.0)
    warmup: int = setting(3, "Batches over which the learning rate rises.", low=0)
    beta: float = setting(0.1, "Weight of the KL penalty; PPO's.", low=0.0, high=10.0)
    missing_end_penalty: float = setting(1.0, "Subtracted from the score of a response without end token.", low=0.0)
    seed: int = setting(0, "Seed of sampling and of the order of prompts.", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch % self.minibatch or self.batch % self.per_prompt:
            raise SettingsError(
                f"batch is {self.batch}, minibatch {self.minibatch}, per_prompt {self.per_prompt}; batch must be a "
                "whole multiple of both others."
            )


def settings_of(lab: Experiment, method: str) -> OfflineSettings | OnlineSettings:
    """The settings of a method at the run's scale: episodes, steps, β and learning rate of PPO's preset."""
    if method not in METHODS:
        raise SettingsError(f"There is no method {method!r}; the methods are {', '.join(METHODS)}.")
    if method in OFFLINE:
        small = {"batch_size": 8} if lab.scale == "smoke" else {}
        return OfflineSettings(seed=lab.seed, pairs_per_prompt=PAIRS_PER_PROMPT[lab.scale], **small)
    ppo, knobs = lab.preset.ppo, lab.preset.ppo_knobs
    return OnlineSettings(
        steps=ppo.steps,
        batch=ppo.batch,
        minibatch=ppo.minibatch,
        max_new_tokens=lab.max_new_tokens,
        lr=knobs.policy_lr,
        warmup=ppo.warmup,
        beta=knobs.kl_coef,
        missing_end_penalty=ppo.missing_end_penalty,
        seed=lab.seed,
    )
