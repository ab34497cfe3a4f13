"""What all commands share: the application, options that several of them take, and how they speak and fail."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit.errors import RunError

if TYPE_CHECKING:
    from labkit.runs import Run

__all__ = [
    "AsJson",
    "Folder",
    "Parameters",
    "Root",
    "Scale",
    "app",
    "assigned",
    "fail_unless_done",
    "home_of",
    "labels_app",
    "reported",
    "resumable",
    "say",
    "show",
    "split",
    "world_app",
]

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


def _root(context: typer.Context, root: Path) -> Path:
    """The folder of runs that was named; where none was, that of a notebook opened here, said in short where it is ./runs."""
    from labkit.runs import runs_root

    if getattr(context.get_parameter_source("root"), "name", "") != "DEFAULT":
        return root.expanduser()
    found = runs_root()
    return root if found == Path.cwd() / root else found


Root = Annotated[Path, typer.Option(help="The folder of runs.", envvar="LABKIT_RUNS", callback=_root)]
Folder = Annotated[Path | None, typer.Option("--notebooks", help="The folder of notebooks; by default the lab's own.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """`main` reads --debug itself, because it must hold before a command is known."""


def say(line: str) -> None:
    """Print a line of progress at once, into a pipe or a file as well."""
    print(line, flush=True)


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C ends the command with a sentence: what is done stays, and the same command takes it up."""
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped; the same command goes on.", file=sys.stderr, flush=True)
        raise typer.Exit(130) from None  # what a shell says of a command that Ctrl-C ended


def show(report: Any, as_json: bool) -> None:
    """Print a report; a character that has no UTF-8 (half of a pair, as hostile names have) by its code."""
    import json

    text = json.dumps(report.to_json(), indent=1, ensure_ascii=False) if as_json else report.text()
    print(text.encode("utf-8", errors="backslashreplace").decode("utf-8"))


def home_of(notebooks: Path | None) -> Path:
    """The folder of the lab's notebooks, found by its first one."""
    from labkit.batch.parameters import find_notebook

    return Path(notebooks).resolve() if notebooks else find_notebook("01_prompts").parent


def assigned(items: list[str] | None, scale: str | None) -> dict[str, Any]:
    from labkit.batch.parameters import parse_assignments

    return parse_assignments([*(items or []), *([f"scale={scale}"] if scale else [])])


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def fail_unless_done(errors: list[str]) -> None:
    if errors:
        raise RunError("\n".join(errors))


def reported(run: Run, failed: list[str]) -> Path:
    """Write the run's report; where that fails as well (a full disk), what failed before is said first."""
    from labkit.batch.report import write_report

    try:
        return write_report(run)
    except (RunError, OSError) as error:
        fail_unless_done([*failed, f"There is no report of it: {error}"] if failed else [])
        raise
