"""Run folders: where a stage writes what it was told, what it measured, and its resumable state.

    runs/<name>/<stage>/run.json       what, from which parents, settings, seed, commit, versions, status, error
    runs/<name>/<stage>/metrics.jsonl  one Step per line, flushed
    runs/<name>/<stage>/ledger.jsonl   every request to change a knob, and what became of it
    runs/<name>/<stage>/evaluations.jsonl  what was measured by hand: step, prompts, values (labkit.jobs.evaluations)
    runs/<name>/<stage>/completions.jsonl  of PPO: all that each step sampled, one step per line (labkit.experiment.batches)
    runs/<name>/<stage>/state/<step>/  resumable snapshots; those with a `kept.json` stay for good
    runs/<name>/<stage>/model/         save_pretrained

Standard library only. Files are replaced atomically or appended to; nothing here is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from labkit.disk import append_jsonl, numbered, put_aside, read_all, read_jsonl, write_json
from labkit.errors import RunError, SettingsError
from labkit.types import Step

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["FACTS", "Run", "StageFolder", "check_name", "writer_is_alive"]

FACTS = "prompts/experiment.json"  # in a run: what it was prepared with
KEPT = "kept.json"  # the mark in a snapshot that somebody asked to keep
_PACKAGES = ("torch", "transformers", "trl", "datasets", "accelerate", "numpy", "papermill", "ipykernel", "labkit")


def check_name(name: str, what: str = "run") -> str:
    """Return `name` if it is safe as one folder name, else raise: no path may leave runs/."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+=,-]{0,120}", name) or ".." in name:
        raise SettingsError(
            f"{name!r} cannot name a {what}: use letters, digits and . _ @ + = , - and begin with a letter or digit."
        )
    return name


