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

import json
import math
import os
import re
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from labkit.disk import append_jsonl, clear_scratch, discard, numbered, put_aside, read_all, read_jsonl, write_json
from labkit.errors import RunError, SettingsError
from labkit.processes import is_here, lock_file, this_process, writer_is_alive
from labkit.types import Step

__all__ = ["FACTS", "Run", "StageFolder", "check_name", "run_at", "runs_root", "stages_in"]

FACTS = "prompts/experiment.json"  # in a run: what it was prepared with
KEPT = "kept.json"  # the mark in a snapshot that somebody asked to keep
#: What to do about a run.json that tells nothing: weights, snapshots and steps beside it may be whole.
_KEEP_THE_REST = "Repair that file, or put it aside: what lies beside it stays, and a stage that is run again moves it to a folder of its own."


def runs_root() -> Path:
    """The folder of runs: $LABKIT_RUNS, else ./runs; in a folder called notebooks, where kernels stand, ../runs unless it has runs of its own.

    Where there are both, a line says which it is and how to have the other.
    """
    if named := os.environ.get("LABKIT_RUNS"):
        return Path(named).expanduser().resolve()
    here = Path.cwd()
    own, beside = here / "runs", here.parent / "runs"
    if here.name != "notebooks":
        return own
    if not own.is_dir():
        return beside
    if beside.is_dir():
        _say_once(f"Runs are those in {own}, because that folder is here. For those in {beside} set LABKIT_RUNS={beside}, or move {own} away.")
    return own


def check_name(name: str, what: str = "run") -> str:
    """Return `name` if it is safe as one folder name, else raise: no path may leave runs/."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+=,-]{0,120}", name) or ".." in name:
        raise SettingsError(
            f"{name!r:.200} cannot name a {what}: use the letters a to z and A to Z, digits and . _ @ + = , - (no two dots together), "
            "begin with a letter or digit, and stay at most 121 characters long."
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
            told = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} holds no run.json: the stage was never started there. Run it first, or check the path."
            ) from None
        except ValueError:
            raise RunError(f"{file} is not complete JSON. {_KEEP_THE_REST}") from None
        if not isinstance(told, dict) or "status" not in told:
            raise RunError(f"{file} does not say how its stage stands (status). {_KEEP_THE_REST}")
        return told

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
        if self.path.name.endswith(".old"):
            raise SettingsError(f"{self.path.name!r} cannot name a stage: names that end in .old are those of what was put aside. Choose another.")
        told = {
            "stage": self.path.name,
            "status": "running",
            "settings": dict(settings),
            "seed": seed,
            "parents": dict(parents or {}),
            **this_process(),
            "error": None,
        }
        with lock_file(self.path.with_name(f".{self.path.name}.begin")):  # of two that begin at one moment the second finds what the first wrote
            if self.status == "running" and not is_here(self.manifest):
                raise RunError(
                    f"{self.path} is being written by process {self.manifest['pid']} on {self.manifest.get('host')}; "
                    "wait for it, or choose another run name. Where that process, or that machine, is gone for good, `labkit close` with the "
                    "run's name shows what it left running, and closes it."
                )
            if resume and self.status != "missing":
                told = _resumed(self.manifest, told)
            elif self.path.exists() and any(self.path.iterdir()) and not resume:
                went_on = _to_go_on(self)
                aside = put_aside(self.path)
                if went_on:
                    print(went_on.format(aside=aside), file=sys.stderr, flush=True)
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

        Of the older ones that goes whose neighbours lie closest together, so what stays reaches back evenly. What killed
        processes left half written or half removed goes too.
        """
        self.clear_scratch()
        kept = self.kept()
        loose = [number for number in self.snapshots() if number not in kept]
        older = loose[: max(0, len(loose) - newest)]
        beyond = next(iter(loose[len(older) :]), math.inf)
        while len(older) > spread:
            around = [0, *older, beyond]
            gaps = [after - before for before, after in zip(around, around[2:], strict=False)]
            discard(self.snapshot(older.pop(gaps.index(min(gaps)))))

    def clear_scratch(self) -> None:
        """Remove what killed processes left half written here; only for whoever writes the stage."""
        for folder in (self.path, self.path / "state", self.path / "epochs"):
            clear_scratch(folder)


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
        try:
            found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RunError(
                f"{file} is not complete JSON, so nobody knows what the run was prepared with. Remove it and run 01_prompts again "
                f"(labkit run {self.name} --only 01_prompts --again) with the scale, seed, model and data that it had; "
                f"{self.path / 'notebooks' / '01_prompts' / 'run.json'} names them."
            )
        return found

    def stages(self) -> list[StageFolder]:
        """The stages on disk, oldest first; a line says of one whose run.json tells nothing that it is left out."""
        return sorted(stages_in(self.path), key=lambda s: s.manifest.get("started", 0))


