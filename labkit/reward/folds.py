"""Does a reward model serve people whose rankings it never saw? Cross-validation by labeler group (section 4.1).

Labelers are split into five groups; a model learns from four and is judged on the fifth and, for comparison, on
held-out prompts of its own labelers. In the paper: 69.6 ± 0.9 % on the held-out group, 72.4 ± 0.4 % on its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.errors import DataError
from labkit.seeds import derive_seed
from labkit.types import Ranking

__all__ = ["Fold", "labeler_folds"]


@dataclass(frozen=True)
class Fold:
    """One part of the cross-validation; no prompt of `train` is in `own` or `held_out`."""

    labelers: tuple[str, ...]  # the held-out group
    train: list[Ranking]  # the other groups, training prompts
    own: list[Ranking]  # the other groups, held-out prompts
    held_out: list[Ranking]  # the held-out group, held-out prompts


def labeler_folds(
    rankings: Sequence[Ranking], *, groups: int = 5, valid_share: float = 0.2, seed: int = 0
) -> list[Fold]:
    """Split labelers into `groups` and prompts into training and held-out ones; one Fold per group."""
    labelers = sorted({r.labeler for r in rankings})
    if len(labelers) < groups:
        raise DataError(
            f"Rankings by {len(labelers)} labeler(s) cannot be split into {groups} groups; "
            "collect from more labelers, or lower groups."
        )
    prompts = sorted({r.prompt.id for r in rankings})
    rng = random.Random(derive_seed(seed, "labeler_folds"))
    rng.shuffle(labelers)
    rng.shuffle(prompts)
    held = set(prompts[: max(1, round(len(prompts) * valid_share))])
    return [_fold(rankings, tuple(sorted(labelers[i::groups])), held) for i in range(groups)]


def _fold(rankings: Sequence[Ranking], out: tuple[str, ...], held: set[str]) -> Fold:
    inside = [r for r in rankings if r.labeler not in out]
    return Fold(
        labelers=out,
        train=[r for r in inside if r.prompt.id not in held],
        own=[r for r in inside if r.prompt.id in held],
        held_out=[r for r in rankings if r.labeler in out and r.prompt.id in held],
    )
