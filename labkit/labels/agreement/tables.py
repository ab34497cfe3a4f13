"""One shape for every statistic: labels of units, and pairs of labels of one unit.

A unit is what two labelers may agree on: an item, one completion's rank, or one comparison of two completions.
Units belong to a cluster, the prompt, which is what the bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from labkit.labels.agreement.records import Card

__all__ = ["Labels", "Pairs", "comparison_labels", "rank_labels", "rating_labels"]


@dataclass(frozen=True)
class Labels:
    """N labels in long form; only units that two labelers saw are kept."""

    unit: np.ndarray  # (N,) int
    cluster: np.ndarray  # (N,) int, the prompt of the unit
    rater: np.ndarray  # (N,) int into raters
    value: np.ndarray  # (N,) int into domain
    domain: np.ndarray  # (V,) ascending values: floats, or strings where categories are not numbers
    raters: tuple[str, ...]
    clusters: int  # prompts or items seen by two labelers

    @property
    def numeric(self) -> bool:
        return self.domain.dtype.kind in "fiu"

    def pairs(self) -> Pairs:
        """All pairs of labels of one unit, each pair of labelers once (rater a before rater b)."""
        order = np.lexsort((self.rater, self.unit))
        starts = np.flatnonzero(np.diff(self.unit[order], prepend=-1))
        sizes = np.diff(np.append(starts, len(order)))
        first, second = [], []
        for size in np.unique(sizes):
            i, j = np.triu_indices(size, 1)
            base = starts[sizes == size][:, None]
            first.append((base + i).ravel())
            second.append((base + j).ravel())
        a, b = (order[np.concatenate(x)] if x else np.zeros(0, int) for x in (first, second))
        return Pairs(self.cluster[a], self.rater[a], self.rater[b], self.value[a], self.value[b], self.clusters)


@dataclass(frozen=True)
class Pairs:
    """E pairs of labels: two labelers, one unit."""

    cluster: np.ndarray  # (E,) int
    rater_a: np.ndarray  # (E,) int
    rater_b: np.ndarray  # (E,) int
    value_a: np.ndarray  # (E,) int
    value_b: np.ndarray  # (E,) int
    clusters: int

    def __len__(self) -> int:
        return len(self.cluster)

    def where(self, mask: np.ndarray) -> Pairs:
        """Only the pairs in `mask`, with clusters renumbered so that empty ones do not enter the bootstrap."""
        kept, cluster = np.unique(self.cluster[mask], return_inverse=True)
        rest = (x[mask] for x in (self.rater_a, self.rater_b, self.value_a, self.value_b))
        return Pairs(cluster, *rest, clusters=len(kept))

    def sums(self, amount: np.ndarray) -> np.ndarray:
        """Sum of `amount` (E,) in each cluster, (clusters,)."""
        return np.bincount(self.cluster, weights=amount.astype(float), minlength=self.clusters)


def rating_labels(ratings: Mapping[tuple[str, str], Mapping[str, float | str]]) -> Labels:
    """Ratings as they are: the unit is (prompt, completion), or the item."""
    rows = [(key[0], key, rater, value) for key, by_rater in ratings.items() for rater, value in by_rater.items()]
    return _labels(rows)


def rank_labels(rankings: Mapping[str, Mapping[Card, Mapping[str, float]]], *, places: bool = False) -> Labels:
    """Ranks of completions as they were given; the unit is (prompt, card, completion).

    places: instead, places among the completions that every labeler of the card has ranked, where tied ones share
    the mean of their places; these do not depend on whether a tie was written 1, 2, 2 or 1, 3, 3.
    """
    rows = []
    for prompt, home in rankings.items():
        for card, by_rater in _cards(home).items():
            shared = set.intersection(*(set(ranks) for ranks in by_rater.values()))
            for rater, ranks in by_rater.items():
                values = _places(ranks, shared) if places else ranks
                rows += [(prompt, (prompt, card, i), rater, value) for i, value in values.items()]
    return _labels(rows)


def _cards(home: Mapping[Card, Mapping[str, float]]) -> dict[object, dict[str, Mapping[str, float]]]:
    """card -> labeler -> ranks: what was ranked together, since a rank among two says nothing of one among five.

    Where every labeler ranked the prompt once it is one card, though some may have ranked a part of it.
    """
    once = len({rater for rater, _ in home}) == len(home)
    cards: dict[object, dict[str, Mapping[str, float]]] = {}
    for (rater, among), ranks in home.items():
        cards.setdefault("" if once else among, {})[rater] = ranks
    return cards


def comparison_labels(rankings: Mapping[str, Mapping[Card, Mapping[str, float]]]) -> Labels:
    """One unit for each two completions of a prompt: -1 the first by id is better, 1 the second, 0 tied.

    A labeler who compared the same two on several cards has one label, the newest.
    """
    found: dict[tuple, tuple] = {}
    for prompt, home in rankings.items():
        for (rater, _), ranks in home.items():
            for i, j in combinations(sorted(ranks), 2):
                found[prompt, i, j, rater] = (prompt, (prompt, i, j), rater, float(np.sign(ranks[i] - ranks[j])))
    return _labels(list(found.values()), domain=(-1.0, 0.0, 1.0))


def _places(ranks: Mapping[str, float], shared: Iterable[str]) -> dict[str, float]:
    from scipy.stats import rankdata

    ids = sorted(shared)
    return dict(zip(ids, rankdata([ranks[i] for i in ids]), strict=True)) if ids else {}


def _labels(rows: list[tuple], domain: tuple[float, ...] = ()) -> Labels:
    seen: dict[object, int] = {}
    for _, unit, _, _ in rows:
        seen[unit] = seen.get(unit, 0) + 1
    rows = [row for row in rows if seen[row[1]] > 1]
    values = sorted({row[3] for row in rows} | set(domain), key=lambda v: (isinstance(v, str), v))
    if any(isinstance(v, str) for v in values):
        values = sorted({str(v) for v in values})
        rows = [(*row[:3], str(row[3])) for row in rows]
    raters = {rater: n for n, rater in enumerate(sorted({row[2] for row in rows}))}
    clusters = _codes(row[0] for row in rows)
    return Labels(
        unit=np.array(_codes(row[1] for row in rows), int),
        cluster=np.array(clusters, int),
        rater=np.array([raters[row[2]] for row in rows], int),
        value=np.searchsorted(np.array(values), [row[3] for row in rows]) if rows else np.zeros(0, int),
        domain=np.array(values),
        raters=tuple(raters),
        clusters=len(set(clusters)),
    )


def _codes(keys: Iterable[object]) -> list[int]:
    codes: dict[object, int] = {}
    return [codes.setdefault(key, len(codes)) for key in keys]
