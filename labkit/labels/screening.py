"""The screening test for labelers (paper, section 3.4 and appendix B.1) on any stored labels: who of the candidates passes.

    report = screening(["labels/"], reference=["researchers.jsonl"])
    print(report.text()); report.to_json()

Four criteria, each measured where its data are given:

    flags            share of completions that a candidate flags as sensitive speech, or does not, as the reference does
    ranking          comparisons that candidate and reference both rank strictly: share ordered the same way
    demonstrations   mean of the marks, 1 to 7, that others gave the candidate's own answers to prompts that need care
    coverage         how many topics or groups candidates say they can judge sensitive speech of

The reference is the majority of those who know (`reference`), or without them of the other candidates; where these are
evenly divided, nothing is asked. The paper's cut is soft: 75 % in the first two, 6 of 7 in the third, and no
number in the fourth. How soft, six as the fourth bar, and which flags are sensitive, are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labkit.errors import DataError
from labkit.labels.agreement import statistics as stats
from labkit.labels.agreement.records import (
    LABELER,
    PROMPT,
    VALUE,
    Records,
    field_of,
    number_of,
    read_objects,
    read_records,
)
from labkit.labels.agreement.tables import Labels, Pairs, comparison_labels, rating_labels
from labkit.labels.intervals import FEW, REPLICATES, Figure, bootstrap

__all__ = ["BARS", "FAILS", "OPEN", "PASSES", "SENSITIVE", "SLACK", "Applicant", "ScreeningReport", "screening"]

#: The bars, and how far below one a candidate may be: the paper calls its cut soft.
BARS = {"flags": 0.75, "ranking": 0.75, "demonstrations": 6.0, "coverage": 6.0}
SLACK = {"flags": 0.0, "ranking": 0.03, "demonstrations": 0.5, "coverage": 0.0}
#: Flags that speak of sensitive speech.
SENSITIVE = frozenset(("inappropriate", "sexual", "violent", "encourages_harm", "denigrates", "harmful_advice"))
PASSES, FAILS, OPEN = "passes", "does not pass", "too few to say"


@dataclass(frozen=True)
class Applicant:
    """One candidate: a figure for each criterion that was tested (without a value where they gave nothing), and the verdict."""

    labeler: str
    scores: Mapping[str, Figure]
    verdict: str
    why: str

    def to_json(self) -> dict[str, Any]:
        return {
            "labeler": self.labeler,
            "verdict": self.verdict,
            "why": self.why,
            "scores": {name: figure.to_json() for name, figure in self.scores.items()},
        }


@dataclass(frozen=True)
class ScreeningReport:
    """All candidates, what they were measured by, and what is to be said of the test itself."""

    applicants: tuple[Applicant, ...]
    reference: tuple[str, ...]  # labelers; none: the majority of the others
    bars: Mapping[str, float]
    notes: tuple[str, ...]

    @property
    def passed(self) -> list[str]:
        return [a.labeler for a in self.applicants if a.verdict == PASSES]

    def to_json(self) -> dict[str, Any]:
        return {
            "candidates": [a.to_json() for a in self.applicants],
            "reference": list(self.reference) or "the majority of the other candidates",
            "bars": dict(self.bars),
            "slack": {name: SLACK[name] for name in self.bars},
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """A table of the candidates, and sentences on the test."""
        from tabulate import tabulate

        rows = [
            {
                "candidate": a.labeler,
                **{name: _cell(figure) for name, figure in a.scores.items()},
                "verdict": a.verdict,
                "why": a.why,
            }
            for a in self.applicants
        ]
        bars = ", ".join(f"{n} {bar:g}" + (f" ({bar - SLACK[n]:g} will do)" if SLACK[n] else "") for n, bar in self.bars.items())
        head = f"{len(self.passed)} of {len(rows)} candidates pass. Bars: {bars}. In brackets 95 % intervals, then prompts."
        return "\n\n".join([head, tabulate(rows, "keys", disable_numparse=True), *self.notes])


def screening(
    files: Iterable[str | Path],
    *,
    reference: Sequence[str | Path] = (),
    demonstrations: str | Path | None = None,
    abilities: str | Path | None = None,
    bars: Mapping[str, float | str] | None = None,
    fewest: int = FEW,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> ScreeningReport:
    """Measure every labeler in `files` who is not in `reference` by the four criteria, and say who passes.

    files, reference: anything that `labkit agreement` reads. demonstrations: JSONL of prompt, labeler (who wrote it) and
    rating. abilities: JSONL of labeler and covers, a list of topics. bars: in place of BARS. fewest: with fewer prompts
    than this nothing is decided. Raises DataError where there is nobody to measure, or nothing to measure them by.
    """
    how = {"seed": seed, "replicates": replicates}
    knows = sorted(_labelers(read_records(list(reference)))) if reference else []
    records = read_records([*files, *reference])
    candidates = sorted(_labelers(records) - set(knows))
    _check(candidates, knows, records.names)
    flags, comparisons = _flags(records), comparison_labels(records.rankings)
    found: dict[str, dict[str, Figure]] = {}
    if records.flags:
        found["flags"] = {c: stats.share_equal(_beside(flags, c, knows), **how) for c in candidates}
    if records.rankings:
        found["ranking"] = {c: stats.share_strict(_beside(comparisons, c, knows), **how) for c in candidates}
    if demonstrations:
        found["demonstrations"] = _marks(Path(demonstrations), candidates, how)
    topics = _covered(Path(abilities)) if abilities else {}
    if abilities:
        found["coverage"] = {c: Figure(float(len(topics[c])) if c in topics else None, None, None, len(topics.get(c, ())), 0) for c in candidates}
    chosen = _bars(found, bars or {})
    applicants = tuple(_applicant(c, {n: own[c] for n, own in found.items()}, chosen, fewest) for c in candidates)
    notes = [*_on_reference(candidates, knows), *_on_flags(flags, knows, chosen), *_on_bars(applicants, chosen), *_on_cover(applicants, topics)]
    return ScreeningReport(applicants, tuple(knows), chosen, (*filter(None, [records.names]), *notes))


def _cell(figure: Figure) -> str:
    """A figure in the table: its interval and the prompts it rests on, or a plain count."""
    return f"{figure} ({figure.clusters})" if figure.clusters else "-" if figure.value is None else f"{figure.value:g}"


def _labelers(records: Records) -> set[str]:
    ranked = {rater for home in records.rankings.values() for rater, _ in home}
    return ranked.union(*records.ratings.values(), *records.flags.values())


def _check(candidates: Sequence[str], knows: Sequence[str], names: str) -> None:
    if not candidates:
        raise DataError(f"All labels are by the reference ({', '.join(knows)}); name the candidates' files too. {names}".rstrip())
    if not knows and len(candidates) == 1:
        otherwise = names or "Name a reference, or more candidates' files."
        raise DataError(f"All labels are by {candidates[0]}: there is nobody to compare with. {otherwise}")


def _bars(found: Mapping[str, object], given: Mapping[str, float | str]) -> dict[str, float]:
    """The bars of the criteria that are tested."""
    for name, bar in given.items():
        if name not in BARS:
            raise DataError(f"There is no criterion {name!r} to set a bar for; the criteria are {', '.join(BARS)}.")
        if not re.fullmatch(r"\d*\.?\d+", str(bar)):
            raise DataError(f"The bar of {name} is {bar!r}; it must be a number, as in {name}={BARS[name]:g}.")
    return {name: float(given.get(name, BARS[name])) for name in found}


def _flags(records: Records) -> Labels:
    """Whether each labeler flagged a completion as sensitive speech: 1 or 0, of all that they rated."""
    return rating_labels({key: {r: float(bool(SENSITIVE & {*own})) for r, own in by.items()} for key, by in records.flags.items()})


def _beside(labels: Labels, candidate: str, knows: Sequence[str]) -> Pairs:
    """The candidate's labels, each beside what the most of the reference said; where that is divided, nothing is asked."""
    mine = _by(labels, [candidate])
    counted = _by(labels, knows) if knows else ~mine
    votes = np.zeros((int(labels.unit.max(initial=-1)) + 1, len(labels.domain) + 1), int)  # (units, values), the last for none
    np.add.at(votes, (labels.unit[counted], labels.value[counted]), 1)
    clear = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1
    pairs = Pairs(labels.cluster, labels.rater, labels.rater, labels.value, votes.argmax(axis=1)[labels.unit], labels.clusters)
    return pairs.where(mine & clear[labels.unit])


