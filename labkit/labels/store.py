"""The label log: one append-only JSONL file of events per labeler, written by one process at a time.

    runs/<name>/labels/<labeler>.jsonl      {"n": 7, "time": 1.7e9, "event": "draft", "task": "p1:3fa9c1", ...}

Every event is on the disk (fsync) before its effect is seen, so a killed kernel loses at most the move being made.
What a person did is never rewritten: undo is one more event. state.py says what the events amount to.

    open           a session began: labeler, seed, process, user of which machine; `torn` keeps the half line that a killed writer left
    shown          a card came up: task, order of its completions, why it was chosen
    draft          groups, ratings and comment of one card, whole (action)
    submit         the ranking, whole, with its prompt, completions and their provenance (action)
    skip           with a reason, and the card as it was put aside (action); of a card that is ranked it takes nothing away
    cannot_judge   with a reason, and the card (action)
    leave          a decided card was looked at again and stays as it was decided (action)
    undo, redo     takes back, or repeats, the last action; reaches past submits and restarts
    revisit        tasks to be shown again next, worst first
    note           free text on a task or the session
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import platform
import sys
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.disk import as_line, read_jsonl
from labkit.errors import RunError
from labkit.labels.state import IDLE_SECONDS, Draft, LabelState, fold
from labkit.processes import lock
from labkit.runs import check_name
from labkit.types import Ranking

__all__ = [
    "Draft",
    "LabelLog",
    "LabelState",
    "MemoryLog",
    "fold",
    "labels_hash",
    "labels_path",
    "read_log",
    "read_logs",
    "read_rankings",
    "said_of_names",
]

#: The notebooks' name for whoever gives none: the one name that several people may give without knowing of each other.
NAMELESS = "me"


def labels_path(run_path: str | Path, labeler: str) -> Path:
    """Where a labeler's log lives inside a run folder; refuses a labeler id that is no safe file name."""
    return Path(run_path) / "labels" / f"{check_name(labeler, 'labeler')}.jsonl"


def read_log(path: str | Path) -> LabelState:
    """The state of a log on disk, without opening it for writing; a torn last line is passed over."""
    return fold(read_jsonl(Path(path)))


def read_logs(files: Iterable[str | Path]) -> dict[Path, LabelState]:
    """The states of several logs. Those of one labeler's name that were begun apart are of whom their files are named by.

    So people who all called themselves "me", each in a run of their own, are told apart once their logs lie in one folder.
    Copies of one log stay one labeler's.
    """
    found = {file: read_log(file) for file in map(Path, files)}
    shared = {name for name, begun in _begun(found).items() if len(begun) > 1}
    for file, state in found.items():
        if state.labeler in shared and file.stem != state.labeler:
            state.labeler = file.stem
            state.submitted = {task: replace(ranking, labeler=file.stem) for task, ranking in state.submitted.items()}
    return found


def said_of_names(logs: Mapping[Path, LabelState]) -> str:
    """A caution where logs that were begun apart count as one labeler's; empty where there is none."""
    for name, begun in _begun(logs).items():
        if len(begun) > 1:
            return (
                f"{len(begun)} logs that were begun apart are by one name, {name!r}, and count as one labeler's. Where they are several people, "
                "copy the logs into one folder, each named by whose it is (ann.jsonl)."
            )
    return ""


def _begun(logs: Mapping[Path, LabelState]) -> dict[str, set[str]]:
    """Labeler -> how each of the logs by that name begins: copies of one log begin alike."""
    found: dict[str, set[str]] = {}
    for file, state in logs.items():
        found.setdefault(state.labeler, set()).add(as_line(next(read_jsonl(file), {})))
    return found


def read_rankings(*paths: str | Path) -> list[Ranking]:
    """All rankings in force in the given logs (a folder stands for its *.jsonl files); silent repeats are left out."""
    files = [f for p in map(Path, paths) for f in (sorted(p.glob("*.jsonl")) if p.is_dir() else [p])]
    return [ranking for state in read_logs(files).values() for ranking in state.rankings.values()]


def labels_hash(folder: Path) -> str:
    """Twelve hex digits of the rankings in force in a folder of logs that order anything; a folder that is not there has none.

    Looking at a board changes nothing, nor does a note, nor a card on which all tie: nothing is learnt from them.
    """
    told = [replace(r, comment="").to_json() for r in read_rankings(*sorted(folder.glob("*.jsonl"))) if r.pairs()]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:12]


