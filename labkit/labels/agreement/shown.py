"""The agreement report as people read it: tables with captions for a notebook, or one text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.labels.intervals import FEW, Figure

if TYPE_CHECKING:
    from labkit.labels.agreement.report import Agreement, Section

__all__ = ["Table", "tables", "text"]

MEANING = "what it is"  # a column that a terminal has no room for
_MAX_ROWS = 20  # of each table; JSON has all


@dataclass(frozen=True)
class Table:
    """Rows with a caption above and sentences below."""

    caption: str
    rows: Sequence[Mapping[str, Any]]
    below: tuple[str, ...] = ()


def tables(report: Agreement) -> list[Table]:
    """What the report found, rankings first; sentences on the whole of it stand below the last table."""
    found = [table for section in (report.rankings, report.ratings) if section for table in _of_section(section)]
    if found and report.notes:
        found[-1] = Table(found[-1].caption, found[-1].rows, (*found[-1].below, *report.notes))
    return found


def text(report: Agreement) -> str:
    """The report as text of fixed width."""
    from tabulate import tabulate

    blocks = []
    for table in tables(report):
        rows = [{k: v for k, v in row.items() if k != MEANING} for row in table.rows]
        blocks += [table.caption] * bool(table.caption)
        blocks += [tabulate(rows, "keys", tablefmt="simple", disable_numparse=True), *table.below]
    return "\n\n".join(blocks or report.notes)


def _of_section(section: Section) -> Iterable[Table]:
    yield _figures(section)
    if section.labeler_pairs:
        yield _cut([{"labelers": " - ".join(row["labelers"]), **_rest(row, "labelers")} for row in section.labeler_pairs])
    if len(section.by_labeler) > 2:
        yield _cut([{"labeler with the others": row["labeler"], **_rest(row, "labeler")} for row in section.by_labeler])


def _figures(section: Section) -> Table:
    """All figures of a section; each caution once, below."""
    from labkit.labels.agreement.report import DEFINITIONS

    counts = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in section.counts.items())
    said = list(dict.fromkeys(figure.note for figure in section.figures.values() if figure.note))
    rows = [
        {
            "figure": name,
            "value [95 % interval]": str(figure),
            "n": figure.n,
            "prompts": figure.clusters,
            "note": f"[{said.index(figure.note) + 1}]" if figure.note else "",
            MEANING: DEFINITIONS[name],
        }
        for name, figure in section.figures.items()
    ]
    return Table(f"{section.kind}: {counts}", rows, tuple(f"[{n}] {note}" for n, note in enumerate(said, 1)))


def _rest(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != name}


def _cut(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows, of many those that agree least; what was left out, and a caution where rows rest on few prompts."""
    below, shown = [], rows
    if len(rows) > _MAX_ROWS:
        shown = sorted(rows, key=_agreement)[:_MAX_ROWS]
        below.append(f"... and {len(rows) - _MAX_ROWS} more rows, which agree no less; --json has all.")
    few = sum(row["prompts"] < FEW for row in rows)
    if few:
        below.append(f"{few} of these {len(rows)} rows rest on fewer than {FEW} prompts: too few to say.")
    return Table("", [{k: str(v) if isinstance(v, Figure) else v for k, v in row.items()} for row in shown], tuple(below))


def _agreement(row: Mapping[str, Any]) -> float:
    """The first figure of a row; one that is not defined comes behind all others."""
    value = next(v for v in row.values() if isinstance(v, Figure)).value
    return math.inf if value is None else value
