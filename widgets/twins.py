"""Static twins of cockpit and knob panel: a figure and tables that a reader of an executed notebook can learn from."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from labkit.figures import bundle, time_profile, training_curves
from labkit.figures.records import Record, number
from labkit.figures.text import cell, visible
from widgets import display
from widgets.display import drawn_by_the_page, static_bundle, table_html, table_text

if TYPE_CHECKING:
    from widgets.cockpit import Cockpit
    from widgets.desk import Desk

__all__ = ["cockpit_bundles", "knob_bundle", "ledger_row", "show_bundle", "tables_bundle"]

_ROWS = 12  # of a ledger; the file has them all
Table = tuple[str, Sequence[str], Sequence[Sequence[Any]]]


def show_bundle(made: Mapping[str, Any] | tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
    """Display one mime bundle, with or without its metadata; in a plain script print its text."""
    data, metadata = made if isinstance(made, tuple) else (made, {})
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        print(data.get("text/plain", ""))
        return
    from IPython.display import display

    display(drawn_by_the_page(data), metadata=dict(metadata), raw=True)


def tables_bundle(lines: Sequence[str], tables: Iterable[Table]) -> dict[str, str]:
    """Sentences and captioned tables as HTML and text, every value escaped and every hidden character shown."""
    body = "".join(f"<p>{escape(visible(line))}</p>" for line in lines)
    text = [visible(line) for line in lines]
    for caption, header, rows in tables:
        shown = [[cell(column, str(value)) for column, value in zip(header, row, strict=True)] for row in rows]
        body += table_html(header, shown, caption)
        text += ["", caption, table_text(header, shown)]
    return static_bundle("\n".join(text), body)


def knob_bundle(desk: Desk) -> dict[str, str]:
    """The twin of a knob panel: value, bounds and meaning of each knob, and who holds β."""
    from widgets.desk import describe

    rows = [
        [k["symbol"] or "", k["name"], number(k["start"]), f"{k['low']:g} … {k['high']:g}", k["doc"]]
        for k in describe(desk.dial.knobs)
    ]
    holder = [f"β is held by {'the KL controller' if desk.dial.auto else 'the hand'}."] if desk.has_controller else []
    return tables_bundle(
        holder, [("Knobs (static: nobody can turn them here)", ["", "knob", "value", "bounds", "meaning"], rows)]
    )


def cockpit_bundles(board: Cockpit) -> list[dict[str, Any]]:
    """The twin of a cockpit: before the first step the knobs, afterwards curves, ledger, alerts and samples."""
    job, steps = board.job, list(board.job.steps)
    name = job.folder.path.name
    if not steps or (job.alive and display.is_headless()):  # half a run would be drawn by chance
        lines = [
            f"{name}: {job.total} steps, {job.status}. By hand this is the live board; "
            "headless the run goes by itself, and what it did is drawn after it has ended."
        ]
        twin = tables_bundle(lines, [])
        return [twin, knob_bundle(board.desk)] if board.desk else [twin]
    ledger = board._ledger.read(job.folder.path)
    branches = [Record(b.path.name, b.steps(), evaluations=b.evaluations()) for b in job.branches if b.path != job.folder.path]
    fig = training_curves([Record(name, steps, ledger, board.evaluations()), *branches, *board.beside], title=board.spec["title"])
    lines = [board._line(steps), _numbers(steps)]
    there = job.folder.snapshots() if job.state is not None else []
    lines += [f"Alert: {a.sentence} {a.cause}" for a in board.alerts(steps, there)] or ["No alerts."]
    tables: list[Table] = []
    measured = board.evaluations()
    if measured:
        tables.append((f"Evaluations by hand: the last {min(len(measured), _ROWS)} of {len(measured)}", *_measured(measured[-_ROWS:])))
    if ledger:
        tables.append(
            (f"Ledger: the last {min(len(ledger), _ROWS)} of {len(ledger)} requests", *_ledger(ledger[-_ROWS:]))
        )
    if steps[-1].samples:
        keys = list(dict.fromkeys(k for row in steps[-1].samples[: board._count] for k in row if k != "prompt_id"))
        rows = [[_cell(row.get(k)) for k in keys] for row in steps[-1].samples[: board._count]]
        tables.append((f"Samples of step {steps[-1].number}", keys, rows))
    return [bundle(fig, text="\n".join(lines)), *_times(name, steps), tables_bundle(lines, tables)]


def _times(name: str, steps: Sequence[Any]) -> list[dict[str, Any]]:
    """Where the time of an iteration went; for PPO, which has several parts: a bar of updates alone tells nothing."""
    parts = any("time_generation" in step.metrics for step in steps)
    return [bundle(time_profile({name: steps}))] if parts else []


def _numbers(steps: Sequence[Any]) -> str:
    """First and last value of the telling metrics, in words."""
    first, last = steps[0].metrics, steps[-1].metrics
    names = (
        "loss",
        "valid_loss",
        "accuracy",
        "valid_accuracy",
        "score",
        "gold",
        "kl_k1",
        "entropy",
        "ptx_loss",
        "response_length",
    )
    shown = [f"{n} {number(first[n])} → {number(last[n])}" for n in names if n in first and n in last]
    return f"From step {steps[0].number} to {steps[-1].number}: {', '.join(shown)}."


def ledger_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger row as a person reads it."""
    return {
        "step": row["step"],
        "knob": row["knob"],
        "asked": number(row["asked"]),
        "became": number(row["new"]),
        "outcome": row["outcome"],
        "by": row["by"],
        "why": row["why"],
        "refused because": row["reason"],
    }


def _ledger(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    shown = [ledger_row(row) for row in rows]
    return list(shown[0]), [list(row.values()) for row in shown]


def _measured(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Step and prompts of each evaluation, then what was measured."""
    keys = list(dict.fromkeys(key for row in rows for key in row["values"]))
    header = ["step", "prompts", *keys, "which prompts"]
    return header, [
        [row["step"], len(row["prompts"]), *(_cell(row["values"].get(k)) for k in keys), "; ".join(p.strip() for p in row["prompts"])[:300]]
        for row in rows
    ]


def _cell(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)[:600]
