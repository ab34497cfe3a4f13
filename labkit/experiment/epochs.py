"""The model of each SFT epoch, kept so that the RM can choose one later; those that a rollback undid are removed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.runs import StageFolder
from labkit.types import Step

if TYPE_CHECKING:
    from labkit.sft import SFTState

__all__ = ["drop_superseded", "with_epochs_kept"]


def with_epochs_kept(
    steps: Generator[Step], state: SFTState, folder: Callable[[], StageFolder]
) -> Iterator[Step]:
    """The same Steps; after one that ends an epoch the model is saved. `folder` is asked each time: a job may branch."""
    with closing(steps):
        for step in steps:
            newest = state.epochs[-1] if state.epochs else {}
            if newest.get("step") == step.number:
                state.save_model(path_of(folder(), newest["epoch"]))
            yield step


def drop_superseded(folder: StageFolder, state: SFTState) -> None:
    """Remove the models of epochs that a rollback undid: they must not be chosen."""
    counted = {path_of(folder, row["epoch"]) for row in state.epochs}
    for path in (folder.path / "epochs").glob("[0-9]*"):
        if path not in counted:
            shutil.rmtree(path)


def path_of(folder: StageFolder, epoch: int) -> Path:
    """Where the model of an epoch lies, as `sft.score_epochs` looks for it."""
    return folder.path / "epochs" / f"{epoch:02d}"
