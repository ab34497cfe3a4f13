"""`labkit run`: the notebooks 01 to 06 in order, in one run folder.

A notebook whose result still holds is skipped; one that is missing, failed or stale runs, and the table says why.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labkit.batch import records
from labkit.batch.notebooks import Outcome, as_prepared, execute, resolve_parameters
from labkit.batch.parameters import read_parameters
from labkit.errors import RunError, SettingsError
from labkit.runs import FACTS, Run

__all__ = ["Row", "begun_late", "parameters_of_each", "pipeline", "plan", "table"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One notebook of the pipeline: what is to be done, why, and how it went."""

    notebook: str
    action: str  # run, skip; then done, failed, stopped, not reached
    why: str
    seconds: float | None = None
    summary: Mapping[str, Any] | None = None


def plan(run: Run, notebooks: Sequence[Path], given: Mapping[str, Any], *, again: bool = False) -> list[Row]:
    """What `pipeline` would do and why.

    Raises SettingsError on a parameter that none of the notebooks declares, and RunError as `begun_late` does.
    """
    rows: list[Row] = []
    parameters = parameters_of_each(run, notebooks, given)
    new = begun_late(run, notebooks[0], parameters[notebooks[0]])
    for notebook, values in parameters.items():
        why = records.stale(run, notebook, values) or ("asked for" if again else "")
        first = next((r.notebook for r in rows if r.action == "run"), None)
        if not why and first:
            why = f"{first} runs again"
        rows.append(Row(notebook.stem, "run" if why else "skip", why or "done and unchanged"))
    return [replace(rows[0], why=f"{rows[0].why}; {new}"), *rows[1:]] if new else rows


def pipeline(
    run: Run,
    notebooks: Sequence[Path],
    given: Mapping[str, Any],
    *,
    again: bool = False,
    say: Say = print,
    environment: Mapping[str, str] | None = None,
) -> list[Row]:
    """Execute what is missing or stale of `notebooks`, in order, into `run`; stops at the first that fails.

    `given` are parameters (texts are parsed); each goes to every notebook that declares it. `again` repeats even what
    still holds. Returns one row per notebook; the last outcome's error, if any, is its `why`.
    """
    rows = plan(run, notebooks, given, again=again)
    say(table(rows, ("notebook", "action", "why")))
    values = parameters_of_each(run, notebooks, given)
    ended: list[Row] = []
    for row, notebook in zip(rows, notebooks, strict=True):
        broken = next((e.notebook for e in ended if e.action in ("failed", "stopped")), None)
        if broken:
            ended.append(Row(row.notebook, "not reached", f"{broken} did not end well"))
        elif row.action == "skip":
            ended.append(replace(row, summary=records.record_of(run, row.notebook).manifest.get("summary")))
        else:
            say(f"{row.notebook} ...")
            outcome = execute(notebook, run, values[notebook], environment=environment, echo=lambda s: say(f"  {s}"))
            ended.append(_ended(row, outcome))
    return ended


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """The rows as text, with the given columns out of notebook, action, why, seconds, summary."""
    from tabulate import tabulate

    def cell(row: Row, column: str) -> str:
        value = getattr(row, column)
        if column == "summary":
            return ", ".join(f"{k} {_short(v)}" for k, v in (value or {}).items())
        return "" if value is None else _short(value)

    return tabulate([[cell(r, c) for c in columns] for r in rows], columns, disable_numparse=True, maxcolwidths=80)


def parameters_of_each(run: Run, notebooks: Sequence[Path], given: Mapping[str, Any]) -> dict[Path, dict[str, Any]]:
    """The checked parameters of each notebook: a given one goes to every notebook that declares it, the rest is as the run was prepared.

    Raises SettingsError on one that no notebook declares, on `run`, which has an argument of its own, and where the run
    was prepared otherwise.
    """
    declared = {n: read_parameters(n) for n in notebooks}
    known = sorted({name for parameters in declared.values() for name in parameters} - {"run"})
    for name in given:
        if name not in known:
            hint = " Name the run itself by its argument." if name == "run" else ""
            raise SettingsError(f"No notebook here has a parameter {name!r}; they have {', '.join(known)}.{hint}")
    mine = {n: {k: v for k, v in given.items() if k in declared[n]} for n in notebooks}
    return {n: resolve_parameters(n, as_prepared(n, mine[n], run), run.name) for n in notebooks}


def begun_late(run: Run, notebook: Path, parameters: Mapping[str, Any]) -> str:
    """What to know where a run that does not exist would begin with a later notebook of the pipeline; else empty.

    Raises RunError where its name looks like a slip for another run's: to make all that is missing takes long.
    """
    steps = records.pipeline_notebooks(notebook.parent)
    if run.path.exists() or notebook not in steps[1:]:
        return ""
    there = sorted(file.parents[1].name for file in run.path.parent.glob(f"*/{FACTS}"))
    if near := difflib.get_close_matches(run.name, there):
        raise RunError(
            f"{run.path} does not exist. Did you mean {' or '.join(near)}? A new run begins at the beginning: "
            f"labkit run {run.name} --only {steps[0].stem}. Nothing was started."
        )
    missing = ", ".join(step.stem for step in steps[: steps.index(notebook)])
    others = f" There {'is' if len(there) == 1 else 'are'} {', '.join(there)}." if there else ""
    at = f", at scale {parameters['scale']}" if "scale" in parameters else ""
    return f"{run.path} does not exist: what {missing} would have made is made in it first{at}. Ctrl-C stops it.{others}"


def _ended(row: Row, outcome: Outcome) -> Row:
    why = outcome.error or row.why
    return Row(row.notebook, outcome.status, why, round(outcome.seconds, 1), outcome.summary)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
