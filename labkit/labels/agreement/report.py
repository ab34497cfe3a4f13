"""The agreement report: all figures of a set of rankings or ratings, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labkit.disk import paths_of
from labkit.errors import DataError
from labkit.labels.agreement import shown
from labkit.labels.agreement import statistics as stats
from labkit.labels.agreement.records import Records, read_records, records_of
from labkit.labels.agreement.tables import Labels, Pairs, comparison_labels, rank_labels, rating_labels
from labkit.labels.intervals import LEVEL, REPLICATES, Figure
from labkit.labels.remarks import put_aside_sentence
from labkit.types import Ranking

__all__ = ["Agreement", "Section", "agreement", "agreement_of_files", "agreement_of_records"]

DEFINITIONS = {
    "agreement_strict": "comparisons that both labelers rank strictly: share ordered the same way",
    "agreement_all": "all comparisons: a tie agrees with a tie only",
    "agreement_half": "all comparisons: a tie against an order counts one half",
    "agreement": "pairs of ratings of one item: share that are equal",
    "kendall_tau_b": "mean over prompts and pairs of labelers; undefined where one of them ties everything",
    "alpha_nominal": "Krippendorff's alpha of the ratings, or of the ranks as given, with the nominal distance",
    "alpha_ordinal": "the same with the ordinal distance",
    "alpha_interval": "the same with the interval distance",
    "alpha_ordinal_places": "ordinal alpha of places: tied completions share the mean place, however ties were written",
    "cohen_kappa": "two labelers, unweighted; of rankings: on better / tied / worse, both directions",
    "fleiss_kappa": "where every unit has as many labelers; of rankings: on better / tied / worse, both directions",
}


@dataclass(frozen=True)
class Section:
    """All figures of one kind of label (rankings or ratings)."""

    kind: str
    counts: dict[str, int]
    figures: dict[str, Figure]
    labeler_pairs: list[dict[str, Any]] = field(default_factory=list)
    by_labeler: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        plain = lambda row: {k: v.to_json() if isinstance(v, Figure) else v for k, v in row.items()}  # noqa: E731
        return {
            "counts": self.counts,
            "figures": plain(self.figures),
            "labeler_pairs": [plain(row) for row in self.labeler_pairs],
            "by_labeler": [plain(row) for row in self.by_labeler],
        }


@dataclass(frozen=True)
class Agreement:
    """The report: a section for rankings, one for ratings, either may be None."""

    rankings: Section | None
    ratings: Section | None
    notes: tuple[str, ...] = ()
    seed: int = 0
    replicates: int = REPLICATES

    def to_json(self) -> dict[str, Any]:
        return {
            "rankings": self.rankings.to_json() if self.rankings else None,
            "ratings": self.ratings.to_json() if self.ratings else None,
            "notes": list(self.notes),
            "definitions": DEFINITIONS,
            "interval": {
                "level": LEVEL,
                "method": "percentile bootstrap over prompts or items",
                "replicates": self.replicates,
                "seed": self.seed,
            },
        }

    def text(self) -> str:
        """The report as text for people."""
        return shown.text(self)

    def tables(self) -> list[shown.Table]:
        """The report as tables with captions, and what each figure is."""
        return shown.tables(self)


def agreement(rankings: Iterable[Ranking], *, seed: int = 0, replicates: int = REPLICATES) -> Agreement:
    """Agreement between the labelers of the lab's own rankings (people and simulated ones alike)."""
    return agreement_of_records(records_of(rankings), seed=seed, replicates=replicates)


def agreement_of_files(paths: Iterable[str | Path], *, seed: int = 0, replicates: int = REPLICATES) -> Agreement:
    """Agreement in any files that `records.read_records` can read."""
    records = read_records(paths_of(paths))
    if not records.rankings and not records.ratings:
        raise DataError("There is no ranking and no rating to compare, only flags; labkit screening measures those.")
    return agreement_of_records(records, seed=seed, replicates=replicates)


def agreement_of_records(records: Records, *, seed: int = 0, replicates: int = REPLICATES) -> Agreement:
    """All figures of `records`; seed and replicates are those of the bootstrap."""
    how = {"seed": seed, "replicates": replicates}
    notes = []
    if records.replaced:
        notes.append(
            f"{records.replaced} label(s) were replaced by a later line of the same labeler on the same thing."
        )
    if records.names:
        notes.append(records.names)
    if aside := put_aside_sentence(records.said):
        notes.append(aside)
    return Agreement(
        rankings=_ranking_section(records, how) if records.rankings else None,
        ratings=_rating_section(records, how) if records.ratings else None,
        notes=tuple(notes),
        **how,
    )


