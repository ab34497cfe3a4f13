"""The command line: `labkit run`, `sweep`, `notebook`, `report`, `replay`, `demo`, `world`, `agreement`, `winrate`,
`labels`, `findings`, `iterate`.

Thin on purpose: each command imports what it needs when it is called, so that `labkit --help` starts at once.
A LabError ends in its one sentence on stderr, with exit code 2 for bad input and 1 for a run that failed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from labkit.errors import InvariantError, LabError, RunError

app = typer.Typer(
    name="labkit",
    help="InstructGPT's method in Jupyter: run the notebooks headless, sweep, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
world_app = typer.Typer(help="The lab's small world with ground truth.", no_args_is_help=True)
app.add_typer(world_app, name="world")
labels_app = typer.Typer(help="Labels by hand.", no_args_is_help=True)
app.add_typer(labels_app, name="labels")

Parameters = Annotated[list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="Repeatable.")]
Scale = Annotated[str | None, typer.Option(help="Short for -p scale=...: how much of everything.")]
Root = Annotated[Path, typer.Option(help="The folder of runs.", envvar="LABKIT_RUNS")]
Folder = Annotated[Path | None, typer.Option("--notebooks", help="The folder of notebooks; by default the lab's own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """`main` reads --debug itself, because it must hold before a command is known."""


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
    from labkit.batch.parameters import find_notebook
    from labkit.batch.records import pipeline_notebooks
    from labkit.batch.report import write_report
    from labkit.runs import Run

    chosen = [find_notebook(n, notebooks) for n in only] if only else pipeline_notebooks(_home(notebooks))
    here, given = Run(name, root), _given(p, scale)
    if dry:
        print(pipeline.table(pipeline.plan(here, chosen, given, again=again), ("notebook", "action", "why")))
        return
    rows = pipeline.pipeline(here, chosen, given, again=again, say=_say)
    print("\n" + pipeline.table(rows, ("notebook", "action", "seconds", "summary")))
    print(f"\nReport: {write_report(here)}")
    _fail_unless_done([row.why for row in rows if row.action in ("failed", "stopped")])


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
    from labkit.batch.notebooks import execute
    from labkit.batch.parameters import find_notebook
    from labkit.batch.report import summary_table, write_report
    from labkit.runs import Run

    path, here = find_notebook(name, notebooks), Run(run, root)
    outcome = execute(path, here, _given(p, scale), echo=_say)
    report = write_report(here)
    outcome.raise_if_failed()
    print(f"\n{summary_table(here, path.stem)}\n\n{outcome.seconds:.0f} s. Report: {report}")


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
    jobs: Annotated[int | None, typer.Option(help="Points at once; default: one per GPU, else per core.")] = None,
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
    outcomes = run_sweep(path, parse_assignments(p), name=title, root=root, base=source, jobs=jobs, ray=ray, say=_say)
    page = compare.write_comparison(Path(root) / title, path)
    points = compare.results(Path(root) / title, path)
    header, rows = compare.comparison_table(compare.groups(points))
    print("\n" + tabulate(rows, header, disable_numparse=True))
    for point in points:
        if point["outdated"]:
            print(f"Left out, outdated: {point['point']} ({point['outdated']}).")
    print(f"\nComparison: {page}")
    _fail_unless_done([f"{point}: {o.error}" for point, o in outcomes.items() if o.status != "done"])


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
def replay(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Name of the recorded run: runs/OLD; it is only read.")],
    run: Annotated[str, typer.Option("--run", help="Name of the new run: runs/RUN, not there yet.")],
    root: Root = Path("runs"),
) -> None:
    """Make a recorded run again from its labels, settings and ledgers, and say of each part whether it is the same."""
    from tabulate import tabulate

    from labkit.experiment.replayed import facts_of, replay_run
    from labkit.findings.scales import lab_at
    from labkit.runs import Run

    recorded = Run(old, root)
    rows = replay_run(recorded, lab_at(Run(run, root), **facts_of(recorded)), say=_say)
    columns = ("part", "steps", "numbers", "weights")
    print("\n" + tabulate([[getattr(row, name) for name in columns] for row in rows], columns, missingval=""))
    _fail_unless_done([f"{row.part}: {row.note or 'other weights than recorded'}" for row in rows if not row.same])
    print(f"\n{root / run} is {root / old} again, number for number.")


@app.command()
def agreement(
    files: Annotated[list[Path], typer.Argument(help="JSONL files or folders of rankings or ratings.")],
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Agreement between labelers, with intervals: pairwise, Kendall tau-b, Krippendorff alpha, kappas."""
    from labkit.labels.agreement import agreement_of_files

    _show(agreement_of_files(files, seed=seed), as_json)