def _here() -> tuple[str, str]:
    """The system's name of this user, empty where it has none, and of this machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as in containers
        user = ""
    return user, platform.node()


class MemoryLog:
    """A log that keeps nothing: for a demonstration, for looking at what another log holds (`state`), and the null object behind `LabelLog`."""

    def __init__(
        self, labeler: str, *, seed: int = 0, clock: Callable[[], float] = time.time, state: LabelState | None = None
    ) -> None:
        self.labeler, self.clock, self.state = check_name(labeler, "labeler"), clock, state or LabelState()
        self._begin(seed)

    def append(self, event: str, **content: Any) -> dict[str, Any]:
        """Write one event, then let the state take it in; returns the event as a reader will see it."""
        row = {"n": self.state.events + 1, "time": self.clock(), "event": event, **content}
        line = as_line(row)
        self._write(line.encode() + b"\n")
        row = json.loads(line)
        self.state.apply(row)
        return row

    def seconds(self, task: str) -> float:
        """Seconds of work on a card up to now; pauses count up to five minutes each."""
        running = self.state.current == task and self.state.last_time is not None
        gap = max(self.clock() - self.state.last_time, 0.0) if running else 0.0
        return self.state.spent.get(task, 0.0) + min(gap, IDLE_SECONDS)

    def close(self) -> None:
        """Nothing to give up."""

    def _begin(self, seed: int, **more: str) -> None:
        user, host = _here()
        who = {"session": uuid.uuid4().hex[:8], "pid": os.getpid(), "host": host, **({"user": user} if user else {})}
        self.append("open", labeler=self.labeler, seed=seed, **who, **more)

    def _write(self, line: bytes) -> None:
        """Nothing to write to."""


class LabelLog(MemoryLog):
    """The one writer of a log file. `append` returns when the event is on the disk.

    A second process is refused (file lock, and a size check where locks do not work). A second opening in the same
    process takes over from the first, so that a notebook cell can be run again.
    """

    _open: weakref.WeakValueDictionary[str, LabelLog] = weakref.WeakValueDictionary()

    def __init__(
        self, path: str | Path, labeler: str, *, seed: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self.path, self.labeler, self.clock = Path(path), check_name(labeler, "labeler"), clock
        self._fd: int | None = None
        earlier = self._open.get(str(self.path.resolve()))
        if earlier is not None:
            earlier.close()
        self._fd = self._lock()
        try:
            torn = self._repair()
            self.state = read_log(self.path)
            if self.state.labeler not in ("", self.labeler):
                raise RunError(
                    f"{self.path} holds the labels of {self.state.labeler!r}, not of {labeler!r}; "
                    "give each labeler a file."
                )
        except BaseException:
            self.close()
            raise
        self._open[str(self.path.resolve())] = self
        self._say_whose()
        self._begin(seed, **({"torn": torn} if torn else {}))

    def close(self) -> None:
        """Give up the file; further appends are errors."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _say_whose(self) -> None:
        """A line where others labeled under the name that stands for none. It may be one person at two machines, who is to go on."""
        user, host = _here()
        others = [(u, h) for u, h in self.state.labeled_at if h != host or (u and user and u != user)]
        if self.labeler == NAMELESS and others:
            them, you = " and ".join(f"{u or 'somebody'} on {h}" for u, h in others[-3:]), f"{user or 'somebody'} on {host}"
            remedy = f"If that was another person, put a name of your own in place of labeler = {NAMELESS!r}: else your labels count as theirs."
            print(f"{self.path} holds labels by {them}; you are {you}. {remedy} If it was you, go on.", file=sys.stderr, flush=True)

    def _lock(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            message = f"Could not open {self.path}: {error.strerror}. Where it is somebody else's, label under another labeler id, else choose another folder."
            raise RunError(message) from None
        if not lock(fd, wait=False):
            os.close(fd)
            raise RunError(
                f"{self.path} is being written by another process (a second notebook or kernel); "
                "shut that one down, or label under another labeler id."
            )
        return fd

    def _repair(self) -> str:
        """Cut off the half line that a killed writer left, and return it; a whole last line only gets its line end."""
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        tail, self._size = content[end:].decode("utf-8", errors="replace"), len(content)
        if not tail:
            return ""
        with contextlib.suppress(ValueError):
            json.loads(tail)
            self._write(b"\n")
            return ""
        os.ftruncate(self._fd, end)
        os.fsync(self._fd)
        self._size = end
        return tail

    def _write(self, line: bytes) -> None:
        if self._fd is None:
            raise RunError(f"{self.path} was opened again in this process, or closed; use the newer session.")
        found = os.fstat(self._fd).st_size
        if found != self._size:
            raise RunError(
                f"{self.path} changed under this session ({found} bytes, expected {self._size}): "
                "there is a second writer. Close one of the two and open the session again; nothing was overwritten."
            )
        try:
            if os.write(self._fd, line) < len(line):
                raise OSError(28, "No space left on device")
            os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            message = f"Could not append to {self.path}: {error.strerror}. Free some space and repeat the last move."
            raise RunError(message) from error
        self._size += len(line)
