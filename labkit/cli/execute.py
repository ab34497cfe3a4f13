"""Commands that make runs and look after them: execute notebooks, sweep, report, close what was left running, tidy, compare, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labkit.cli.common import (
    AsJson,
    Folder,
    Parameters,
    Root,
    Scale,
    app,
    assigned,
    fail_unless_done,
    home_of,
    reported,
    resumable,
    say,
    show,
)


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="Name of the run: runs/NAME.")] = "main",
    only: Annotated[list[str] | None, typer.Option(help="Only this notebook (repeatable), e.g. 02_sft.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Run even what is done and unchanged.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would run, and why.")] = False,
    p: Parameters = None,
    scale: Scale = None,
    root: Root = Path("runs"),
    notebooks: Folder = None,
) -> None:
    """Execute the notebooks 01 to 06 in order into one run folder; skip what is done and unchanged, and say why."""
    from labkit.batch import pipeline
    from labkit.batch.pages import caution
    from labkit.batch.parameters import find_notebook
    from labkit.batch.records import pipeline_notebooks
    from labkit.runs import Run

    chosen = [find_notebook(n, notebooks) for n in only] if only else pipeline_notebooks(home_of(notebooks))
    here, given = Run(name, root), assigned(p, scale)
    if dry:
        print(pipeline.table(pipeline.plan(here, chosen, given, again=again), ("notebook", "action", "why")))
        return
    rows = pipeline.pipeline(here, chosen, given, again=again, say=say)
    failed = [row.why for row in rows if row.action in ("failed", "stopped")]
    print(f"\n{pipeline.table(rows, ('notebook', 'action', 'seconds', 'summary'))}")
    report = reported(here, failed)
    print(f"{caution(here)}\nReport: {report}")
    fail_unless_done(failed)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="A notebook's name or path, e.g. 05_ppo_ptx.")],
    run: Annotated[str, typer.Option("--run", help="Name of the run: runs/RUN.")] = "main",
    p: Parameters = None,
    scale: Scale = None,
    root: Root = Path("runs"),
    notebooks: Folder = None,
) -> None:
    """Execute one notebook headless into a run folder, whatever was done before."""
    from labkit.batch.notebooks import as_prepared, execute, resolve_parameters
    from labkit.batch.pages import caution
    from labkit.batch.parameters import find_notebook
    from labkit.batch.pipeline import begun_late
    from labkit.batch.report import summary_table
    from labkit.runs import Run

    path, here = find_notebook(name, notebooks), Run(run, root)
    values = resolve_parameters(path, as_prepared(path, assigned(p, scale), here), run)
    if new := begun_late(here, path, values):
        say(new)
    outcome = execute(path, here, values, echo=say)
    report = reported(here, [] if outcome.status == "done" else [outcome.error])
    outcome.raise_if_failed()
    print(f"\n{summary_table(here, path.stem)}\n{caution(here)}".rstrip())
    print(f"\n{outcome.seconds:.0f} s. Report: {report}")


@app.command()
def demo(root: Root = Path("runs"), notebooks: Folder = None, p: Parameters = None) -> None:
    """The whole method in minutes: the tour, headless, into runs/tour/, with a summary table and a report."""
    notebook("00_tour", run="tour", p=p, root=root, notebooks=notebooks)


@app.command()
def sweep(
    name: Annotated[str, typer.Argument(metavar="NOTEBOOK", help="A notebook's name or path, e.g. 05_ppo_ptx.")],
    p: Annotated[list[str], typer.Option("-p", "--parameter", metavar="NAME=V1,V2", help="Repeatable.")],
    base: Annotated[str | None, typer.Option("--from", help="Run whose earlier stages each point starts from.")] = None,
    sweep_name: Annotated[str | None, typer.Option("--name", help="runs/NAME; default: NOTEBOOK-sweep.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Points at once; default: one per GPU, else per core.", min=1)] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Run on a Ray cluster (RAY_ADDRESS) that shares this disk.")
    ] = False,
    root: Root = Path("runs"),
    notebooks: Folder = None,
) -> None:
    """Run a notebook over a grid of parameters and seeds, several at once; the same command resumes or extends it."""
    from tabulate import tabulate

    from labkit.batch import compare
    from labkit.batch.parameters import find_notebook, parse_assignments
    from labkit.batch.sweep import sweep as run_sweep
    from labkit.runs import Run

    path = find_notebook(name, notebooks)
    title = sweep_name or f"{path.stem}-sweep"
    source = Run(base, root) if base else None
    with resumable():
        outcomes = run_sweep(path, parse_assignments(p), name=title, root=root, base=source, jobs=jobs, ray=ray, say=say)
    page = compare.write_comparison(Path(root) / title, path)
    points = compare.results(Path(root) / title, path)
    header, rows = compare.comparison_table(compare.groups(points))
    print("\n" + tabulate(rows, header, disable_numparse=True))
    for point in points:
        if point["outdated"]:
            print(f"Left out, outdated: {point['point']} ({point['outdated']}).")
    print(f"\nComparison: {page}")
    fail_unless_done([f"{point}: {o.error}" for point, o in outcomes.items() if o.status != "done"])


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="Name of the run: runs/NAME.")],
    sheet: Annotated[bool, typer.Option("--sheet", help="Only the model sheet.")] = False,
    root: Root = Path("runs"),
) -> None:
    """Write the HTML report of a run (or only its model sheet) and print its path."""
    from labkit.batch.report import write_report
    from labkit.batch.sheet import write_sheet
    from labkit.runs import Run

    print(write_sheet(Run(name, root)) if sheet else write_report(Run(name, root)))


@app.command()
def close(
    name: Annotated[str, typer.Argument(help="Name of the run, or of a sweep: runs/NAME.")],
    gone: Annotated[str, typer.Option(help="The machine that is gone for good: close what its processes left running.")] = "",
    silent: Annotated[float, typer.Option(help="Minutes without a sign of life before a stage may be closed.", min=0)] = 60,
    as_json: AsJson = False,
    root: Root = Path("runs"),
) -> None:
    """Show what is running in a run, by which process, and its last sign of life; with --gone close what nobody runs any more."""
    from labkit.batch.closing import close_gone
    from labkit.runs import Run

    found = close_gone(Run(name, root), gone, silent=60 * silent)
    show(found, as_json)
    fail_unless_done(list(found.refused))


@app.command()
def tidy(
    name: Annotated[str, typer.Argument(help="Name of the run, or of a sweep: runs/NAME; by default all runs.")] = "",
    free: Annotated[
        list[str] | None, typer.Option(metavar="PART", help="Remove this part for good: its name in the table, or a pattern in quotes. Repeatable.")
    ] = None,
    as_json: AsJson = False,
    root: Root = Path("runs"),
) -> None:
    """List what lies aside in runs, with size and age: what reruns put aside (.old), and what killed processes left half done. With --free remove it."""
    from labkit.batch.tidying import tidy as look_through
    from labkit.runs import Run

    found = look_through(Run(name, root).path if name else root, free or ())
    show(found, as_json)
    fail_unless_done(list(found.refused))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs, or their folders, wherever they lie; they are only read.")],
    as_json: AsJson = False,
    root: Root = Path("runs"),
) -> None:
    """Several runs side by side: a row per policy, with its knobs, whether a hand steered it, its last numbers and whether it still holds."""
    import json

    from tabulate import tabulate

    from labkit.experiment.side_by_side import policies, shown

    rows = policies(runs, root)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    print(tabulate(shown(rows), "keys", floatfmt=".3f", missingval=""))
    print("\nScore, gold and KL are those of the last step; gold on test prompts and preference are those of 06_evaluate; all as recorded.")


@app.command()
def replay(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Name of the recorded run, or its folder, wherever it lies; it is only read.")],
    run: Annotated[str, typer.Option("--run", help="Name of the new run: runs/RUN, not there yet.")],
    root: Root = Path("runs"),
) -> None:
    """Make a recorded run again from its labels, settings and ledgers, and say of each part whether it is the same."""
    from tabulate import tabulate

    from labkit.experiment.replay_whole import facts_of, replay_run
    from labkit.findings.scales import lab_at
    from labkit.runs import Run, run_at

    recorded = run_at(old, root)
    rows = replay_run(recorded, lab_at(Run(run, root), **facts_of(recorded)), say=say)
    columns = ("part", "steps", "numbers", "weights")
    print("\n" + tabulate([[getattr(row, name) for name in columns] for row in rows], columns, missingval=""))
    fail_unless_done([f"{row.part}: {row.note or 'other weights than recorded'}" for row in rows if not row.same])
    print(f"\n{root / run} is {recorded.path} again, number for number.")
