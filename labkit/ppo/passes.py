"""What one backward pass reads and does: of episodes (policy and value model), and of pretraining rows (policy).

Neither reads anything back from the device, so that CUDA can record and replay them (`graphed.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from labkit import rl
from labkit.models import packed_logits
from labkit.models.packed import PackedRows, end_to_end
from labkit.models.scoring import response_positions

if TYPE_CHECKING:
    from labkit.knobs import PPOKnobs
    from labkit.ppo.rollout import Rollout
    from labkit.ppo.state import State

__all__ = ["TALLIED", "Episodes", "episodes_backward", "pretraining_backward"]

TALLIED = ("policy_loss", "value_loss", "ratio_mean", "clip_fraction", "approx_kl", "entropy")  # sums over tokens


@dataclass(frozen=True)
class Episodes:
    """Episodes as a backward pass reads them: T packed tokens of prompts and responses, of which N are predicted."""

    rows: PackedRows
    keep: torch.Tensor  # (N,) the place before each response token
    targets: torch.Tensor  # (N,) the response tokens
    old: torch.Tensor  # (N,) their log-probabilities under π_old
    advantages: torch.Tensor  # (N,)
    old_values: torch.Tensor  # (N,)
    returns: torch.Tensor  # (N,)
    weights: torch.Tensor | None = None  # (N,) 1 on tokens, 0 on padding; None: there is none

    def __len__(self) -> int:
        return len(self.targets)

    @classmethod
    def of(cls, rollout: Rollout, batch: list[int], device: torch.device) -> Episodes:
        prompts, responses = [rollout.prompt_ids[i] for i in batch], [rollout.response_ids[i] for i in batch]
        mask = rollout.mask[batch]
        grids = rollout.logprobs, rollout.advantages, rollout.values, rollout.returns
        return cls(
            PackedRows.of([[*p, *r] for p, r in zip(prompts, responses, strict=True)], device),
            response_positions(prompts, responses, device),
            end_to_end(responses, device),
            *(grid[batch][mask].to(device) for grid in grids),
        )


def episodes_backward(
    state: State, episodes: Episodes, knobs: PPOKnobs | SimpleNamespace, scale: float | torch.Tensor, *, watch: bool
) -> dict[str, torch.Tensor]:
    """Add the gradients of both losses; returns sums over the N tokens.

    watch: also the largest |log ratio| and the largest distance between two logits of a token.
    """
    with state.forward_precision():
        logits = packed_logits(state.policy, episodes.rows, keep=episodes.keep).float() / knobs.temperature  # (N, V)
        values = packed_logits(state.value, episodes.rows, keep=episodes.keep).float()  # (N,)
    everything = logits.log_softmax(-1)  # (N, V)
    logprobs = everything.gather(1, episodes.targets[:, None]).squeeze(1)
    policy_losses, ratio, clipped = rl.policy_loss(logprobs, episodes.old, episodes.advantages, knobs.clip)
    value_losses = rl.value_loss(values, episodes.old_values, episodes.returns, knobs.value_clip)
    real = episodes.weights

    def total(x: torch.Tensor) -> torch.Tensor:
        return x.sum() if real is None else (x * real).sum()

    state.accelerator.backward(total(policy_losses) * scale)
    state.accelerator.backward(total(value_losses) * scale)
    with torch.no_grad():
        entropy = -(everything.exp() * everything).sum(-1)
        k3 = rl.kl_estimates(episodes.old, logprobs)[2]
        values_of = policy_losses, value_losses, ratio, clipped, k3, entropy
        sums = {name: total(x.detach()) for name, x in zip(TALLIED, values_of, strict=True)}
        sums["ratio_max"] = (ratio if real is None else ratio * real).detach().max()
        if watch:
            gaps = (logprobs - episodes.old).abs()
            sums["gap"] = (gaps if real is None else gaps * real).max()
            sums["spread"] = (logits.amax(-1) - logits.amin(-1)).max()
    return sums


def pretraining_backward(
    state: State, rows: PackedRows, targets: torch.Tensor, keep: torch.Tensor, factor: float | torch.Tensor | None
) -> torch.Tensor:
    """Add `factor` times the gradient of the summed loss, unless it is None; returns that sum."""
    with state.forward_precision():
        logits = packed_logits(state.policy, rows, keep=keep).float()  # (n(L - 1), V)
    loss = F.cross_entropy(logits, targets.flatten(), reduction="sum")
    if factor is not None:
        state.accelerator.backward(loss * factor)
    return loss.detach()
