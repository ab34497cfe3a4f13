"""From a job to the page: its curves as packets of float32 rows, sent once and then only what is new.

A curve is a table: the step's number and one column per series key. `Feed.update` compares what was sent with what
the job has now, and so notices new steps, a rollback (the superseded steps stay as a ghost) and a branch (the trunk
stays beside it). No Jupyter here.
"""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.figures.panels import Panel, value_of
from labkit.figures.records import Record, named, read, win_rates
from labkit.runs import StageFolder
from labkit.types import Step

__all__ = ["Curve", "Feed", "LedgerTail", "WinRates", "series_keys"]

_GHOSTS = 4  # superseded pieces that stay on the charts
Packet = tuple[dict[str, Any], bytes]


def series_keys(panels: Sequence[Panel]) -> list[str]:
    """Every series and target that the panels draw, each once."""
    keys = [key for p in panels for key in (*(k for k, _ in p.series), p.target) if key]
    return list(dict.fromkeys(keys))


@dataclass
class Curve:
    """One run, branch or superseded piece, as rows of float32."""

    id: int
    name: str
    role: str  # live, trunk, ghost or beside
    keys: Sequence[str]
    rows: array = field(default_factory=lambda: array("f"))
    steps: list[Step] = field(default_factory=list)

    def append(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self.rows.append(step.number)
            self.rows.extend(value_of(step, key) for key in self.keys)
        self.steps.extend(steps)

    def cut(self, count: int) -> None:
        """Keep the first `count` steps."""
        del self.rows[count * (len(self.keys) + 1) :]
        del self.steps[count:]

    def packet(self, start: int = 0) -> Packet:
        """The rows from `start` on; whoever receives it drops what it held from there."""
        head = {"kind": "curve", "id": self.id, "name": self.name, "role": self.role, "start": start}
        width = len(self.keys) + 1
        return {**head, "count": len(self.steps), "width": width}, self.rows[start * width :].tobytes()


class Feed:
    """The curves of one job, with those of other runs beside it, which may be training too."""

    def __init__(self, job: Any, panels: Sequence[Panel], beside: Any = None) -> None:
        self.job, self.keys = job, series_keys(panels)
        self.path = Path(job.folder.path)
        self.curves: list[Curve] = []
        self.beside: list[tuple[str, Any]] = []  # names and sources of the other runs
        self._others: list[tuple[Curve, Any]] = []  # curves of other jobs, which go on growing
        for name, source in named(beside) if beside else ():
            record = read(source, name)
            curve = self._new(record.name, "beside")
            self.beside.append((record.name, source))
            curve.append(record.steps)
            if hasattr(source, "folder"):
                self._others.append((curve, source))
        self.live = self._new(self.path.name, "live")

    def everything(self) -> list[Packet]:
        """What a page needs that knows nothing yet."""
        return [({"kind": "clear", "keys": self.keys}, b""), *(c.packet() for c in self.curves)]

    def update(self) -> list[Packet]:
        """What is new since the last call."""
        steps, packets = list(self.job.steps), []
        if Path(self.job.folder.path) != self.path:
            packets += self._branched()
        same = _common(steps, self.live)
        if same < len(self.live.steps):
            packets += self._superseded(same)
        if len(steps) > same:
            self.live.append(steps[same:])
            packets.append(self.live.packet(same))
        return packets + [packet for curve, job in self._others for packet in _grown(curve, list(job.steps))]

    def _branched(self) -> list[Packet]:
        trunk = self.live
        trunk.role = "trunk"
        self.path = Path(self.job.folder.path)
        self.live = self._new(self.path.name, "live")  # its past follows: a branch may begin at an earlier step
        return [trunk.packet(len(trunk.steps)), self.live.packet()]

    def _superseded(self, kept: int) -> list[Packet]:
        """A rollback: the steps after it become a ghost that begins where the curve now ends."""
        ghost = self._new(
            f"{self.live.name}, before rollback to {self.live.steps[kept - 1].number if kept else 0}", "ghost"
        )
        ghost.append(self.live.steps[max(kept - 1, 0) :])
        self.live.cut(kept)
        packets = [ghost.packet(), self.live.packet(kept)]
        old = [c for c in self.curves if c.role == "ghost"][:-_GHOSTS]
        for curve in old:
            self.curves.remove(curve)
            packets.append(({"kind": "drop", "id": curve.id}, b""))
        return packets

    def _new(self, name: str, role: str) -> Curve:
        curve = Curve(max((c.id for c in self.curves), default=-1) + 1, name, role, self.keys)
        self.curves.append(curve)
        return curve


def _common(steps: Sequence[Step], curve: Curve) -> int:
    """How many leading steps a curve and its job share; the usual case is decided by the last one."""
    count = min(len(steps), len(curve.steps))
    while count and steps[count - 1] is not curve.steps[count - 1]:
        count -= 1
    return count


def _grown(curve: Curve, steps: Sequence[Step]) -> list[Packet]:
    """What another job has learnt since, or taken back."""
    same = _common(steps, curve)
    if same == len(curve.steps) == len(steps):
        return []
    curve.cut(same)
    curve.append(steps[same:])
    return [curve.packet(same)]


class LedgerTail:
    """The rows of the ledger file of whatever folder the job writes; each call reads only what was added."""

    def __init__(self) -> None:
        self.rows: list[Mapping[str, Any]] = []
        self._file, self._at = Path(), 0

    def read(self, folder: Path) -> list[Mapping[str, Any]]:
        file = Path(folder) / "ledger.jsonl"
        size = file.stat().st_size if file.exists() else 0
        if file != self._file or size < self._at:
            self._file, self._at, self.rows = file, 0, []
        if size > self._at:
            with open(file, "rb") as source:
                source.seek(self._at)
                block = source.read(size - self._at)
            whole = block[: block.rfind(b"\n") + 1]  # a line that is still being written waits
            self._at += len(whole)
            self.rows = [*self.rows, *_readable(whole.splitlines())]
        return self.rows


class WinRates:
    """What "evaluate now" measured in a job, its branches and the runs beside it, as lines; read again only when there is more."""

    def __init__(self, job: Any, beside: Sequence[tuple[str, Any]]) -> None:
        self.job, self._beside = job, beside
        self._seen: Hashable = None
        self._lines: list[dict[str, Any]] = []

    def lines(self, own: Hashable, evaluations: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """own: changes whenever what `evaluations` gives for the job's own run does."""
        here = Path(self.job.folder.path)
        others = [*((b.path.name, b) for b in self.job.branches if b.path != here), *self._beside]
        now = (here, own, *(_measured_bytes(source) for _, source in others))
        if now != self._seen:
            kept = [(here.name, evaluations()), *((name, _measured(source)) for name, source in others)]
            found = [(name, line) for name, rows in kept for line in win_rates(rows)]
            self._seen, self._lines = now, [{"run": name, "label": line.label, "points": line.points} for name, line in found]
        return self._lines


def _folder(source: Any) -> StageFolder | None:
    source = getattr(source, "folder", source)
    return StageFolder(Path(source)) if isinstance(source, (str, Path)) else source if isinstance(source, StageFolder) else None


def _measured_bytes(source: Any) -> int:
    file = folder.path / "evaluations.jsonl" if (folder := _folder(source)) else None
    return file.stat().st_size if file and file.exists() else 0


def _measured(source: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(source, Record):
        return source.evaluations
    return folder.evaluations() if (folder := _folder(source)) else []


def _readable(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    """The rows of these lines; a torn one hides none of the others."""
    for line in lines:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row