def _ranking_section(records: Records, how: dict[str, int]) -> Section:
    comparisons, places = comparison_labels(records.rankings), rank_labels(records.rankings, places=True)
    pairs, both_ways = comparisons.pairs(), stats.mirrored(comparisons)
    figures = {**_pair_figures(pairs, how), **_alphas(rank_labels(records.rankings), how)}
    figures["alpha_ordinal_places"] = stats.alpha(places, "ordinal", **how)
    figures["fleiss_kappa"] = stats.fleiss_kappa(both_ways, n=_units(comparisons), **how)
    columns = lambda p: {**_pair_figures(p, how), "cohen_kappa": _kappa_of_comparisons(p, how)}  # noqa: E731
    return Section(
        kind="rankings",
        counts=_ranking_counts(records, pairs),
        figures=figures,
        labeler_pairs=_labeler_pairs(comparisons, pairs, columns),
        by_labeler=_by_labeler(comparisons, pairs, {"agreement_strict": stats.share_strict}, how),
    )


def _rating_section(records: Records, how: dict[str, int]) -> Section:
    labels = rating_labels(records.ratings)
    how = {**how, "unit": "item"} if not any(completion for _, completion in records.ratings) else how
    pairs, values = labels.pairs(), len(labels.domain)
    figures = {"agreement": stats.share_equal(pairs, **how), **_alphas(labels, how)}
    figures["fleiss_kappa"] = stats.fleiss_kappa(labels, **how)
    raters = {rater for by_rater in records.ratings.values() for rater in by_rater}

    def columns(p: Pairs) -> dict[str, Figure]:
        return {"agreement": stats.share_equal(p, **how), "cohen_kappa": stats.cohen_kappa(p, values, **how)}

    return Section(
        kind="ratings",
        counts={
            "labelers": len(raters),
            "prompts": len({prompt for prompt, _ in records.ratings}),
            "items": len(records.ratings),
            "items_shared": _units(labels),
            "ratings": sum(len(by_rater) for by_rater in records.ratings.values()),
            "pairs": len(pairs),
            "values": len({value for by_rater in records.ratings.values() for value in by_rater.values()}),
        },
        figures=figures,
        labeler_pairs=_labeler_pairs(labels, pairs, columns),
        by_labeler=_by_labeler(labels, pairs, {"agreement": stats.share_equal}, how),
    )


def _ranking_counts(records: Records, pairs: Pairs) -> dict[str, int]:
    """Who and what was counted; a pair is one comparison of two completions as seen by two labelers."""
    tied_a, tied_b = pairs.value_a == 1, pairs.value_b == 1
    raters = {rater for home in records.rankings.values() for rater, _ in home}
    return {
        "labelers": len(raters),
        "prompts": len(records.rankings),
        "prompts_shared": pairs.clusters,
        "rankings": sum(len(by_rater) for by_rater in records.rankings.values()),
        "pairs": len(pairs),
        "pairs_strict": int((~tied_a & ~tied_b).sum()),
        "pairs_tied_by_one": int((tied_a ^ tied_b).sum()),
        "pairs_tied_by_both": int((tied_a & tied_b).sum()),
    }


def _pair_figures(pairs: Pairs, how: dict[str, int]) -> dict[str, Figure]:
    return {
        "agreement_strict": stats.share_strict(pairs, **how),
        "agreement_all": stats.share_equal(pairs, **how),
        "agreement_half": stats.share_half(pairs, **how),
        "kendall_tau_b": stats.kendall_tau(pairs, **how),
    }


def _alphas(labels: Labels, how: dict[str, int]) -> dict[str, Figure]:
    return {f"alpha_{level}": stats.alpha(labels, level, **how) for level in ("nominal", "ordinal", "interval")}


def _kappa_of_comparisons(pairs: Pairs, how: dict[str, int]) -> Figure:
    both = Pairs(
        cluster=np.tile(pairs.cluster, 2),
        rater_a=np.tile(pairs.rater_a, 2),
        rater_b=np.tile(pairs.rater_b, 2),
        value_a=np.concatenate([pairs.value_a, 2 - pairs.value_a]),
        value_b=np.concatenate([pairs.value_b, 2 - pairs.value_b]),
        clusters=pairs.clusters,
    )
    return stats.cohen_kappa(both, 3, n=len(pairs), **how)


def _units(labels: Labels) -> int:
    return int(labels.unit.max(initial=-1)) + 1


def _labeler_pairs(labels: Labels, pairs: Pairs, columns: Callable[[Pairs], dict[str, Figure]]) -> list[dict[str, Any]]:
    rows = []
    for a, b in sorted({(int(a), int(b)) for a, b in zip(pairs.rater_a, pairs.rater_b, strict=True)}):
        own = pairs.where((pairs.rater_a == a) & (pairs.rater_b == b))
        rows.append({"labelers": [labels.raters[a], labels.raters[b]], "prompts": own.clusters, **columns(own)})
    return rows


def _by_labeler(
    labels: Labels, pairs: Pairs, columns: dict[str, Callable[..., Figure]], how: dict[str, int]
) -> list[dict[str, Any]]:
    rows = []
    for number, rater in enumerate(labels.raters):
        own = pairs.where((pairs.rater_a == number) | (pairs.rater_b == number))
        rows.append({"labeler": rater, "prompts": own.clusters, **{k: f(own, **how) for k, f in columns.items()}})
    return rows
