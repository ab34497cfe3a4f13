"""Promises that centring must keep; each breach is an InvariantError that says what it means and its usual causes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from labkit.errors import InvariantError
from labkit.models.tolerance import allowed_gap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from labkit.reward.data import Ranked

__all__ = ["FEW", "check_centred", "check_finite_states", "check_saved", "check_settled"]

FEW = 64  # demonstrations that are scored once more: milliseconds, and no bias that is lost moves only some of them


def check_finite_states(states: torch.Tensor, rows: Sequence[Ranked]) -> None:
    """The body's states at the ends of the completions must be finite numbers. states: (N, d), ranking after ranking."""
    bad = (~states.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        owners = [row.prompt_id for row in rows for _ in row.responses]
        raise InvariantError(
            f"The model that the reward model starts from reads {len(bad)} of {len(states)} completions (first one to prompt {owners[bad[0]]!r}) "
            "as numbers that are not finite, so nothing can be learnt from them. Usual causes: damaged weights in its folder, "
            "or half precision that overflows; load it anew, or use another base."
        )


def check_settled(numbers: torch.Tensor) -> None:
    """The standardised states that the new head is settled on, and the weights that come of it, must be finite numbers."""
    if not numbers.isfinite().all():
        raise InvariantError(
            "Settling the new head meets numbers that are not finite. The usual cause: states of the base that are too large to "
            "square; use another base, or settle_head=False."
        )


def check_centred(scores: torch.Tensor, due: torch.Tensor, shift: float, dtype: torch.dtype) -> None:
    """Once the bias has moved by `shift`, demonstrations must score what they did before, moved by as much: 0 on average.

    scores: (n,) of some of the demonstrations, scored again. due: (n,) what they scored before, plus `shift`.
    """
    if not _same(scores, due, dtype, size=abs(shift)):
        raise InvariantError(
            f"After centring the demonstrations score {float((scores - due).mean()):+.3g} on average, where 0 is due. Usual causes: "
            "the score is not read through the head whose bias was moved, dropout is on, or a text is scored by another path "
            "(position, padding, end token) than when the mean was taken."
        )


def check_saved(scores: torch.Tensor, due: torch.Tensor, folder: Path, dtype: torch.dtype) -> None:
    """The saved and reloaded model must score demonstrations as the one that was centred does.

    scores: (n,) by the reloaded model. due: (n,) by the model in memory, whose demonstrations score 0 on average.
    """
    if not _same(scores, due, dtype):
        raise InvariantError(
            f"Reloaded from {folder} the reward model scores the demonstrations {float((scores - due).mean()):+.3g} higher on average "
            "than the model that was saved, where 0 is due; whoever loads it would train on other scores. Usual causes: a head "
            "that is saved without its bias, weights saved before they were centred, or a class that does not load all of them."
        )


def _same(scores: torch.Tensor, due: torch.Tensor, dtype: torch.dtype, size: float = 0.0) -> bool:
    """Whether each score is what is due, to rounding; one that is no number is not."""
    return bool((scores - due).abs().max() <= allowed_gap(due, dtype, size))
