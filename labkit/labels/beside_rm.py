"""A reward model beside a labeler: how unsure it is of the order of a card, and how far it contradicts what was ranked.

Both are functions of its scores alone. P(a beats b) is sigmoid(score of a - score of b), as its loss has it (paper,
equation 1), so a card is uncertain where its answers lie close together in the eyes of this one model. What the model
does not know that it does not know stays hidden from it: hence the random share of `LabelSession`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from labkit.errors import DataError
from labkit.labels.reports import labels_of
from labkit.types import Ranking

if TYPE_CHECKING:
    from labkit.labels.intervals import Figure

__all__ = ["Contradiction", "beside_labeler", "contradiction", "uncertainty"]

ByRanking = Callable[[Ranking], Mapping[str, float]]


def uncertainty(scores: Sequence[float]) -> float:
    """Mean entropy, in bits, of who wins, over all pairs of a card's completions: 1 is a coin for each pair, 0 is sure.

    scores: the reward model's, one per completion; at least two.
    """
    if len(scores) < 2:
        raise DataError(f"A card with {len(scores)} completion(s) has no order to be unsure of; give at least two scores.")
    pairs = [_entropy(abs(a - b)) for a, b in combinations(scores, 2)]
    return min(sum(pairs) / len(pairs), 1.0)  # rounding may leave a coin a hair above one bit


def _entropy(gap: float) -> float:
    """Entropy of a coin that falls on one side with probability sigmoid(gap), gap >= 0, in bits."""
    rare = math.exp(-gap)  # odds of the other side
    return (math.log1p(rare) + gap * rare / (1 + rare)) / math.log(2)


def beside_labeler(ranking: Ranking, scores: Mapping[str, float]) -> str:
    """One sentence on a card that was just stored: on how many of its strict pairs the reward model says the opposite."""
    pairs, against = ranking.pairs(), _against(ranking, scores)
    if not pairs:
        return "Nothing in this ranking is preferred to anything, so the reward model has nothing to say beside it."
    if not against:
        return f"The reward model orders {_all(len(pairs), 'strict pair')} as you did."
    name = labels_of(ranking)
    gap, preferred, other = max((scores[b] - scores[a], a, b) for a, b in against)
    furthest = f"furthest {name[other]}, which it scores {gap:.2f} above {name[preferred]}"
    return f"The reward model orders {len(against)} of {len(pairs)} strict pairs the other way: {furthest}."


@dataclass(frozen=True)
class Contradiction:
    """How often a reward model orders a labeler's strict pairs the other way, and by how much of its score."""

    share: Figure  # resampled by card
    margin: float | None  # mean score difference on these pairs; None where there are none
    sentence: str


def contradiction(rankings: Iterable[Ranking], scores: ByRanking, *, seed: int = 0) -> Contradiction:
    """Over all strict pairs of these rankings; `scores` gives the reward model's score by completion id."""
    import numpy as np

    from labkit.labels.intervals import bootstrap

    strict = [r for r in rankings if r.pairs()]
    gaps = [[own[b] - own[a] for a, b in r.pairs() if own[b] > own[a]] for r in strict for own in [scores(r)]]
    against = np.array([len(g) for g in gaps], float)  # (cards,)
    pairs = np.array([len(r.pairs()) for r in strict], float)
    figure = bootstrap(lambda w: (w @ against) / (w @ pairs), len(strict), n=int(pairs.sum()), unit="card", seed=seed)
    flat = [gap for of_card in gaps for gap in of_card]
    margin = sum(flat) / len(flat) if flat else None
    return Contradiction(figure, margin, _sentence(figure, margin, len(strict)))


def _sentence(figure: Figure, margin: float | None, cards: int) -> str:
    if figure.value is None:
        return "no strict pair yet"
    told = f"{100 * figure.value:.0f} % of {figure.n} strict pairs on {cards} card{'' if cards == 1 else 's'} the other way"
    bounds = "" if figure.low is None else f" (95 % interval {100 * figure.low:.0f} % to {100 * figure.high:.0f} %)"
    by = "" if margin is None else f", by {margin:.2f} of its score on average"
    return f"{told}{bounds}{by}. {figure.note}".strip()


def _against(ranking: Ranking, scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The (preferred, other) pairs whose other one has the higher score."""
    return [(a, b) for a, b in ranking.pairs() if scores[b] > scores[a]]


def _all(count: int, what: str) -> str:
    return f"the one {what}" if count == 1 else f"all {count} {what}s"