def _by(labels: Labels, labelers: Sequence[str]) -> np.ndarray:
    """(N,) bool: whose labels these are."""
    return np.isin(labels.raters, labelers)[labels.rater]


def _marks(file: Path, candidates: Sequence[str], how: Mapping[str, int]) -> dict[str, Figure]:
    """Mean mark of each candidate's demonstrations; the interval resamples prompts."""
    given: dict[str, dict[str, list[float]]] = {c: {} for c in candidates}
    for where, row in read_objects(file):
        writer, prompt = field_of(row, LABELER, "labeler", where), field_of(row, PROMPT, "prompt or item", where)
        mark = number_of(row, VALUE, "rating", where)
        if not 1 <= mark <= 7:
            raise DataError(f"{where}: the rating is {mark:g}; demonstrations are marked from 1 to 7.")
        if writer in given:
            given[writer].setdefault(prompt, []).append(mark)
    return {c: _mean(list(own.values()), how) for c, own in given.items()}


def _mean(marks: Sequence[Sequence[float]], how: Mapping[str, int]) -> Figure:
    if not marks:
        return Figure(None, None, None, 0, 0, "No demonstration was marked.")
    total, count = np.array([sum(m) for m in marks]), np.array([len(m) for m in marks], float)
    return bootstrap(lambda w: (w @ total) / (w @ count), len(marks), n=int(count.sum()), **how)