@app.command()
def winrate(
    files: Annotated[list[Path], typer.Argument(help="JSONL files of pairwise judgments or rankings.")],
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Win rates with intervals clustered by prompt, Bradley-Terry scores and order, for any set of judgments."""
    from labkit.evaluation.winrate import winrate_of_files

    _show(winrate_of_files(files, seed=seed), as_json)


@labels_app.command("export")
def labels_export(
    files: Annotated[list[Path], typer.Argument(help="Label logs, folders of them, or other files of rankings.")],
    out: Annotated[Path, typer.Option(help="The JSONL file to write.")],
    to: Annotated[
        str, typer.Option(help="kwise: a row per ranking, with all that is known; trl: a row per pair.")
    ] = "kwise",
    margin: Annotated[str, typer.Option(help="Of a pair: rank, likert or none.")] = "rank",
) -> None:
    """Hand labels on, as K-wise rows grouped by prompt or as TRL's prompt, chosen, rejected and margin."""
    from labkit.labels.exchange.files import export

    print(export(files, out, to, margin))


@app.command()
def findings(
    name: Annotated[str, typer.Argument(help="Name of the set of runs: runs/NAME.")] = "findings",
    scale: Annotated[str, typer.Option(help="How much of everything: findings, smoke, tour or full.")] = "findings",
    sizes: Annotated[str, typer.Option(help="Policy sizes, comma-separated.")] = "small,medium,large",
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated; 0 to 11 were used in development.")] = (
        "12,13,14,15,16"
    ),
    judge: Annotated[
        str, typer.Option(help="Size whose answers are ranked for the reward model; by default the middle one.")
    ] = "",
    sweep_sizes: Annotated[str, typer.Option(help="Sizes at which sweeps are made; by default the judge's.")] = "",
    jobs: Annotated[int | None, typer.Option(help="Pieces at once; default: one per GPU, else per core.")] = None,
    only_read: Annotated[bool, typer.Option("--read", help="Run nothing: only measure what is recorded.")] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Run nothing: print each run with what it costs, and the total.")
    ] = False,
    elsewhere: Annotated[
        list[Path] | None, typer.Option("--with", help="findings.json of other seeds, decided together. Repeatable.")
    ] = None,
    as_json: AsJson = False,
    root: Root = Path("runs"),
) -> None:
    """Reproduce the paper's findings: run what is missing, decide each of them, write a report. Resumable."""
    import json

    from labkit.findings.merge import joined
    from labkit.findings.plan import load_plan, plan_of, whole_numbers
    from labkit.findings.report import read_findings, summary_line, table_text, to_json, write_reports
    from labkit.runs import check_name

    home, errors = Path(root) / check_name(name), {}
    wanted = plan_of(scale, _split(sizes), whole_numbers(seeds), judge=judge, sweep=_split(sweep_sizes))
    if only_plan:
        from labkit.findings.price import price_list

        print(price_list(wanted, home))
        return
    if not only_read:
        from labkit.findings.execute import carry_out

        say = (lambda line: print(line, file=sys.stderr)) if as_json else print
        errors = carry_out(load_plan(home, wanted), home, jobs=jobs, say=say)
    records, outcomes = read_findings(home)
    plan, told = records.plan, ""
    for file in elsewhere or []:
        plan, outcomes, said = joined(plan, outcomes, file)
        told += said
    page = write_reports(home, records, outcomes, plan, told, elsewhere or [])
    if as_json:
        print(json.dumps(to_json(plan, outcomes), indent=1, ensure_ascii=False))
    else:
        print(f"\n{table_text(outcomes)}\n\n{summary_line(outcomes)}\nReport: {page}")
    _fail_unless_done([f"{key}: {error}" for key, error in errors.items()])


