"""Commands of the world: its base models, trained anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labkit.cli.common import world_app


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
