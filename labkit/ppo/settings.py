"""What PPO is told once: sizes, seed, reductions. What may bend while it runs are the knobs (`labkit.knobs.PPOKnobs`)."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import SettingsError
from labkit.settings import Settings, setting

__all__ = ["PPOSettings"]


@dataclass(frozen=True)
class PPOSettings(Settings):
    """Settings of PPO and PPO-ptx; "not in the paper" marks values for which Ouyang et al. 2022 give no number."""

    steps: int = setting(30, "Iterations, each with a fresh batch of episodes (paper: 500).", low=1)
    batch: int = setting(128, "Episodes per iteration (paper: 512).", low=1)
    minibatch: int = setting(
        32, "Episodes per optimiser step; batch / minibatch steps an iteration (paper: 64).", low=1
    )
    inner_epochs: int = setting(1, "Passes over each batch (paper: 1).", low=1)
    max_new_tokens: int = setting(32, "Length limit of a response in tokens (paper: 1,000).", low=1)
    warmup: int = setting(
        10, "Iterations over which both learning rates rise from a tenth of their knob (paper: 10).", low=0
    )
    ema_decay: float = setting(
        0.992,
        "Decay of the average of the policy's weights, which is the result (paper: 0.992).",
        low=0.0,
        high=0.99999,
    )
    ema_per: str = setting(
        "minibatch",
        "How often the average moves. Not in the paper; per optimiser step here, because after a few dozen iterations an average "
        "per iteration would still be mostly the initial model.",
        choices=("minibatch", "iteration"),
    )
    ptx_per_episode: int = setting(8, "Pretraining examples per episode (paper: 8).", low=1)
    ptx_tokens: int = setting(16, "Tokens that count as one pretraining example, of a packed row that is read whole. Not in the paper.", low=1)
    ptx_row: int = setting(
        128, "Tokens of one packed pretraining row, several examples end to end. Not in the paper.", low=2
    )
    missing_end_penalty: float = setting(
        1.0,
        "Subtracted from the score of a response without end token. Not in the paper; a fixed bad reward by lineage.",
        low=0.0,
    )
    adam_beta1: float = setting(0.9, "Adam's first decay (paper: 0.9).", low=0.0, high=1.0)
    adam_beta2: float = setting(0.95, "Adam's second decay (paper: 0.95).", low=0.0, high=1.0)
    adam_eps: float = setting(1e-8, "Adam's epsilon (not in the paper; torch's default).", low=0.0)
    weight_decay: float = setting(0.0, "Decoupled weight decay (not in the paper; none).", low=0.0)
    max_grad_norm: float | None = setting(
        1.0, "Gradient norm limit of either model; 0 or None: no limit (not in the paper; 1, as in GPT-3).", low=0.0
    )
    whiten_advantages: bool = setting(True, "Mean 0, variance 1 over the batch's tokens. Not in the paper; by lineage.")
    whiten_rewards: bool = setting(False, "Scale rewards to variance 1, mean kept. Not in the paper; off.")
    recompute_logprobs: bool | None = setting(
        None,
        "Score the old policy again instead of trusting what was recorded while sampling; None: where passes are not fp32.",
    )
    gradient_checkpointing: bool = setting(
        False, "Keep each layer's input alone and compute the rest again in the backward pass; saves memory, costs time."
    )
    lora_rank: int = setting(
        0,
        "Rank of the adapters that are trained in place of the policy's weights (Hu et al. 2021); 0 trains the weights, as the "
        "paper does. The reference of the KL penalty is then the same weights with the adapters off.",
        low=0,
    )
    lora_alpha: float = setting(16.0, "Scale of the adapters: their output is multiplied by lora_alpha / lora_rank.", low=0.0)
    lora_targets: str = setting(
        "all-linear", "Which layers get adapters: all-linear (all but the head), or names with commas, such as q_proj,v_proj."
    )
    exact_kl: bool = setting(False, "Also measure KL summed over the whole vocabulary, at the cost of two passes.")
    score_tokens: int = setting(16384, "Tokens per scoring batch; changes memory and speed, not results.", low=1)
    micro_tokens: int = setting(
        8192,
        "Tokens per backward pass; changes memory and speed, not results. On CUDA recorded passes are padded by up to a quarter.",
        low=1,
    )
    samples: int = setting(8, "Episodes of each batch kept in its Step.", low=0)
    seed: int = setting(0, "Seed of prompt order, sampling and pretraining rows.", low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch % self.minibatch:
            raise SettingsError(
                f"batch is {self.batch} and minibatch {self.minibatch}; batch must be a whole number of minibatches."
            )
        if (self.minibatch * self.ptx_per_episode * self.ptx_tokens) % self.ptx_row:
            raise SettingsError(
                f"minibatch x ptx_per_episode x ptx_tokens is {self.minibatch * self.ptx_per_episode * self.ptx_tokens} tokens, "
                f"which do not fill whole rows of ptx_row = {self.ptx_row}; change one of them."
            )

    @property
    def ptx_rows(self) -> int:
        """Packed pretraining rows per minibatch."""
        return self.minibatch * self.ptx_per_episode * self.ptx_tokens // self.ptx_row

    def warmup_factor(self, step: int) -> float:
        """Factor on the learning rates in iteration `step` (1 is the first): a tenth, rising to 1 over `warmup` iterations."""
        return min(1.0, 0.1 + 0.9 * (step - 1) / self.warmup) if self.warmup else 1.0
