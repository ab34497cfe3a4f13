"""The statistics, each as a Figure whose interval comes from resampling prompts (or items).

Every estimator is written on weights (R, clusters), how often each prompt was drawn, so that one line serves the
value itself and all its replicates. Sources: Kendall 1945 (tau-b), Cohen 1960, Fleiss 1971, Krippendorff 2011.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from labkit.labels.agreement.tables import Labels, Pairs
from labkit.labels.intervals import REPLICATES, Figure, bootstrap

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = [
    "alpha",
    "cohen_kappa",
    "fleiss_kappa",
    "kendall_tau",
    "mirrored",
    "share_equal",
    "share_half",
    "share_strict",
]

_DENSE = 5e7  # largest units x values² for which the krippendorff package's own table fits comfortably


def _ratio(pairs: Pairs, num: np.ndarray, den: np.ndarray, n: int, **how: object) -> Figure:
    """The figure Σ num / Σ den, both (E,) summed by prompt."""
    top, bottom = pairs.sums(num), pairs.sums(den)
    return bootstrap(lambda w: (w @ top) / (w @ bottom), pairs.clusters, n=n, used=int((bottom > 0).sum()), **how)


def share_strict(pairs: Pairs, **how: object) -> Figure:
    """Comparisons (-1, 0, 1 as codes 0, 1, 2): of those strict for both labelers, the share ordered the same way."""
    strict = (pairs.value_a != 1) & (pairs.value_b != 1)
    return _ratio(pairs, strict & (pairs.value_a == pairs.value_b), strict, int(strict.sum()), **how)


def share_equal(pairs: Pairs, **how: object) -> Figure:
    """The share of pairs of labels that are equal; for comparisons a tie agrees with a tie only."""
    return _ratio(pairs, pairs.value_a == pairs.value_b, np.ones(len(pairs)), len(pairs), **how)


def share_half(pairs: Pairs, **how: object) -> Figure:
    """Comparisons: as `share_equal`, but a tie against an order counts one half."""
    credit = 1 - np.abs(pairs.value_a - pairs.value_b) / 2
    return _ratio(pairs, credit, np.ones(len(pairs)), len(pairs), **how)


def kendall_tau(pairs: Pairs, **how: object) -> Figure:
    """Mean Kendall tau-b over (prompt, two labelers); rankings in which a labeler ties everything have none."""
    a, b = pairs.value_a - 1, pairs.value_b - 1
    keys = np.stack([pairs.cluster, pairs.rater_a, pairs.rater_b])
    _, start, group = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    count = lambda x: np.bincount(group.ravel(), weights=x.astype(float))  # noqa: E731
    untied = count(a != 0) * count(b != 0)
    defined = untied > 0
    tau = count(a * b)[defined] / np.sqrt(untied[defined])
    cluster = pairs.cluster[start][defined]
    top = np.bincount(cluster, weights=tau, minlength=pairs.clusters)
    bottom = np.bincount(cluster, minlength=pairs.clusters).astype(float)
    used = int((bottom > 0).sum())
    return bootstrap(lambda w: (w @ top) / (w @ bottom), pairs.clusters, n=len(tau), used=used, **how)


def mirrored(labels: Labels) -> Labels:
    """Comparisons in both directions, so that chance-corrected figures do not depend on which id comes first."""
    n = labels.unit.max(initial=-1) + 1
    twice = lambda x: np.concatenate([x, x])  # noqa: E731
    return Labels(
        unit=np.concatenate([labels.unit, labels.unit + n]),
        cluster=twice(labels.cluster),
        rater=twice(labels.rater),
        value=np.concatenate([labels.value, len(labels.domain) - 1 - labels.value]),
        domain=labels.domain,
        raters=labels.raters,
        clusters=labels.clusters,
    )


def cohen_kappa(pairs: Pairs, values: int, *, n: int | None = None, **how: object) -> Figure:
    """Cohen's kappa of the two labelers in `pairs` (unweighted), over `values` categories."""
    equal, total = pairs.sums(pairs.value_a == pairs.value_b), pairs.sums(np.ones(len(pairs)))
    first, second = (_counts(pairs.cluster, v, pairs.clusters, values) for v in (pairs.value_a, pairs.value_b))

    def estimate(w: np.ndarray) -> np.ndarray:
        size = w @ total
        chance = ((w @ first) * (w @ second)).sum(axis=1) / size**2
        return ((w @ equal) / size - chance) / (1 - chance)

    return bootstrap(estimate, pairs.clusters, n=len(pairs) if n is None else n, **how)


