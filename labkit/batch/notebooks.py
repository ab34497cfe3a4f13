"""Run one notebook headless into a run folder, and say truthfully how it ended.

Parameters are checked before anything starts. The outcome is judged by the exit code *and* by the record that the
notebook's last cell writes (`session.finish`): a killed kernel, a `sys.exit(0)` or a lost thread leaves no such record.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.batch import records
from labkit.batch.parameters import check_parameters, read_parameters
from labkit.disk import write_json
from labkit.errors import RunError, SettingsError
from labkit.runs import Run

__all__ = ["Outcome", "as_prepared", "execute", "resolve_parameters"]

#: Parameters that a run folder has one value of, and what each is called among the run's facts.
PREPARED = {"scale": "scale", "seed": "seed", "model": "model", "data": "data", "judge": "reward_base"}
_KERNEL_DIED, _STOPPED = 3, 4  # exit codes of labkit.batch.worker
Echo = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """How one notebook ended: `error` is a sentence (empty: done); `killed` says that trying again may help."""

    notebook: str
    status: str  # done, failed, stopped
    seconds: float
    error: str = ""
    killed: bool = False
    summary: Mapping[str, Any] = field(default_factory=dict)

    def raise_if_failed(self) -> None:
        """Raise RunError with the sentence where the notebook did not reach its end."""
        if self.status != "done":
            raise RunError(self.error)


def resolve_parameters(notebook: Path, given: Mapping[str, Any], run: str) -> dict[str, Any]:
    """All parameters of `notebook` for a run: defaults, then `given` (texts are parsed), then the run's name."""
    declared = read_parameters(notebook)
    values = {
        name: declared[name].parse(value, notebook.stem) if isinstance(value, str) and name in declared else value
        for name, value in given.items()
    }
    return check_parameters(declared, {**values, "run": run}, notebook.stem)


def as_prepared(notebook: Path, given: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """`given`, and where nothing is given what the run was prepared with: its scale, seed, model, data and judge.

    Raises SettingsError where something else is given, as one run folder holds one experiment. Where the notebook ran
    before with other words for the same, as with the usual judge by its name, these words stay.
    """
    declared, found, facts = read_parameters(notebook), dict(given), run.facts
    record = records.record_of(run, notebook.stem)
    before = {} if record.status == "missing" else record.manifest["settings"]
    for name, was in ((n, facts[fact]) for n, fact in PREPARED.items() if n in declared and fact in facts):
        told = given.get(name, was)
        told = declared[name].parse(told, notebook.stem) if isinstance(told, str) else told
        meant = _meant(name, was, facts)
        if _meant(name, told, facts) != meant:
            raise SettingsError(
                f"{run.path} was prepared with {name} = {was!r}, not {told!r}: leave {name} out, or name another run. Nothing was started."
            )
        said = (before.get(name), declared[name].default)
        found[name] = next((v for v in said if _meant(name, v, facts) == meant), was)
    return found


def _meant(name: str, value: Any, facts: Mapping[str, Any]) -> Any:
    """What a parameter's value says; a judge that is left empty is the usual one, and a folder is the one that is found from here."""
    from labkit.world.pretrain import own_folder, usual_judge

    return own_folder(name, usual_judge(facts["model"]) if (name, value) == ("judge", "") else value)


def execute(
    notebook: Path,
    run: Run,
    given: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    echo: Echo | None = None,
    started: Callable[[subprocess.Popen], None] | None = None,
    halted: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Execute `notebook` into runs/<name>/notebooks/ and return how it ended; raises only before anything starts.

    `environment` adds to this process's variables (threads, GPUs). `echo` gets each line that the notebook prints;
    all of them also go to notebooks/<notebook>/log.txt. `started` gets the process, so that another thread may end it;
    `halted` says whether a person asked for that, so that the record is no crash's.
    """
    values = resolve_parameters(notebook, as_prepared(notebook, given or {}, run), run.name)
    record, copy = records.record_of(run, notebook.stem), run.path / "notebooks" / notebook.name
    if copy.exists() and record.path.exists():  # it goes aside with its record
        shutil.copy2(copy, record.path / copy.name)
    record.begin(settings=values, seed=values.get("seed", 0))
    task = {"notebook": str(notebook), "copy": str(copy), "parameters": values}
    write_json(record.path / "task.json", {**task, "outcome": str(record.path / "outcome.json")})
    began = time.monotonic()
    try:
        code = _run_worker(record.path, run, environment or {}, echo, started)
    except OSError as error:
        raise RunError(f"Could not write {record.path}: {error.strerror}. Free some space and try again.") from error
    except BaseException as error:  # the person pressed Ctrl-C, or this process is being shut down
        record.finish("stopped", error=f"{notebook.stem} was stopped by {type(error).__name__}.")
        raise
    seconds = time.monotonic() - began
    return _judge(notebook, run, code, seconds, code in (_STOPPED, -signal.SIGINT) or halted())


def _run_worker(
    folder: Path,
    run: Run,
    extra: Mapping[str, str],
    echo: Echo | None,
    started: Callable[[subprocess.Popen], None] | None,
) -> int:
    """Start the worker, copy what it prints to log.txt and `echo`, and return its exit code."""
    environment = {
        **os.environ,
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one of the same name elsewhere
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **extra,
        "LABKIT_HEADLESS": "1",
        "LABKIT_RUNS": str(run.path.parent.resolve()),
        "LABKIT_EXECUTION": str(folder.resolve()),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "labkit.batch.worker", str(folder / "task.json")]
    with (
        open(folder / "log.txt", "w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as worker,
    ):
        if started:
            started(worker)
        try:
            for line in worker.stdout:
                log.write(line)
                log.flush()
                if echo:
                    echo(line.rstrip("\n"))
            return worker.wait()
        except BaseException:
            worker.terminate()  # its kernel notices that its parent is gone and ends
            raise


def _judge(notebook: Path, run: Run, code: int, seconds: float, by_hand: bool) -> Outcome:
    """Close the record as done, stopped or failed, by exit code, by what the last cell said and by who ended it."""
    record = records.record_of(run, notebook.stem)
    manifest = record.manifest
    if code == 0 and manifest["status"] == "done":
        return Outcome(notebook.stem, "done", seconds, summary=manifest.get("summary", {}))
    killed, error = _explain(notebook.stem, record.path, run, code, by_hand)
    status = "stopped" if by_hand else "failed"
    record.finish(status, error=error, killed=killed)
    return Outcome(notebook.stem, status, seconds, error, killed)


def _explain(name: str, folder: Path, run: Run, code: int, by_hand: bool) -> tuple[bool, str]:
    """Whether the notebook was killed, and one sentence on why it counts as failed."""
    copy = f"see {run.path / 'notebooks' / name}.ipynb and {folder / 'log.txt'}."
    if by_hand:
        return False, f"{name} was stopped by hand; {copy}"
    if code < 0:
        return True, f"{name} failed: its process was killed by signal {-code}; {copy}"
    outcome = folder / "outcome.json"
    said = json.loads(outcome.read_text(encoding="utf-8")) if outcome.exists() else {}
    if code == _KERNEL_DIED:
        return True, (
            f"{name} failed: the kernel died, most often because memory ran out; use a smaller scale or batch, "
            f"or fewer jobs at once, and {copy}"
        )
    if code == 0:
        return False, f"{name} failed: it ended without the statement of its last cell (session.finish); {copy}"
    return False, f"{name} failed: {said.get('error') or f'the runner ended with code {code}'}; {copy}"
