"""`labkit tidy`: what lies aside in runs and nothing lists: what a rerun put aside, and what killed processes left half done.

    NAME.20261127-101500-4711.old    a stage, record or file that something newer took the place of (labkit.disk.put_aside)
    .NAME.4711.tmp                   half written, or half removed, as snapshots are (labkit.disk.discard)
    .NAME.4711.brought               half brought to a point of a sweep (labkit.batch.parents)
    .NAME.4711.old                   what was to be replaced (labkit.models.files)

Looking changes nothing. What is freed is named by a person, and is gone for good: nothing else is touched, links are removed and
not followed, and what somebody may still be at work on is refused.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from labkit.batch.closing import SILENT, moment, span
from labkit.disk import discard, what_to_do
from labkit.errors import RunError
from labkit.processes import process_is_there, writer_is_alive
from labkit.runs import StageFolder

__all__ = ["Aside", "Tidying", "tidy"]

_ASIDE = re.compile(r".+\.(\d{8}-\d{6})-\d+(?:-\d+)?\.old")
_HALF = re.compile(r"\.(.+)\.(\d+)\.(tmp|old|brought)")
_WHAT = {"tmp": "half written or removed", "old": "half replaced", "brought": "half brought"}


@dataclass(frozen=True)
class Aside:
    """A file or folder that lies aside; size: the bytes that freeing it gives back, files that are linked elsewhere too not counted."""

    part: str  # its path, seen from the folder that was looked through
    path: Path
    what: str
    size: int
    since: float  # when it was put aside, or last touched
    held: str = ""  # why it stays, whoever names it
    freed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("part", "what", "size", "since", "held", "freed")}


@dataclass(frozen=True)
class Tidying:
    """What lies aside, and what of it was freed or refused."""

    rows: tuple[Aside, ...]
    refused: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"aside": [row.to_json() for row in self.rows], "refused": list(self.refused)}

    def text(self) -> str:
        """A table, and what may be done."""
        from tabulate import tabulate

        if not self.rows:
            return "Nothing lies aside here."
        now = time.time()
        table = [
            {
                "part": row.part,
                "what": row.what,
                "size": _size(row.size),
                "since": f"{moment(row.since)}, {span(now - row.since)} ago",
                "freed": "yes" if row.freed else f"no: {row.held}" if row.held else "no",
            }
            for row in self.rows
        ]
        return f"{tabulate(table, 'keys', disable_numparse=True)}\n\n{self._what_now()}"

    def _what_now(self) -> str:
        if freed := [row for row in self.rows if row.freed]:
            return f"Freed: {_size(sum(row.size for row in freed))}, for good."
        free = [row for row in self.rows if not row.held]
        if not free:
            return "Nothing was freed: all of this is in use, or may be."
        return (
            f"Nothing was freed. {_size(sum(row.size for row in free))} may be, for good: --free with the name of a part, or with a pattern "
            "in quotes such as 'ppo_ptx.*.old' or '*'."
        )


def tidy(folder: Path, free: Sequence[str] = (), *, silent: float = SILENT) -> Tidying:
    """What lies aside in a folder of runs, or in one run; of it, what one of the names or patterns `free` means is removed.

    Refused is what may be in use: by a process of this machine, by a stage that says that it is running, or, of what is half
    done, by a process of another machine, where it was touched within the last `silent` seconds. Raises RunError where the
    folder is not there, where nothing is called as `free` says, or where something may not be removed.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} does not exist; check the name of the run, and --root.")
    rows = [_look(folder, path, silent) for path in _lying_aside(folder)]
    for name in free:
        if not any(fnmatchcase(row.part, name) for row in rows):
            there = f"there is {', '.join(row.part for row in rows)}" if rows else "nothing lies aside there"
            raise RunError(f"Nothing that lies aside in {folder} is called {name!r}; {there}. Nothing was freed.")
    ended, refused = [], []
    for row in rows:
        if any(fnmatchcase(row.part, name) for name in free):
            if row.held:
                refused.append(f"{row.part} is not freed: {row.held}.")
            else:
                row = _freed(row)
        ended.append(row)
    return Tidying(tuple(ended), tuple(refused))


def _lying_aside(folder: Path) -> Iterator[Path]:
    """Nothing inside of what lies aside: it goes or stays with it."""
    for here, folders, files in os.walk(folder):
        found = [name for name in (*folders, *files) if _ASIDE.fullmatch(name) or _HALF.fullmatch(name)]
        folders[:] = sorted(set(folders) - set(found))
        yield from (Path(here, name) for name in sorted(found))


def _look(folder: Path, path: Path, silent: float) -> Aside:
    stats = list(_stats(path))
    size = sum(s.st_size for s in stats if s.st_nlink == 1)  # a folder's own entry has two links and more
    part, aside, half = str(path.relative_to(folder)), _ASIDE.fullmatch(path.name), _HALF.fullmatch(path.name)
    if aside:
        return Aside(part, path, "put aside", size, time.mktime(time.strptime(aside[1], "%Y%m%d-%H%M%S")), _written(folder, path))
    since = max((s.st_ctime for s in stats), default=time.time())
    held = _at_work(path, half[1], int(half[2]), half[3], time.time() - since, silent) or _written(folder, path)
    return Aside(part, path, _WHAT[half[3]], size, since, held)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of a file or folder, and of all in it, as far as it is still there."""
    inside = (Path(here, name) for here, folders, files in os.walk(path) for name in (*folders, *files)) if not path.is_symlink() else ()
    for file in (path, *inside):
        with contextlib.suppress(FileNotFoundError):
            yield file.lstat()


def _at_work(path: Path, name: str, process: int, kind: str, age: float, silent: float) -> str:
    """Why what is half done stays: somebody may be at work on it, or it is all that there is."""
    if process_is_there(process):
        return f"process {process} may be at work on it"
    if kind == "old" and not path.with_name(name).exists():
        return f"it is all that there is of {name}, and gets its name back when the stage is resumed"
    if age < silent:
        return f"it was touched {span(age)} ago, perhaps by process {process} of another machine"
    return ""


def _written(folder: Path, path: Path) -> str:
    """Who writes a stage in `path`, or one in which it lies; empty where nobody does."""
    above = [p / "run.json" for p in path.parents if p.is_relative_to(folder)]
    for file in (*above, *(() if path.is_symlink() else sorted(path.rglob("run.json")))):
        if not file.is_file():
            continue
        try:
            told = StageFolder(file.parent).manifest
        except RunError:
            return f"{file} cannot be read, so nobody knows who writes it"
        if told["status"] == "running" and writer_is_alive(told) is not False:
            return f"process {told.get('pid')} on {told.get('host') or 'unknown'} says that it is writing {file.parent.name}"
    return ""


def _freed(row: Aside) -> Aside:
    try:
        if row.path.is_dir() and not row.path.is_symlink():
            discard(row.path)
        else:
            row.path.unlink()
    except OSError as error:
        remedy = what_to_do(error, "See whether another program holds it, and try again")
        raise RunError(f"{row.path} could not be removed: {error.strerror}. {remedy}; what is left of it lies beside it.") from error
    return replace(row, freed=True)


def _size(count: float) -> str:
    """A number of bytes as people read it: 1.2 GB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