@app.command()
def iterate(
    name: Annotated[str, typer.Argument(help="Name of the run: runs/NAME; what it lacks is made first.")] = "main",
    rounds: Annotated[int, typer.Option(help="Rounds of rankings, reward model and policy.")] = 3,
    scale: Annotated[str, typer.Option(help="How much of everything: smoke, findings, tour or full.")] = "tour",
    seed: Annotated[int, typer.Option(help="Every random draw comes from it.")] = 0,
    model: Annotated[str | None, typer.Option(help="What the policy starts from; default: what the run says.")] = None,
    control: Annotated[
        bool, typer.Option(help="Also a policy from as many rankings of the SFT model alone, to compare with.")
    ] = True,
    root: Root = Path("runs"),
) -> None:
    """Iterated RLHF: each round's rankings come from the newest policy, then a new reward model, then a new policy."""
    from tabulate import tabulate

    from labkit.findings.scales import lab_at
    from labkit.iterate import against_control
    from labkit.iterate import iterate as run_rounds
    from labkit.runs import Run

    lab = lab_at(Run(name, root), scale, seed=seed, model=model)
    rows = run_rounds(lab, rounds=rounds, control=control)
    print("\n" + tabulate(rows, "keys", floatfmt=".3f", missingval="-"))
    print(f"\n{against_control(rows)}")
    print(f"\nRecord: {Path(root) / name / 'rounds' / 'results.json'}")


@world_app.command("pretrain")
def world_pretrain(
    sizes: Annotated[list[str] | None, typer.Argument(help="small, medium, large; by default all three.")] = None,
    scale: Annotated[float, typer.Option(help="Factor on the number of steps.")] = 1.0,
    folder: Annotated[Path | None, typer.Option(help="Where to put the bases; by default inside the package.")] = None,
) -> None:
    """Train the world's base models from its corpus, as the shipped ones were."""
    from labkit.world.pretrain import main as pretrain

    place = ["--folder", str(folder)] if folder else []
    pretrain([*(sizes or []), "--scale", str(scale), *place])


@world_app.command("reader")
def world_reader(
    scale: Annotated[float, typer.Option(help="Factor on the number of steps.")] = 1.0,
    folder: Annotated[Path | None, typer.Option(help="Where to put it; by default inside the package.")] = None,
) -> None:
    """Train the reward model's base from the medium base and the world's graded exercises, as the shipped one was."""
    from labkit.world.reader import main as train

    train(["--scale", str(scale), *(["--folder", str(folder)] if folder else [])])


def _say(line: str) -> None:
    """Print a line of progress at once, into a pipe or a file as well."""
    print(line, flush=True)


def _show(report: Any, as_json: bool) -> None:
    import json

    print(json.dumps(report.to_json(), indent=1, ensure_ascii=False) if as_json else report.text())


def _home(notebooks: Path | None) -> Path:
    """The folder of the lab's notebooks, found by its first one."""
    from labkit.batch.parameters import find_notebook

    return Path(notebooks).resolve() if notebooks else find_notebook("01_prompts").parent


def _given(items: list[str] | None, scale: str | None) -> dict[str, Any]:
    from labkit.batch.parameters import parse_assignments

    return parse_assignments([*(items or []), *([f"scale={scale}"] if scale else [])])


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _fail_unless_done(errors: list[str]) -> None:
    if errors:
        raise RunError("\n".join(errors))


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except LabError as error:
        if "--debug" in sys.argv:
            raise
        print(str(error), file=sys.stderr)
        sys.exit(1 if isinstance(error, (RunError, InvariantError)) else 2)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        print(f"{error.filename or 'A file'}: {error.strerror}. Check the path and the free space.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
