"""Folders of weights on disk: written beside the old one and swapped in whole; a full disk or a torn file ends in one sentence.

Whoever may read the folder may read what is in it: safetensors makes files that only their owner can read.
safetensors reports both by an error of its own, which is no OSError; here it joins the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from labkit.disk import may_not_read, what_to_do, write_json
from labkit.errors import RunError, SnapshotError

__all__ = ["UNREADABLE", "new_folder", "read_snapshot", "torn_weights", "write_facts"]

#: What `transformers` and safetensors raise where a model is missing, torn or no model at all.
UNREADABLE = (OSError, ValueError, SafetensorError)


@contextlib.contextmanager
def new_folder(folder: Path, what: str) -> Iterator[Path]:
    """A scratch folder to fill, which takes the place of `folder` when the block ends well.

    When it does not, the scratch folder goes and `folder` stays as it was; a full disk is a RunError that names it.
    """
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)  # left by an earlier process of this number
    try:
        scratch.mkdir(parents=True)
        yield scratch
        _settle(scratch)
        _swap_in(scratch, folder)
    except Exception as error:
        if not (isinstance(error, (OSError, SafetensorError, RunError)) or type(error) is Exception):
            raise  # `tokenizers` raises a bare Exception where a file cannot be written
        reason = str(error.__cause__ or error).strip().rstrip(".")
        raise RunError(
            f"The {what} {folder} could not be written: {reason}. {what_to_do(error.__cause__ or error)}; what lay there before is untouched."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """state.json of a snapshot whose other files are all there: the facts, and the size of each file."""
    write_json(folder / "state.json", {**facts, "files": {f.name: f.stat().st_size for f in sorted(folder.iterdir())}})


def read_snapshot(
    folder: Path, needed: Sequence[str], *, after_a_step: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """The facts of state.json and all tensor files of a snapshot, read before anything is changed.

    A snapshot is whole if it has the `needed` files, past step 0 those of `after_a_step` too, and all that its state.json
    lists (those of older versions list none), in their sizes.
    """
    file = folder / "state.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        missing = {"step", "knobs"} - set(facts)
        if missing:
            raise ValueError(f"it has no {min(missing)!r}")
        sizes = facts.pop("files", {})
        for name in sorted({*needed, *(after_a_step if facts["step"] else ()), *sizes}):
            file = folder / name
            size = file.stat().st_size
            if size != sizes.get(name, size):
                raise ValueError(f"it has {size:,} of {sizes[name]:,} bytes")
        tensors = {}
        for file in sorted(folder.glob("*.safetensors")):
            tensors[file.stem] = load_file(file)
    except UNREADABLE as error:
        if sentence := may_not_read(folder):
            raise RunError(f"{sentence}, or choose another snapshot.") from error
        raise SnapshotError(
            f"{folder} is not a complete snapshot ({file.name}: {error}); choose another one under {folder.parent}."
        ) from error
    return facts, tensors


def torn_weights(folder: str | Path) -> str:
    """A sentence on the first weight file of a folder that is not whole; empty where all are."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f" {file} is damaged ({error}): remove that folder and make the model again."
    return ""


def _settle(folder: Path) -> None:
    """Give all files of a new folder the rights that the folder itself was made with, by the umask, and see them onto the disk."""
    rights = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        file.chmod(file.stat().st_mode | rights)
        if file.is_file():
            with open(file, "rb+") as whole:  # else a power cut after the swap may leave an empty file under a whole one's name
                os.fsync(whole.fileno())


def _swap_in(scratch: Path, folder: Path) -> None:
    """Put a finished folder in place of an old one, which comes back where that fails."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    try:
        scratch.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
