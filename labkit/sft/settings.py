"""What supervised fine-tuning is told once; defaults are the paper's 1.3B numbers, presets scale them down."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import SettingsError
from labkit.settings import Settings, setting

__all__ = ["SFTSettings", "init_settings"]


@dataclass(frozen=True)
class SFTSettings(Settings):
    """Settings of SFT and of the PPO init model."""

    epochs: int = setting(16, "Passes over the demonstrations (paper: 16).", low=1)
    batch_size: int = setting(32, "Examples per optimiser step (paper: 32).", low=1)
    lr: float = setting(9.65e-6, "Peak learning rate (paper: 9.65e-6 for 1.3B).", low=0.0, high=1.0)
    lr_floor: float = setting(0.1, "Share of the peak at which the cosine ends (paper: 0.1).", low=0.0, high=1.0)
    dropout: float = setting(0.2, "Residual dropout while training (paper: 0.2 in SFT).", low=0.0, high=0.9)
    choose_by: str = setting(
        "rm_score",
        "What chooses the final epoch: rm_score (paper; valid_loss where there is no RM), valid_loss, or last.",
        choices=("rm_score", "valid_loss", "last"),
    )
    pretrain_share: float = setting(
        0.0, "Share of the training examples that are pretraining text (paper: 0.1 in the PPO init).", low=0.0, high=0.9
    )
    pretrain_tokens: int = setting(64, "Tokens of one pretraining example (not in the paper).", low=2)
    max_prompt_tokens: int | None = setting(None, "Longer prompts are dropped; None: half the context.", low=1)
    max_response_tokens: int | None = setting(None, "Longer responses are cut; None: half the context.", low=1)
    valid_samples: int = setting(64, "Validation prompts whose samples the RM scores after each epoch.", low=1)
    valid_response_tokens: int = setting(32, "Length limit of those samples, in tokens.", low=1)
    micro_batch: int | None = setting(None, "Examples per forward pass; changes memory, not results.", low=1)
    gradient_checkpointing: bool = setting(
        False, "Keep each layer's input alone and compute the rest again in the backward pass; saves memory, costs time."
    )
    adam_beta1: float = setting(0.9, "Adam's first decay (paper: 0.9).", low=0.0, high=1.0)
    adam_beta2: float = setting(0.95, "Adam's second decay (paper: 0.95).", low=0.0, high=1.0)
    adam_eps: float = setting(1e-8, "Adam's epsilon (not in the paper; torch's default).", low=0.0)
    weight_decay: float = setting(0.0, "Decoupled weight decay (not in the paper; none).", low=0.0)
    max_grad_norm: float | None = setting(1.0, "Gradient norm limit; 0 or None: no limit (not in the paper; 1 as in GPT-3).", low=0.0)
    seed: int = setting(0, "Seed of the order of examples, of dropout and of validation samples.", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise SettingsError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch {self.micro_batch}; choose a divisor."
            )


def init_settings(**changes: object) -> SFTSettings:
    """Settings of the PPO init model: 2 epochs with 10 % pretraining mix (appendix C.3), the last epoch kept."""
    return SFTSettings(epochs=2, lr=5e-6, pretrain_share=0.1, choose_by="last").but(**changes)
