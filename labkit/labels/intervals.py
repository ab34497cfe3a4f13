"""Figures with intervals: the cluster bootstrap that agreement, position bias and Bradley-Terry scores share.

What belongs together (all judgments of one prompt) is drawn together: the resampled unit is the prompt, or the item,
never the single judgment, because judgments of one prompt are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["FEW", "LEVEL", "NO_WIDTH", "REPLICATES", "Figure", "bootstrap", "percentiles", "resamples"]

LEVEL = 0.95  # of every interval
REPLICATES = 1000
FEW = 20  # with fewer prompts than this a bootstrap interval is too narrow to be trusted
NO_WIDTH = "Every resample gives the same value: the interval has no width, which does not mean certainty."
_BLOCK = 100  # replicates held in memory at once


@dataclass(frozen=True)
class Figure:
    """One statistic: its value and interval, how many cases and clusters it rests on, a caution if there is one."""

    value: float | None
    low: float | None
    high: float | None
    n: int  # cases counted (pairs of labels, comparisons, rankings: as the statistic says)
    clusters: int  # prompts or items that contribute
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def resamples(clusters: int, *, replicates: int = REPLICATES, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield blocks of bootstrap weights, (block, clusters): how often each cluster was drawn in each replicate."""
    rng = np.random.default_rng(seed)
    for start in range(0, replicates, _BLOCK):
        size = min(_BLOCK, replicates - start)
        yield rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=size).astype(float)


def percentiles(values: np.ndarray, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The percentile interval of replicates; undefined replicates (nan) are left out, (None, None) if too many are."""
    values = values[np.isfinite(values)]
    if len(values) < 20:
        return None, None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap(
    estimate: Callable[[np.ndarray], np.ndarray],
    clusters: int,
    *,
    n: int,
    unit: str = "prompt",
    replicates: int = REPLICATES,
    seed: int = 0,
    used: int | None = None,
) -> Figure:
    """A Figure for `estimate`, which maps weights (R, clusters) to values (R,), nan where undefined.

    used: how many of the clusters carry any information (for example were seen by two labelers); default all.
    """
    used = clusters if used is None else used
    if not n or not used:
        return Figure(None, None, None, 0, used, f"No {unit} was judged by two labelers: there is nothing to compare.")
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(estimate(np.ones((1, clusters)))[0])
        if not np.isfinite(value):
            return Figure(None, None, None, n, used, "Not defined here: without variation there is no chance level.")
        if used < 2:
            return Figure(value, None, None, n, used, f"One {unit} only: too few to say; no interval can be given.")
        draws = np.concatenate([estimate(w) for w in resamples(clusters, replicates=replicates, seed=seed)])
    low, high = percentiles(draws)
    return Figure(value, low, high, n, used, _caution(used, low, high, unit))


def _caution(used: int, low: float | None, high: float | None, unit: str) -> str:
    if used < FEW:
        return f"Only {used} {unit}s: too few to say; the interval is too narrow to be trusted below {FEW}."
    if low is not None and low == high:
        return NO_WIDTH
    return ""
