"""Commands that judge: agreement between labelers, the screening of candidates, win rates, labels handed on, public benchmarks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labkit.cli.common import AsJson, Root, app, fail_unless_done, labels_app, show, split


@app.command()
def agreement(
    files: Annotated[list[Path], typer.Argument(help="JSONL files or folders of rankings or ratings.")],
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Agreement between labelers, with intervals: pairwise, Kendall tau-b, Krippendorff alpha, kappas."""
    from labkit.labels.agreement import agreement_of_files

    show(agreement_of_files(files, seed=seed), as_json)


@app.command()
def screening(
    files: Annotated[list[Path], typer.Argument(help="The candidates' labels: JSONL files or folders, as `labkit agreement` reads them.")],
    reference: Annotated[
        list[Path] | None, typer.Option(help="Labels of those who know (repeatable); without, the majority of the other candidates.")
    ] = None,
    demonstrations: Annotated[Path | None, typer.Option(help="JSONL of prompt, labeler (who wrote it) and rating, 1 to 7.")] = None,
    abilities: Annotated[Path | None, typer.Option(help="JSONL of labeler and covers, the topics they say they can judge.")] = None,
    bar: Annotated[list[str] | None, typer.Option(metavar="CRITERION=BAR", help="Repeatable; default: the paper's, 0.75, 0.75 and 6.")] = None,
    fewest: Annotated[int, typer.Option(help="With fewer prompts than this nothing is decided.", min=2)] = 20,
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """The paper's screening test on stored labels: sensitive speech, rankings, demonstrations, abilities; and who passes."""
    from labkit.labels.screening import screening as screen

    given = {"reference": reference or (), "demonstrations": demonstrations, "abilities": abilities}
    show(screen(files, **given, bars=dict(b.partition("=")[::2] for b in bar or []), fewest=fewest, seed=seed), as_json)


@app.command()
def winrate(
    files: Annotated[list[Path], typer.Argument(help="JSONL files of pairwise judgments or rankings.")],
    as_json: AsJson = False,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Win rates with intervals clustered by prompt, Bradley-Terry scores and order, for any set of judgments."""
    from labkit.evaluation.winrate import winrate_of_files

    show(winrate_of_files(files, seed=seed), as_json)


@labels_app.command("export")
def labels_export(
    files: Annotated[list[Path], typer.Argument(help="Label logs, folders of them, or other files of rankings.")],
    out: Annotated[Path, typer.Option(help="The JSONL file to write.")],
    to: Annotated[
        str, typer.Option(help="kwise: a row per ranking, with all that is known; trl: a row per pair; remarks: a row per card put aside, and per note.")
    ] = "kwise",
    margin: Annotated[
        str, typer.Option(help="Of a pair: own (what it came with, else rank), rank (places between), likert or none.")
    ] = "own",
) -> None:
    """Hand labels on, as K-wise rows grouped by prompt, as TRL's prompt, chosen, rejected and margin, or what labelers said in words."""
    from labkit.labels.exchange.files import export

    print(export(files, out, to, margin))


@app.command()
def benchmarks(
    name: Annotated[str, typer.Argument(help="Name of the run: runs/NAME, where the results are written.")] = "main",
    models: Annotated[
        str, typer.Option(help="Comma-separated stages, base, folders or hub names; by default all that the run has.")
    ] = "",
    tasks: Annotated[
        str, typer.Option(help="paper, world (miniatures), or names of lm-eval's or your own tasks, comma-separated.")
    ] = "world",
    data: Annotated[Path | None, typer.Option(help="A folder of task files (YAML), local data, or both.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first questions of each task.")] = None,
    shots: Annotated[int | None, typer.Option(help="Examples before each question; default: as each task says.")] = None,
    batch_size: Annotated[int, typer.Option(help="Questions that a model reads at once.")] = 16,
    as_json: AsJson = False,
    root: Root = Path("runs"),
) -> None:
    """Public benchmarks and your own tasks by lm-evaluation-harness (the eval extra): a table of models."""
    from labkit.evaluation.harness import benchmarks as ask
    from labkit.runs import Run

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    chosen = {"data": data, "limit": limit, "shots": shots, "batch_size": batch_size}
    found = ask(Run(name, root), split(models), split(tasks), **chosen, say=say)
    show(found, as_json)
    fail_unless_done(found.failed)
