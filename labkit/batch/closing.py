"""`labkit close`: stages that say that they are running, though the process that wrote them is gone for good.

A process of this machine that was killed is noticed by itself. One of another machine cannot be looked at from here, and one
that is paused by hand writes nothing and lives: so a person says which machine is gone, and whatever gave a sign of life
not long ago is refused all the same. Closing writes one thing, the status in run.json; every other file stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labkit.errors import RunError
from labkit.processes import writer_is_alive
from labkit.runs import Run, StageFolder, stages_in

__all__ = ["SILENT", "Closing", "Unended", "close_gone", "moment", "span", "unended"]

SILENT = 3600.0  # seconds without a sign of life after which a machine may be believed gone


@dataclass(frozen=True)
class Unended:
    """A stage, or the record of a notebook, that says that it is running."""

    part: str  # its folder, seen from the run's
    stage: StageFolder
    host: str
    process: int | None
    started: float
    seen: float  # when a file of its folder was last written
    file: str  # which one
    alive: bool | None  # None: a process of another machine cannot be looked at from here
    closed: bool = False

    @property
    def silent(self) -> float:
        """Seconds without a sign of life; negative where the clock that stamped it goes ahead of ours."""
        return time.time() - self.seen

    def to_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in ("part", "host", "process", "started", "alive", "closed")}
        return {**told, "last_sign_of_life": self.seen, "in_file": self.file, "silent_seconds": self.silent}


@dataclass(frozen=True)
class Closing:
    """What was running in a run, and what of it was closed or refused."""

    rows: tuple[Unended, ...]
    refused: tuple[str, ...] = ()

    @property
    def closed(self) -> list[str]:
        return [row.part for row in self.rows if row.closed]

    def to_json(self) -> dict[str, Any]:
        return {"running": [row.to_json() for row in self.rows], "refused": list(self.refused)}

    def text(self) -> str:
        """A table, and what may be done."""
        from tabulate import tabulate

        if not self.rows:
            return "Nothing is running here: there is nothing to close."
        table = [
            {
                "part": row.part,
                "process": f"{row.process} on {row.host}",
                "alive": {True: "yes", False: "no", None: "cannot be told from here"}[row.alive],
                "started": moment(row.started),
                "last sign of life": f"{moment(row.seen)}, {span(row.silent)} ago ({row.file})",
                "closed": "yes, as failed" if row.closed else "no",
            }
            for row in self.rows
        ]
        return f"{tabulate(table, 'keys')}\n\n{self._what_now()}"

    def _what_now(self) -> str:
        if self.closed:
            return (
                f"Closed: {', '.join(self.closed)}; their files are as they were. What runs again begins anew and moves them "
                "aside, a job's start(resume=True) goes on from the newest snapshot."
            )
        hosts = sorted({row.host for row in self.rows if not row.alive})
        if not hosts:
            return "Nothing was closed: all of these processes are alive."
        return f"Nothing was closed. Where a machine, or its process, is gone for good, say so: --gone {' or --gone '.join(hosts)}."


def unended(run: Run) -> list[Unended]:
    """All that says that it is running in the run, in points of a sweep, in rounds and in notebooks' records too."""
    return [_look(run, stage) for stage in stages_in(run.path, "**") if stage.status == "running"]


def close_gone(run: Run, gone: str = "", *, silent: float = SILENT) -> Closing:
    """Close as failed what a process of the machine `gone` left running; without a machine only say what is running.

    Refused is what may be alive: a process of this machine that is there, and anything that gave a sign of life within the
    last `silent` seconds. Raises RunError where there is no such run, or nothing of it was left running on that machine.
    """
    if not run.path.is_dir():
        raise RunError(f"{run.path} does not exist; check the name of the run, and --root.")
    found, refused, rows = unended(run), [], []
    hosts = sorted({row.host for row in found})
    if gone and found and gone not in hosts:
        raise RunError(f"Nothing in {run.path} was left running on {gone}; there is something of {', '.join(hosts)}.")
    for row in found:
        if row.host == gone:
            row, said = _close(run, row, silent)
            refused += said
        rows.append(row)
    return Closing(tuple(rows), tuple(refused))


def _close(run: Run, row: Unended, silent: float) -> tuple[Unended, list[str]]:
    """The row, closed, or with the sentence that says why not; looked at once more, as it may have moved meanwhile."""
    row = _look(run, row.stage)
    who = f"{row.part} is not closed: process {row.process} on {row.host}"
    if row.alive:
        return row, [f"{who} is alive; stop it there."]
    if row.silent < silent:
        return row, [
            f"{who} gave a sign of life {span(row.silent)} ago ({row.file}); wait until it is silent for {span(silent)}, or "
            "lower --silent where you know that it is gone."
        ]
    row.stage.finish(
        "failed",
        error=f"Closed by hand: process {row.process} on {row.host} was said to be gone; its last sign of life was {moment(row.seen)}.",
        closed_by_hand=True,
        last_sign_of_life=row.seen,
    )
    return replace(row, closed=True), []


def _look(run: Run, stage: StageFolder) -> Unended:
    told = stage.manifest
    seen, file = max((f.stat().st_mtime, str(f.relative_to(stage.path))) for f in _files(stage.path))
    part = str(stage.path.relative_to(run.path))
    return Unended(part, stage, told.get("host") or "unknown", told.get("pid"), told["started"], seen, file, writer_is_alive(told))


def _files(folder: Path) -> Iterator[Path]:
    return (f for f in folder.rglob("*") if f.is_file())


def moment(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def span(seconds: float) -> str:
    """Words for a length of time: "9 h 12 min"."""
    minutes = max(0, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