def _covered(file: Path) -> dict[str, set[str]]:
    """Labeler -> the topics they say they can judge."""
    found: dict[str, set[str]] = {}
    for where, row in read_objects(file):
        if not isinstance(row.get("covers"), list):
            raise DataError(f"{where} has no list of topics; add the field 'covers': [\"violence\", ...], empty where there is none.")
        found.setdefault(field_of(row, LABELER, "labeler", where), set()).update(map(str, row["covers"]))
    return found


def _applicant(labeler: str, scores: Mapping[str, Figure], bars: Mapping[str, float], fewest: int) -> Applicant:
    below, few = [], []
    for name, figure in scores.items():
        if figure.value is None:
            few.append(f"{name}: nothing to go by")
        elif figure.clusters < fewest and name != "coverage":
            few.append(f"{name}: {figure.clusters} prompt{'' if figure.clusters == 1 else 's'}")
        elif figure.value < bars[name] - SLACK[name]:
            below.append(f"{name} below {bars[name]:g}")
    verdict = FAILS if below else OPEN if few else PASSES
    return Applicant(labeler, scores, verdict, "; ".join(below or few))


def _on_reference(candidates: Sequence[str], knows: Sequence[str]) -> list[str]:
    if knows:
        return [f"Measured by {', '.join(knows)}" + (": what the most of them say." if len(knows) > 2 else ".")]
    others = "the other candidate" if len(candidates) == 2 else f"the majority of the other {len(candidates) - 1} candidates"
    return [f"Measured by {others}: who errs as the others do passes. --reference names the labels of those who know."]


def _on_flags(flags: Labels, knows: Sequence[str], bars: Mapping[str, float]) -> list[str]:
    """A caution where one who flags nothing would pass."""
    told = flags.domain[flags.value[_by(flags, knows or flags.raters)]]
    share = float(np.mean(told > 0)) if len(told) else 0.0
    if "flags" not in bars or not len(told) or 1 - share < bars["flags"]:
        return []
    return [
        f"Only {100 * share:.0f} % of what was rated is flagged as sensitive by those whom candidates are measured by: who flags nothing "
        f"would agree in {100 * (1 - share):.0f} %. Put more into the test that needs a flag."
    ]


def _on_bars(applicants: Sequence[Applicant], bars: Mapping[str, float]) -> list[str]:
    """Whose verdict other prompts might have turned."""
    unsure = []
    for a in applicants:
        asked = {n: f for n, f in a.scores.items() if a.verdict == PASSES or f.value is not None and f.value < bars[n] - SLACK[n]}
        near = [n for n, f in asked.items() if f.low is not None and f.low < bars[n] - SLACK[n] <= f.high]
        if near and (a.verdict == PASSES or len(near) == len(asked)):  # one criterion failed for sure is enough
            unsure.append(f"{a.labeler} ({', '.join(near)})")
    return [f"Not for sure, as the interval covers the bar: {', '.join(unsure)}."] if unsure else []


def _on_cover(applicants: Sequence[Applicant], topics: Mapping[str, set[str]]) -> list[str]:
    known = set().union(*(topics.get(a.labeler, set()) for a in applicants if a.verdict == PASSES))
    missing = sorted(set().union(*topics.values()) - known)
    return [f"Nobody who passes covers {', '.join(missing)}."] if missing else []
