"""The report of all findings: a text table, JSON, Markdown and one HTML page with a figure per finding."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.batch.pages import moment, write_page, write_text
from labkit.disk import write_json
from labkit.findings.by_size import sweeps_by_size
from labkit.findings.evidence import FAILS, FEWEST_SEEDS, HOLDS, OPEN
from labkit.findings.execute import done_records, wall_seconds
from labkit.findings.figures import figure_of
from labkit.findings.finding import Outcome, measure_finding
from labkit.findings.plan import DEVELOPMENT_SEEDS, Plan, load_plan
from labkit.findings.records import Records
from labkit.findings.table import FINDINGS

__all__ = [
    "about",
    "claim_rows",
    "markdown",
    "measure_all",
    "picture_of",
    "read_findings",
    "summary_line",
    "table_rows",
    "table_text",
    "to_json",
    "write_reports",
]

BY_SIZE = "What the means above are made of, with each seed that was swept at that size; decides nothing."
BESIDE = "shown beside"  # in place of a verdict, which would read as good or bad news
REASON = 90  # characters of the reason why a seed was lost
CONDITIONAL = (
    "What all seeds share is not covered by the intervals: one world with its facts, myths and bias items, one set of "
    "pretrained bases, one reader and one set of labelers."
)
READING = (
    "A claim holds where its whole interval lies in the region that it must lie in, does not hold where the whole interval "
    "lies outside, and is not decided where it covers the border; the regions are ours. A finding holds only when all its "
    "deciding claims do; the table shows the least favourable one. What is shown beside decides nothing and has no verdict. "
    "\"X, less half of Y\" above 0 means: more than half of Y."
)
GLOSSARY = (
    "Gold utility is the world's own judgment of an answer, 0 to 1; validation reward is the reward model's score on "
    "validation prompts; benchmarks are four miniatures of SQuAD, DROP, HellaSwag and WMT 15; GPT is the pretrained base, "
    "the PPO init the model that PPO starts from."
)


def read_findings(home: Path) -> tuple[Records, list[Outcome]]:
    """The records under `home` and every finding as measured from them."""
    records = Records(home, load_plan(home))
    return records, measure_all(records)


def measure_all(records: Records) -> list[Outcome]:
    """Every finding, measured from these records."""
    return [measure_finding(f, records) for f in FINDINGS]


def table_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row per finding: finding, the paper's figure, ours with interval, verdict, seeds."""
    ours = "ours: the least favourable claim [95 % over seeds]"
    return [
        {
            "finding": o.finding.title,
            "paper": f"{o.finding.where}: {o.finding.paper}",
            ours: o.ours,
            "verdict": o.verdict,
            "seeds": seeds_shown(o.seeds, o.lost),
        }
        for o in outcomes
    ]


def seeds_shown(seeds: int, lost: Mapping[int, str], *, why: bool = False) -> str:
    """How many seeds a number rests on, and which of the plan's it had to do without: "4, without 13", with `why` "3, without 12, 13 (...)"."""
    if not lost:
        return str(seeds)
    if not why:
        return f"{seeds}, without {', '.join(map(str, sorted(lost)))}"
    alike: dict[str, list[int]] = {}  # reason -> seeds
    for seed in sorted(lost):
        alike.setdefault(short_reason(lost[seed]), []).append(seed)
    return f"{seeds}, without " + "; ".join(f"{', '.join(map(str, some))} ({reason})" for reason, some in alike.items())


def short_reason(text: str) -> str:
    """The first words of a reason, for a cell of a table; findings.json has all of it."""
    return text if len(text) <= REASON else f"{text[:REASON]}…"


def table_text(outcomes: Sequence[Outcome]) -> str:
    """The same as a text table for the terminal."""
    from tabulate import tabulate

    return tabulate(table_rows(outcomes), "keys", tablefmt="grid", maxcolwidths=[26, 38, 42, 11, 9])


def summary_line(outcomes: Sequence[Outcome]) -> str:
    """How many rows of the paper hold: "17 rows of the paper: 11 hold, 2 do not, 4 are not decided."."""
    paper = [o for o in outcomes if not o.finding.beyond]
    words = {HOLDS: ("holds", "hold"), FAILS: ("does not", "do not"), OPEN: ("is not decided", "are not decided")}
    counts = {verdict: sum(o.verdict == verdict for o in paper) for verdict in words}
    said = ", ".join(f"{n} {words[verdict][n != 1]}" for verdict, n in counts.items())
    return f"{len(paper)} row{'' if len(paper) == 1 else 's'} of the paper: {said}."