class StageFolder:
    """One stage of one run on disk. Creating the object touches nothing; `begin` makes the folder."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._begun: float | None = None  # what run.json says while the folder is this object's to write

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def has_model(self) -> bool:
        """Whether the stage ended, or was ended by a person, and left a model."""
        return self.status in ("done", "stopped") and self.model.is_dir()

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
        if manifest["status"] == "running" and writer_is_alive(manifest) is False:
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
        told = {
            "stage": self.path.name,
            "status": "running",
            "settings": dict(settings),
            "seed": seed,
            "parents": dict(parents or {}),
            "pid": os.getpid(),
            "host": platform.node(),
            "commit": _commit(),
            "versions": _versions(),
            "platform": platform.platform(),
            "error": None,
        }
        with _alone(self.path):  # of two processes that look at one moment the second finds what the first wrote
            if self.status == "running" and not _is_here(self.manifest):
                raise RunError(
                    f"{self.path} is being written by process {self.manifest['pid']} on {self.manifest.get('host')}; "
                    "wait for it, or choose another run name. Where that process, or that machine, is gone for good, `labkit close` with the "
                    "run's name shows what it left running, and closes it."
                )
            if resume and self.status != "missing":
                told = _resumed(self.manifest, told)
            elif self.path.exists() and any(self.path.iterdir()) and not resume:
                put_aside(self.path)
            self._begun = told["started"] = time.time()
            write_json(self.path / "run.json", told)

    def check_ours(self) -> None:
        """Refuse to write where the folder that this object began is gone, or was begun anew by somebody else meanwhile."""
        if self._begun is None:
            return
        try:
            there = json.loads((self.path / "run.json").read_text(encoding="utf-8")).get("started")
        except FileNotFoundError:
            raise RunError(f"{self.path} is there no more: its run.json was moved or removed since this job began. Nothing more is written.") from None
        except (OSError, ValueError, AttributeError):  # unreadable at the moment, or edited by hand: that is nobody's start
            return
        if there != self._begun:
            raise RunError(
                f"{self.path} was started anew by another job since this one began it, so nothing of this one's is written there, nor is there "
                "anything of its own to go back to; use the newer job, or build a new job under another name."
            )

    def finish(self, status: str = "done", *, error: str | None = None, **facts: Any) -> None:
        """Close the stage as done, stopped or failed; `facts` (results, hashes, seconds) join run.json."""
        self.check_ours()
        write_json(
            self.path / "run.json", {**self.manifest, "status": status, "error": error, "ended": time.time(), **facts}
        )

    def append_step(self, step: Step) -> None:
        self.check_ours()
        append_jsonl(self.path / "metrics.jsonl", step.to_json())

    def append_ledger(self, row: Mapping[str, Any]) -> None:
        self.check_ours()
        append_jsonl(self.path / "ledger.jsonl", row)

    def steps(self) -> list[Step]:
        """All steps on disk in order; where a resumed run wrote a step twice, the later line counts."""
        file = self.path / "metrics.jsonl"
        if not file.exists():
            return []
        latest = {}
        for step in read_all(Step, file):
            latest = {n: s for n, s in latest.items() if n < step.number} if step.number in latest else latest
            latest[step.number] = step
        return [latest[n] for n in sorted(latest)]

    def ledger(self) -> list[dict[str, Any]]:
        """Every request and every rollback, oldest first; a line that is none of them, as one edited by hand, is an error that names it."""
        file = self.path / "ledger.jsonl"
        return [_request(row, f"{file}, line {number}") for number, row in numbered(file)] if file.exists() else []

    def append_evaluation(self, row: Mapping[str, Any]) -> None:
        append_jsonl(self.path / "evaluations.jsonl", row)

    def evaluations(self) -> list[dict[str, Any]]:
        """What was measured by hand, oldest first; of steps that a rollback undid nothing holds."""
        file = self.path / "evaluations.jsonl"
        if not file.exists():
            return []
        backs = [row for row in self.ledger() if row["knob"] == "rollback"]
        undone = [(row.get("time", math.inf), row["new"]) for row in backs]
        return [row for row in read_jsonl(file) if not any(at >= row["time"] and to < row["step"] for at, to in undone)]

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

    @property
    def facts(self) -> dict[str, Any]:
        """What the run was prepared with (scale, seed, model, reward_base, data); empty before its prompts are there."""
        file = self.path / FACTS
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def stages(self) -> list[StageFolder]:
        """The stages on disk, oldest first."""
        found = [StageFolder(p.parent) for p in self.path.glob("*/run.json") if not p.parent.name.endswith(".old")]
        return sorted(found, key=lambda s: s.manifest.get("started", 0))


def _request(row: Any, where: str) -> dict[str, Any]:
    """A row of a ledger that has what is read of it; else an error that says what it lacks."""
    needed = ("knob", "step", "new") if isinstance(row, dict) and row.get("knob") == "rollback" else _OF_A_REQUEST
    missing = [name for name in needed if name not in row] if isinstance(row, dict) else needed
    if missing:
        raise RunError(f"{where} is no request to change a knob: it has no {missing[0]!r}. Repair or remove that line.")
    if isinstance(row["step"], bool) or not isinstance(row["step"], int):
        raise RunError(f"{where} says step = {row['step']!r:.40}, which is no step's number. Repair or remove that line.")
    return row


#: What every request in a ledger tells, whoever made it.
_OF_A_REQUEST = ("knob", "step", "old", "new", "outcome")
#: Of a run.json: what is kept of each earlier start of a stage that was resumed, as far as it was another.
_OF_A_START = ("settings", "seed", "parents", "started", "ended", "status", "error", "pid", "host", "commit", "versions", "platform")


def _resumed(before: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a stage that goes on: as told now, with what the starts before it said otherwise, oldest first."""
    parents = {**(before.get("parents") or {}), **told["parents"]}
    now = {**told, "parents": parents}
    other = {name: before[name] for name in _OF_A_START if name in before and before[name] != now.get(name)}
    return {**now, "resumed": [*before.get("resumed", ()), other]}


@contextlib.contextmanager
def _alone(stage: Path) -> Iterator[None]:
    """Inside, no other process begins this stage: a lock on a file beside it, which goes again; none where the disk knows no locks."""
    file, handle = stage.with_name(f".{stage.name}.begin"), None
    try:
        with contextlib.suppress(OSError):
            stage.parent.mkdir(parents=True, exist_ok=True)
            while fcntl is not None:
                handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
                fcntl.flock(handle, fcntl.LOCK_EX)
                if file.exists() and os.path.samestat(os.fstat(handle), file.stat()):
                    break
                os.close(handle)  # whoever held it has removed it meanwhile
                handle = None
        yield
    finally:
        if handle is not None:
            file.unlink(missing_ok=True)
            os.close(handle)


def _is_here(manifest: Mapping[str, Any]) -> bool:
    """Whether this very process wrote the manifest; on another machine another process may have its number."""
    return (manifest.get("pid"), manifest.get("host")) == (os.getpid(), platform.node())


def writer_is_alive(manifest: Mapping[str, Any]) -> bool | None:
    """Whether a process of the writer's number is there; None where it was on another machine, which cannot be looked at from here."""
    if manifest.get("host") != platform.node() or not manifest.get("pid"):
        return None
    try:
        os.kill(manifest["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user: it is there
        pass
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
