"""Run folders: where a stage writes what it was told, what it measured, and its resumable state.

    runs/<name>/<stage>/run.json       what, from which parents, settings, seed, commit, versions, status, error
    runs/<name>/<stage>/metrics.jsonl  one Step per line, flushed
    runs/<name>/<stage>/ledger.jsonl   every request to change a knob, and what became of it
    runs/<name>/<stage>/state/<step>/  resumable snapshots; those with a `kept.json` stay for good
    runs/<name>/<stage>/model/         save_pretrained

Standard library only. Files are replaced atomically or appended to; nothing here is ever unpickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.errors import DataError, RunError, SettingsError
from labkit.types import Step

__all__ = ["Run", "StageFolder", "append_jsonl", "as_line", "check_name", "read_all", "read_jsonl", "write_json", "write_jsonl"]

KEPT = "kept.json"  # the mark in a snapshot that somebody asked to keep
_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "numpy", "papermill", "ipykernel", "labkit")


def check_name(name: str, what: str = "run") -> str:
    """Return `name` if it is safe as one folder name, else raise: no path may leave runs/."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+=,-]{0,120}", name) or ".." in name:
        raise SettingsError(
            f"{name!r} cannot name a {what}: use letters, digits and . _ @ + = , - and begin with a letter or digit."
        )
    return name


def write_json(path: Path, value: Any) -> None:
    """Replace `path` with `value` as JSON, atomically: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(scratch, "w", encoding="utf-8") as out:
            json.dump(value, out, indent=1, ensure_ascii=False, default=_plain)
            out.flush()
            os.fsync(out.fileno())
        os.replace(scratch, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise RunError(
            f"Could not write {path}: {error.strerror}. Free some space or choose another folder; the old file is untouched."
        ) from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace `path` with one JSON object per line, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(scratch, "w", encoding="utf-8") as out:
            for row in rows:
                out.write(as_line(row) + "\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(scratch, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise RunError(
            f"Could not write {path}: {error.strerror}. Free some space or choose another folder; the old file is untouched."
        ) from error


def as_line(row: Mapping[str, Any]) -> str:
    """A row as JSON on one line; half of a surrogate pair, which no file can hold as it is, is written as an escape."""
    line = json.dumps(row, ensure_ascii=False, default=_plain)
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(row, default=_plain)
    return line


def append_jsonl(path: Path, row: Mapping[str, Any], *, sync: bool = False) -> None:
    """Append one line and flush it; with `sync` it is on the disk when this returns.

    A torn last line, of a writer that was killed, gives way: it would be an unreadable line amid others.
    """
    line = as_line(row) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0) as out:
            size = _mend_end(out)
            try:
                if out.write(line.encode()) != len(line.encode()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if sync:
                    os.fsync(out.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    out.truncate(size)  # half a line is none
                raise
    except OSError as error:
        raise RunError(
            f"Could not append to {path}: {error.strerror}. Free some space and try again; what was there is untouched."
        ) from error


def _mend_end(out: Any) -> int:
    """Let a file of lines end with a whole one; returns its size. A last line that only lacks its end is kept."""
    size = out.seek(0, os.SEEK_END)
    back = min(size, 1)
    out.seek(size - back)
    if not size or out.read(1) == b"\n":
        return size
    out.seek(0)
    data = out.read()
    start = data.rfind(b"\n") + 1
    try:
        json.loads(data[start:])
    except ValueError:
        out.truncate(start)
        return start
    out.write(b"\n")
    return size + 1


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file; a torn last line (a killed writer) is skipped, any other bad line is an error."""
    return (row for _, row in _numbered(path))


def read_all(kind: type, path: Path) -> list[Any]:
    """The lines of a JSONL file as Prompts, Demonstrations or Rankings; one that cannot be used is named by file and line."""
    found = []
    for number, row in _numbered(path):
        try:
            found.append(kind.from_json(row))
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
    return found