def fleiss_kappa(labels: Labels, *, n: int | None = None, **how: object) -> Figure:
    """Fleiss' kappa, where every unit has the same number of labels; elsewhere a Figure without value that says so."""
    sizes = np.bincount(labels.unit)
    units = len(sizes)
    if units and sizes.min() != sizes.max():
        note = f"Needs the same number of labelers on every unit (here {sizes.min()} to {sizes.max()}); see alpha."
        return Figure(None, None, None, units if n is None else n, labels.clusters, note)
    pairs, m = labels.pairs(), (int(sizes[0]) if units else 0)
    equal = pairs.sums(pairs.value_a == pairs.value_b)
    possible = pairs.sums(np.ones(len(pairs)))
    counts = _counts(labels.cluster, labels.value, labels.clusters, len(labels.domain))

    def estimate(w: np.ndarray) -> np.ndarray:
        shares = (w @ counts) / (m * (w @ possible)[:, None] / (m * (m - 1) / 2))
        chance = (shares**2).sum(axis=1)
        return ((w @ equal) / (w @ possible) - chance) / (1 - chance)

    return bootstrap(estimate, labels.clusters, n=units if n is None else n, **how)


def alpha(labels: Labels, level: str, *, replicates: int = REPLICATES, **how: object) -> Figure:
    """Krippendorff's alpha at the `level` nominal, ordinal or interval.

    The value is the `krippendorff` package's (our own formula only where its table would not fit into memory);
    the replicates use the same formula on weights, because the package takes none.
    """
    units = int(labels.unit.max(initial=-1)) + 1
    if level != "nominal" and not labels.numeric:
        return Figure(
            None, None, None, units, labels.clusters, f"The values are categories; {level} alpha needs numbers."
        )
    figure = bootstrap(alpha_on_weights(labels, level), labels.clusters, n=units, replicates=replicates, **how)
    if figure.value is None or units * len(labels.domain) ** 2 > _DENSE:
        return figure
    import krippendorff

    counts = np.zeros((units, len(labels.domain)), int)
    np.add.at(counts, (labels.unit, labels.value), 1)
    domain = labels.domain if labels.numeric else np.arange(len(labels.domain))
    value = krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=level)
    return Figure(float(value), figure.low, figure.high, figure.n, figure.clusters, figure.note)


def alpha_on_weights(labels: Labels, level: str) -> Callable[[np.ndarray], np.ndarray]:
    """Alpha as a function of prompt weights: 1 - observed / expected disagreement.

    Ordinal distance is interval distance between the middle ranks of the pooled values, which depend on the weights.
    """
    pairs = labels.pairs()
    share = 2 / (np.bincount(labels.unit)[_unit_of_pairs(labels)] - 1)  # both directions of a pair, over m - 1
    counts = _counts(labels.cluster, labels.value, labels.clusters, len(labels.domain))
    by_cell, cells = _by_cell(pairs, share, len(labels.domain))

    def estimate(w: np.ndarray) -> np.ndarray:
        pooled = np.asarray(w @ counts)  # (R, V)
        total = pooled.sum(axis=1)
        amount = np.asarray(w @ by_cell)  # (R, cells)
        if level == "nominal":
            observed = amount[:, cells[0] != cells[1]].sum(axis=1)
            expected = total**2 - (pooled**2).sum(axis=1)
        else:
            place = np.cumsum(pooled, axis=1) - pooled / 2 if level == "ordinal" else np.asarray(labels.domain)[None, :]
            place = np.broadcast_to(place - place.mean(axis=1, keepdims=True), pooled.shape)
            observed = (amount * (place[:, cells[0]] - place[:, cells[1]]) ** 2).sum(axis=1)
            expected = 2 * (total * (pooled * place**2).sum(axis=1) - (pooled * place).sum(axis=1) ** 2)
        return 1 - (total - 1) * observed / np.where(expected > 0, expected, np.nan)

    return estimate


def _unit_of_pairs(labels: Labels) -> np.ndarray:
    """Unit of each row of `labels.pairs()`, by laying the unit numbers where the values are."""
    carried = Labels(
        labels.unit, labels.cluster, labels.rater, labels.unit, labels.domain, labels.raters, labels.clusters
    )
    return carried.pairs().value_a


def _by_cell(pairs: Pairs, amount: np.ndarray, values: int) -> tuple[csr_array, tuple[np.ndarray, ...]]:
    """`amount` (E,) summed into (clusters, cells); a cell is an unordered pair of values, returned as two indices."""
    from scipy.sparse import csr_array

    low, high = np.minimum(pairs.value_a, pairs.value_b), np.maximum(pairs.value_a, pairs.value_b)
    kept, cell = np.unique(low * values + high, return_inverse=True)
    matrix = csr_array((amount, (pairs.cluster, cell.ravel())), shape=(pairs.clusters, max(len(kept), 1)))
    return matrix, (kept // values, kept % values)


def _counts(cluster: np.ndarray, value: np.ndarray, clusters: int, values: int) -> csr_array:
    """How often each value occurs in each cluster, (clusters, values), sparse."""
    from scipy.sparse import csr_array

    return csr_array((np.ones(len(value)), (cluster, value)), shape=(clusters, max(values, 1)))
