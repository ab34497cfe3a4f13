"""What reward-model training is told once; defaults are the paper's numbers, presets scale them down."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import SettingsError
from labkit.settings import Settings, setting

__all__ = ["RewardSettings"]


@dataclass(frozen=True)
class RewardSettings(Settings):
    """Settings of the reward model."""

    epochs: int = setting(1, "Passes over the rankings (paper: 1; more overfits).", low=1)
    batch_size: int = setting(64, "Prompts per optimiser step, each with all its completions (paper: 64).", low=1)
    lr: float = setting(9e-6, "Peak learning rate (paper: 9e-6).", low=0.0, high=1.0)
    lr_floor: float = setting(0.1, "Share of the peak at which the cosine ends (paper: 0.1).", low=0.0, high=1.0)
    batching: str = setting(
        "prompts",
        "prompts: all pairs of a prompt in one batch element (paper). pairs: pairs shuffled apart, for comparison; "
        "a step then holds as many pairs as batch_size prompts do on average.",
        choices=("prompts", "pairs"),
    )
    normalise: str = setting(
        "all_pairs",
        "What a prompt's summed pair losses are divided by. all_pairs: C(K,2), as the paper writes it, so one with "
        "many ties counts less. strict_pairs: pairs left after ties are dropped, so every prompt counts alike.",
        choices=("all_pairs", "strict_pairs"),
    )
    settle_head: bool = setting(
        False,
        "Fit the new head to the rankings with the body at rest before the first step. Not in the paper; a random head "
        "bends the body's features out of shape (Kumar et al. 2022).",
    )
    dropout: float = setting(0.0, "Residual dropout while training (not in the paper; none).", low=0.0, high=0.9)
    max_prompt_tokens: int | None = setting(None, "Longer prompts are dropped; None: half the context.", low=1)
    max_response_tokens: int | None = setting(None, "Longer responses are cut; None: half the context.", low=1)
    micro_batch: int | None = setting(None, "Prompts per forward pass; changes memory, not results.", low=1)
    gradient_checkpointing: bool = setting(
        False, "Keep each layer's input alone and compute the rest again in the backward pass; saves memory, costs time."
    )
    valid_every: int = setting(0, "Steps between validations; 0 validates after each epoch only.", low=0)
    adam_beta1: float = setting(0.9, "Adam's first decay (paper: 0.9).", low=0.0, high=1.0)
    adam_beta2: float = setting(0.95, "Adam's second decay (paper: 0.95).", low=0.0, high=1.0)
    adam_eps: float = setting(1e-8, "Adam's epsilon (not in the paper; torch's default).", low=0.0)
    weight_decay: float = setting(0.0, "Decoupled weight decay (not in the paper; none).", low=0.0)
    max_grad_norm: float | None = setting(1.0, "Gradient norm limit; 0 or None: no limit (not in the paper; 1 as in GPT-3).", low=0.0)
    seed: int = setting(0, "Seed of the head's first weights and of the order of prompts.", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise SettingsError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch {self.micro_batch}; choose a divisor."
            )