def run_at(name: str | Path, root: str | Path = "runs") -> Run:
    """The run of that name in the folder of runs; or, where a path is given, the run in that folder, wherever it lies."""
    folder = Path(name)
    return Run(folder.resolve().name, folder.resolve().parent) if len(folder.parts) > 1 else Run(str(name), root)


def stages_in(folder: Path, pattern: str = "*") -> list[StageFolder]:
    """The stages directly in a folder, or wherever a pattern as "**" leads, by name: none that was put aside or is half brought."""
    found = []
    for file in sorted(folder.glob(f"{pattern}/run.json")):
        if not any(part.endswith(".old") or part.startswith(".") for part in file.parent.relative_to(folder).parts):
            found += _readable(StageFolder(file.parent))
    return found


def _readable(stage: StageFolder) -> list[StageFolder]:
    try:
        _ = stage.manifest
    except RunError as error:
        _say_once(f"{stage.path} is left out: {error}")
        return []
    return [stage]


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


#: What every request in a ledger tells, whoever made it.
_OF_A_REQUEST = ("knob", "step", "old", "new", "outcome")


def _request(row: Any, where: str) -> dict[str, Any]:
    """A row of a ledger that has what is read of it; else an error that says what it lacks."""
    needed = ("knob", "step", "new") if isinstance(row, dict) and row.get("knob") == "rollback" else _OF_A_REQUEST
    missing = [name for name in needed if name not in row] if isinstance(row, dict) else needed
    if missing:
        raise RunError(f"{where} is no request to change a knob: it has no {missing[0]!r}. Repair or remove that line.")
    if isinstance(row["step"], bool) or not isinstance(row["step"], int):
        raise RunError(f"{where} says step = {row['step']!r:.40}, which is no step's number. Repair or remove that line.")
    return row


def _to_go_on(stage: StageFolder) -> str:
    """A line for whoever begins anew a stage that was killed or failed and could be resumed; {aside} stands for its new place."""
    snapshots = stage.snapshots()
    if not snapshots or stage.status not in ("dead", "failed"):
        return ""
    steps = stage.manifest.get("settings", {}).get("steps")
    reached = f"step {snapshots[-1]}" + (f" of {steps}" if steps else "")
    return (
        f"{stage.path.name} begins anew. What was broken off before it, with a snapshot of {reached}, lies in {{aside}}; to go on with that "
        "instead, stop this one, give that folder its name back, and use start(resume=True)."
    )


#: Of a run.json: what is kept of each earlier start of a stage that was resumed, as far as it was another.
_OF_A_START = ("settings", "seed", "parents", "started", "ended", "status", "error", "pid", "process_began", "host", "commit", "versions", "platform")


def _resumed(before: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a stage that goes on: as told now, with what the starts before it said otherwise, oldest first."""
    parents = {**(before.get("parents") or {}), **told["parents"]}
    now = {**told, "parents": parents}
    other = {name: before[name] for name in _OF_A_START if name in before and before[name] != now.get(name)}
    return {**now, "resumed": [*before.get("resumed", ()), other]}
