"""Where a reward model contradicts a labeler most: the cards worth a second look.

The measure is the RM's own loss on the ranking (paper, equation 1): the mean over the ranking's pairs of
-log sigmoid(score of the preferred - score of the other). 0.69 is a coin, more is disagreement. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from labkit.errors import DataError
from labkit.types import Ranking

__all__ = ["disagreement", "worst_first"]


def disagreement(ranking: Ranking, scores: Mapping[str, float]) -> float:
    """Mean loss of the RM over the pairs of `ranking`, given its scores by completion id; 0 without pairs."""
    missing = [i for i in ranking.ranks if i not in scores]
    if missing:
        raise DataError(
            f"No score for completion {missing[0]!r} of prompt {ranking.prompt.id!r}; score every completion."
        )
    losses = [_softplus(scores[other] - scores[preferred]) for preferred, other in ranking.pairs()]
    return sum(losses) / len(losses) if losses else 0.0


def worst_first(rankings: Iterable[Ranking], scores: Callable[[Ranking], Mapping[str, float]]) -> list[Ranking]:
    """The rankings that have pairs, the most contradicted first; `scores` gives the RM's score by completion id."""
    weighed = [(disagreement(ranking, scores(ranking)), ranking) for ranking in rankings if ranking.pairs()]
    return [ranking for _, ranking in sorted(weighed, key=lambda pair: -pair[0])]


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