def _numbered(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; check the name, or run the stage that writes it.") from None
    last = max((i for i, line in enumerate(lines) if line.strip()), default=-1)
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == last:
                return
            raise RunError(
                f"{path}, line {number + 1} is not JSON ({error.msg}); repair or remove that line."
            ) from None
        yield number + 1, row


class StageFolder:
    """One stage of one run on disk. Creating the object touches nothing; `begin` makes the folder."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of run.json; a missing or half-written stage is an error that says so."""
        file = self.path / "run.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} holds no run.json: the stage was never started there. Run it first, or check the path."
            ) from None
        except json.JSONDecodeError:
            raise RunError(
                f"{file} is not complete JSON; the stage was damaged by hand. Remove {self.path} and run the stage again."
            ) from None

    @property
    def status(self) -> str:
        """missing, running, done, stopped or failed; a 'running' whose process is gone reads as dead."""
        if not (self.path / "run.json").exists():
            return "missing"
        manifest = self.manifest
        if manifest["status"] == "running" and not _alive(manifest.get("pid"), manifest.get("host")):
            return "dead"
        return manifest["status"]

    def begin(
        self,
        *,
        settings: Mapping[str, Any],
        seed: int = 0,
        parents: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        """Start the stage: write run.json as running. Earlier files of a stage begun anew are moved aside, never deleted."""
        if self.status == "running" and not _is_here(self.manifest):
            raise RunError(
                f"{self.path} is being written by process {self.manifest['pid']} on {self.manifest.get('host')}; "
                "wait for it, or choose another run name. (If that process or that machine is gone for good, set \"status\" "
                f"to \"failed\" in {self.path / 'run.json'}.)"
            )
        if self.path.exists() and any(self.path.iterdir()) and not resume:
            aside = self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.old")
            number = 0
            while aside.exists():
                number += 1
                aside = aside.with_name(f"{aside.name}{number}")
            self.path.rename(aside)
        write_json(
            self.path / "run.json",
            {
                "stage": self.path.name,
                "status": "running",
                "settings": dict(settings),
                "seed": seed,
                "parents": dict(parents or {}),
                "started": time.time(),
                "pid": os.getpid(),
                "host": platform.node(),
                "commit": _commit(),
                "versions": _versions(),
                "platform": platform.platform(),
                "error": None,
            },
        )

    def finish(self, status: str = "done", *, error: str | None = None, **facts: Any) -> None:
        """Close the stage as done, stopped or failed; `facts` (results, hashes, seconds) join run.json."""
        write_json(
            self.path / "run.json", {**self.manifest, "status": status, "error": error, "ended": time.time(), **facts}
        )

    def append_step(self, step: Step) -> None:
        append_jsonl(self.path / "metrics.jsonl", step.to_json())

    def append_ledger(self, row: Mapping[str, Any]) -> None:
        append_jsonl(self.path / "ledger.jsonl", row)

    def steps(self) -> list[Step]:
        """All steps on disk in order; where a resumed run wrote a step twice, the later line counts."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        latest = {}
        for row in read_jsonl(file):
            step = Step.from_json(row)
            latest = {n: s for n, s in latest.items() if n < step.number} if step.number in latest else latest
            latest[step.number] = step
        return [latest[n] for n in sorted(latest)]

    def ledger(self) -> list[dict[str, Any]]:
        file = self.path / "ledger.jsonl"
        return list(read_jsonl(file)) if file.exists() else []

    def snapshot(self, number: int) -> Path:
        """Folder of the resumable snapshot taken after step `number`."""
        return self.path / "state" / f"{number:06d}"

    def snapshots(self) -> list[int]:
        """Numbers of the complete snapshots on disk, ascending."""
        root = self.path / "state"
        return sorted(int(p.name) for p in root.iterdir() if p.name.isdigit()) if root.is_dir() else []

    def keep(self, number: int) -> None:
        """Mark a snapshot as kept for good, on the disk: whoever resumes the run must know it too."""
        write_json(self.snapshot(number) / KEPT, {"kept": time.time()})

    def kept(self) -> list[int]:
        """Numbers of the snapshots that somebody asked to keep, ascending."""
        return [number for number in self.snapshots() if (self.snapshot(number) / KEPT).exists()]

    def prune(self, newest: int, *, spread: int = 0) -> None:
        """Thin out the snapshots that nobody asked to keep: the `newest` stay, and `spread` of the older ones, over the whole run.

        Of the older ones that goes whose neighbours lie closest together, so what stays reaches back evenly.
        """
        kept = self.kept()
        loose = [number for number in self.snapshots() if number not in kept]
        older = loose[: max(0, len(loose) - newest)]
        beyond = next(iter(loose[len(older) :]), math.inf)
        while len(older) > spread:
            around = [0, *older, beyond]
            gaps = [after - before for before, after in zip(around, around[2:], strict=False)]
            shutil.rmtree(self.snapshot(older.pop(gaps.index(min(gaps)))))


class Run:
    """One experiment: `runs/<name>/`, inside which the stages share a folder."""

    def __init__(self, name: str, root: str | Path = "runs") -> None:
        self.name = check_name(name)
        self.path = Path(root) / name

    def stage(self, name: str) -> StageFolder:
        return StageFolder(self.path / check_name(name, "stage"))

    def stages(self) -> list[StageFolder]:
        """The stages on disk, oldest first."""
        found = [StageFolder(p.parent) for p in self.path.glob("*/run.json") if not p.parent.name.endswith(".old")]
        return sorted(found, key=lambda s: s.manifest.get("started", 0))


def file_hash(path: Path) -> str:
    """Short content hash of a file or of all files under a folder: names weights and data in manifests."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    raise TypeError(f"{type(value).__name__} does not fit into JSON")


def _is_here(manifest: Mapping[str, Any]) -> bool:
    """Whether this very process wrote the manifest; on another machine another process may have its number."""
    return (manifest.get("pid"), manifest.get("host")) == (os.getpid(), platform.node())


def _alive(pid: int | None, host: str | None) -> bool:
    if host != platform.node() or not pid:
        return True  # another machine's process cannot be looked at from here
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _commit() -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        here = Path(__file__).parent
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
        )
        return out.stdout.strip() or None
    return None


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