def to_json(plan: Plan, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything measured, for programs."""
    return {"plan": plan.to_json(), "findings": [o.to_json() for o in outcomes]}


def write_reports(
    home: Path,
    records: Records,
    outcomes: Sequence[Outcome],
    plan: Plan | None = None,
    elsewhere: str = "",
    others: Sequence[Path] = (),
) -> Path:
    """Write findings.json, findings.md and index.html into `home`; returns the page.

    plan: where outcomes rest on more seeds than the records do (`labkit.findings.merge`); elsewhere: where those are
    from, in words; others: the files that they are from.
    """
    plan, sizes = plan or records.plan, sweeps_by_size(records, others)
    write_json(home / "findings.json", to_json(plan, outcomes))
    title = f"The paper's findings, reproduced: {home.name}"
    told = [about(home, plan, elsewhere), summary_line(outcomes)]
    write_text(home / "findings.md", markdown(title, told, outcomes, sizes))
    found = [(o, picture_of(o, records)) for o in outcomes]
    return write_page(
        home / "index.html",
        "findings.html",
        title=title,
        about=told[0],
        summary=summary_line(outcomes),
        sizes=sizes,
        by_size=BY_SIZE,
        sheets=[s for s in _sheets(plan) if (home / s).exists()],
        findings=[
            {
                **o.to_json(),
                "ours": o.ours,
                "seeds": seeds_shown(o.seeds, o.lost),
                "picture": base64.b64encode(picture).decode("ascii"),
                "shown": claim_rows(o),
            }
            for o, picture in found
        ],
    )


def _sheets(plan: Plan) -> list[str]:
    """Where the model sheets of the cells lie, seen from the report."""
    return [f"{size}-s{seed}/report/sheet.html" for size in plan.sizes for seed in plan.seeds]


def about(home: Path, plan: Plan, elsewhere: str = "") -> str:
    """With which seeds, when and on what it was measured, and what the intervals do not cover."""
    seen = [s for s in plan.seeds if s in DEVELOPMENT_SEEDS]
    caution = f" Seeds {', '.join(map(str, seen))} were used while the lab was built." if seen else ""
    if plan.made_with:
        caution += (
            f" All of it was made with other settings ({plan.made_with}) than those of this version: the names of β, γ and "
            "learning rates may be wrong by what has changed since."
        )
    return (
        f"Scale {plan.scale}; sizes {', '.join(plan.sizes)}; seeds {', '.join(map(str, plan.seeds))}; one reward model "
        f"per seed, from rankings of the {plan.judge} SFT model's answers, serves all sizes; sweeps (γ, β, learning rate, "
        f"longer training, mix of the init, long SFT) at size {', '.join(plan.sweep)}, what goes beyond the paper at size "
        f"{plan.further} alone. {_measured(home, plan)} {elsewhere}"
        f"Report written {moment(time.time())}. Intervals: 95 %, Student, over seeds; differences within a seed; fewer than "
        f"{FEWEST_SEEDS} seeds decide nothing.{caution} {CONDITIONAL} {READING} {GLOSSARY}"
    )


def _measured(home: Path, plan: Plan) -> str:
    """Date, hours, hardware and versions, as the pieces recorded them."""
    rows = [row for row in done_records(home, plan.tasks()) if "ended" in row]
    if not rows:
        return "Nothing was carried out here yet."
    first, last = min(r["ended"] - r["seconds"] for r in rows), max(r["ended"] for r in rows)
    machines = sorted({r["hardware"] for r in rows if "hardware" in r}) or ["not recorded"]
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items()) for r in rows if "versions" in r})
    return (
        f"Measured from {moment(first)} to {moment(last)}: {wall_seconds(rows) / 3600:.1f} hours by the clock, "
        f"{sum(r['seconds'] for r in rows) / 3600:.1f} hours of all pieces together. Hardware: {'; '.join(machines)}. "
        f"Versions: {'; '.join(versions) or 'not recorded'}."
    )


def claim_rows(outcome: Outcome) -> list[dict[str, str]]:
    """One row per claim, for tables: what was measured, ours, the region it must lie in, verdict, seeds."""
    return [
        {
            "words": c.words,
            "measured": str(c.measured),
            "region": c.region if c.deciding else "",
            "verdict": c.verdict if c.deciding else BESIDE,
            "seeds": seeds_shown(c.measured.seeds, c.lost, why=True),
        }
        for c in outcome.claims
    ]


def picture_of(outcome: Outcome, records: Records) -> bytes:
    """The finding's figure as a PNG."""
    from labkit.figures.png import draw_png

    return draw_png(figure_of(outcome, records))


def markdown(
    title: str,
    told: Sequence[str],
    outcomes: Sequence[Outcome],
    sizes: Sequence[Mapping[str, str]],
    pictures: Mapping[str, str] | None = None,
) -> str:
    """The report as Markdown: title, paragraphs, the table of all findings, a section for each.

    sizes: rows of `sweeps_by_size`; pictures: where the figure of a finding lies, by the finding's id.
    """

    def row(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    lines = [f"# {title}", ""]
    for paragraph in told:
        lines += [paragraph, ""]
    lines += ["| finding | paper | what the paper says | ours | verdict | seeds |", "|---|---|---|---|---|---|"]
    for o in outcomes:
        f = o.finding
        lines.append(row((f.title, f.where, f.paper, o.ours, f"**{o.verdict}**", seeds_shown(o.seeds, o.lost))))
    for o in outcomes:
        lines += _section(o, (pictures or {}).get(o.finding.id))
    if sizes:
        lines += ["", "## The sweeps, size by size", "", BY_SIZE, ""]
        lines += [row(sizes[0]), "|---" * len(sizes[0]) + "|", *(row(r.values()) for r in sizes)]
    return "\n".join(lines) + "\n"


def _section(outcome: Outcome, picture: str | None) -> list[str]:
    """Lines on one finding: the paper's words, what would have made it fail, how to read it, its figure, its claims."""
    f = outcome.finding
    lines = ["", f"## {f.title}", "", f"{f.where}: {f.paper}.", "", f"What would have made it fail: {f.fails_if}.", ""]
    lines += [f"How to read it: {f.note}.", ""] if f.note else []
    lines += [f"What was tried: {outcome.tried}.", ""] if outcome.tried else []
    lines += [f"![{f.title}]({picture})", ""] if picture else []
    for c in claim_rows(outcome):
        region = f"; must be {c['region']}" if c["region"] else ""
        lines.append(f"- {c['words']}: {c['measured']}{region}: {c['verdict']}; seeds: {c['seeds']}")
    return lines
