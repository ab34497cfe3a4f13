"""The report of findings as a page of documentation: Markdown with pictures, below a preface that a person wrote.

    labkit findings mine --read --with docs/findings-first.json --docs docs

writes docs/findings.md, docs/findings.json and docs/images/findings-<finding>.png. What docs/findings-preface.md says
stands above the table: which seeds were planned when, and what a reader should know before trusting them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labkit.batch.pages import write_text
from labkit.disk import write_json
from labkit.findings.by_size import sweeps_by_size
from labkit.findings.finding import Outcome
from labkit.findings.plan import Plan
from labkit.findings.records import Records
from labkit.findings.report import about, markdown, picture_of, summary_line, to_json

__all__ = ["write_docs"]

PREFACE = "findings-preface.md"


def write_docs(
    folder: Path,
    records: Records,
    outcomes: Sequence[Outcome],
    plan: Plan,
    elsewhere: str = "",
    others: Sequence[Path] = (),
) -> Path:
    """Write the page, its numbers and a picture for each finding that has a figure of its own; returns the page.

    Arguments as for `labkit.findings.report.write_reports`.
    """
    pictures = {}
    for outcome in outcomes:
        if outcome.finding.figure is not None:
            place = folder / "images" / f"findings-{outcome.finding.id}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(picture_of(outcome, records))
            pictures[outcome.finding.id] = str(place.relative_to(folder))
    preface = folder / PREFACE
    told = [preface.read_text(encoding="utf-8").strip()] if preface.is_file() else []
    told += [about(records.home, plan, elsewhere), f"**{summary_line(outcomes)}**"]
    title = f"The paper's findings, reproduced: {len(plan.seeds)} seeds"
    write_json(folder / "findings.json", to_json(plan, outcomes))
    return write_text(folder / "findings.md", markdown(title, told, outcomes, sweeps_by_size(records, others), pictures))
