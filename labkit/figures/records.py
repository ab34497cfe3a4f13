"""Run folders, lists of Steps and branches as one thing to draw: a `Record` with a name, steps, ledger and evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from labkit.errors import DataError
from labkit.figures.panels import value_of
from labkit.knobs import PPOKnobs, standing
from labkit.runs import StageFolder
from labkit.types import Step

__all__ = ["Mark", "Measured", "Record", "by_prompts", "interventions", "named", "number", "read", "records", "win_rates"]

_SYMBOLS = {f.name: f.metadata.get("symbol") or f.name for f in fields(PPOKnobs)}


@dataclass(frozen=True)
class Record:
    """One curve family: a run, or a branch of one."""

    name: str
    steps: Sequence[Step]
    ledger: Sequence[Mapping[str, Any]] = field(default_factory=list)
    evaluations: Sequence[Mapping[str, Any]] = field(default_factory=list)  # what was measured by hand


@dataclass(frozen=True)
class Mark:
    """One intervention, or several at the same step: where it took effect and a sentence about it."""

    step: int
    sentence: str
    refused: bool = False


@dataclass(frozen=True)
class Measured:
    """Win rates of one run on one set of prompts: a label, and (step, rate, low, high) by step."""

    label: str
    points: tuple[tuple[int, float, float, float], ...]


def read(source: Any, name: str = "") -> Record:
    """A Record from a Record, a StageFolder, the path of one, a Job, or a list of Steps."""
    if isinstance(source, Record):
        return replace(source, name=name) if name else source
    if isinstance(source, (str, Path)):
        source = StageFolder(Path(source))
    if isinstance(source, StageFolder):
        return Record(name or _folder_name(source), source.steps(), source.ledger(), source.evaluations())
    if hasattr(source, "steps") and hasattr(source, "folder"):  # a Job
        folder = source.folder
        return Record(name or folder.path.name, list(source.steps), folder.ledger(), folder.evaluations())
    if isinstance(source, Sequence) and all(isinstance(step, Step) for step in source):
        return Record(name or (source[0].stage if source else "run"), list(source))
    raise DataError(f"Cannot draw a {type(source).__name__}: give a StageFolder, its path, a Job, or a list of Steps.")


def records(sources: Any) -> list[Record]:
    """One Record per source: a single source, a list of them, or a mapping from name to source."""
    return [read(source, name) for name, source in named(sources)]


def named(sources: Any) -> list[tuple[str, Any]]:
    """The same sources as they are, each with its name; "" where it has its own."""
    if isinstance(sources, Mapping):
        return [(str(name), source) for name, source in sources.items()]
    if isinstance(sources, (list, tuple)) and sources and not isinstance(sources[0], Step):
        return [("", source) for source in sources]
    return [("", sources)]


def interventions(record: Record, *, window: int = 5) -> list[Mark]:
    """The hand's doings as marks, with the mean of score, gold and KL over `window` steps before and after.

    The controller's own moves are left out: they come at every step and are drawn as the curve of β. So are requests
    that a rollback superseded: the steps they bent are drawn no more.
    """
    rows: dict[int, list[Mapping[str, Any]]] = {}
    for row in standing(record.ledger):
        if row.get("by") != "controller":
            rows.setdefault(int(row["new"] if row["knob"] == "rollback" else row["step"]), []).append(row)
    return [
        Mark(
            step,
            "; ".join([*(_sentence(r) for r in group), *_effects(record.steps, step, window)]),
            all(r["outcome"] == "refused" for r in group),
        )
        for step, group in sorted(rows.items())
    ]


def _sentence(row: Mapping[str, Any]) -> str:
    why = f" — {row['why']}" if row.get("why") else ""
    if row["knob"] == "rollback":
        return f"rolled back from step {row['old']} to step {row['new']}{why}"
    if row["knob"] == "auto":
        return f"step {row['step']}: β to {'the controller' if row.get('new', row['asked']) else 'the hand'}{why}"
    name = _SYMBOLS.get(row["knob"], row["knob"])
    if row["outcome"] == "refused":
        return f"step {row['step']}: {name} = {row['asked']} refused, {row.get('reason', '')}{why}"
    return f"step {row['step']}: {name} {number(row['old'])} → {number(row['new'])}{why}"


def _effects(steps: Sequence[Step], at: int, window: int) -> list[str]:
    """What changed around a mark, as 'RM score 0.31 → 0.42'; nothing where either side has no step."""
    found = []
    for key, label in (("score", "score"), ("gold", "gold"), ("kl_k1", "KL")):
        before = [v for s in steps if at - window <= s.number < at and (v := value_of(s, key)) == v]
        after = [v for s in steps if at <= s.number < at + window and (v := value_of(s, key)) == v]
        if before and after:
            found.append(f"{label} {number(fmean(before))} → {number(fmean(after))}")
    return [f"{window} steps before → after: " + ", ".join(found)] if found else []


def by_prompts(evaluations: Sequence[Mapping[str, Any]]) -> dict[frozenset[str], list[Mapping[str, Any]]]:
    """Win rates that have an interval, by the set of prompts they were measured on; the set evaluated last comes last."""
    found: dict[frozenset[str], list[Mapping[str, Any]]] = {}
    for row in evaluations:
        told = [row["values"].get(key) for key in ("win_rate", "low", "high")]
        if all(isinstance(v, (int, float)) and math.isfinite(v) for v in told):
            own = frozenset(row["prompts"])
            found[own] = [*found.pop(own, []), row]
    return found


def win_rates(evaluations: Sequence[Mapping[str, Any]]) -> list[Measured]:
    """One line per set of prompts, in the order in which the sets were first evaluated, so that a line keeps its colour."""
    measured = list(evaluations)
    groups = sorted(by_prompts(measured).items(), key=lambda group: measured.index(group[1][0]))
    found: list[Measured] = []
    for prompts, rows in groups:
        label = f"{len(prompts)} prompt{'' if len(prompts) == 1 else 's'}"
        if any(line.label == label for line in found):
            label = label.replace(" ", " other ", 1)
        points = sorted((row["step"], *(float(row["values"][key]) for key in ("win_rate", "low", "high"))) for row in rows)
        found.append(Measured(label, tuple(points)))
    return found


def number(value: Any) -> str:
    """A number short enough for a label; what is none, as a ledger of old may hold it, is shown as it is."""
    try:
        return "–" if value is None else f"{value:.3g}"
    except (TypeError, ValueError):
        return f"{value!s:.60}"


def _folder_name(folder: StageFolder) -> str:
    return (
        f"{folder.path.parent.name}/{folder.path.name}"
        if folder.path.parent.name not in {"", ".", "runs"}
        else folder.path.name
    )
