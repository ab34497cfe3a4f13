"""A job drives one training loop in a background thread: pause, single step, resume, stop, snapshot, roll back, branch.

The thread asks the loop for the next Step and writes it into the run folder; between two Steps, at the boundary, it does
what it was asked meanwhile. By hand the cell that starts a job returns at once, and `result()` never blocks the kernel
under the sliders; headless (LABKIT_HEADLESS=1, or outside a notebook) `result()` waits and raises the thread's error.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from labkit.errors import LabError, RunError
from labkit.knobs import Dial, Replay, Schedule
from labkit.runs import StageFolder, write_jsonl
from labkit.types import Step

__all__ = ["Job", "StillRunning"]

PRINT_EVERY = 15.0  # seconds between progress lines while a headless result() waits


class StillRunning(LabError):
    """Stops "Run All" at a cell that needs a result which is not there yet; shown as one line."""

    def _render_traceback_(self) -> list[str]:  # IPython shows this instead of a traceback
        return [str(self)]


class Saveable(Protocol):
    """State that can be written to a snapshot folder and read back: what rollback and branch need."""

    step: int
    knobs: dict[str, float]

    def save(self, folder: Any) -> Any: ...
    def load(self, folder: Any) -> Any: ...


class Job:
    """One stage of one run, under way in a thread of its own.

    make_loop: schedule -> iterator of Steps, called anew after a rollback. folder: where the stage is written.
    schedule: a `Dial` for live control, or any step -> Knobs function. total: number of Steps, for progress.
    state: the object that holds everything the loop changes; without one there are no snapshots.
    finish: called in the thread when the loop ends or is stopped (e.g. saves the model); its value is `result()`.
    """

    def __init__(
        self,
        make_loop: Callable[[Schedule], Iterator[Step]],
        *,
        folder: StageFolder,
        schedule: Schedule,
        total: int,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        parents: Mapping[str, str] | None = None,
        state: Saveable | None = None,
        finish: Callable[[], Any] | None = None,
        snapshot_every: int = 0,
        keep_snapshots: int = 3,
    ) -> None:
        self.make_loop, self.folder, self.schedule, self.total = make_loop, folder, schedule, total
        self.settings, self.seed, self.parents = dict(settings or {}), seed, dict(parents or {})
        self.state, self.finish = state, finish
        self.snapshot_every, self.keep_snapshots = snapshot_every, keep_snapshots
        self.status = "idle"  # idle, running, paused, done, stopped, failed
        self.error: str | None = None
        self.steps: list[Step] = []
        self.branches: list[StageFolder] = [folder]
        self.pinned: set[int] = set()
        self._failure: BaseException | None = None
        self._value: Any = None
        self._listeners: list[Callable[[Step], None]] = []
        self._asked: list[tuple[Callable[[], Any], Future]] = []
        self._wake = threading.Condition()
        self._paused, self._stopping, self._credit = False, False, 0
        self._restart = False
        self._thread: threading.Thread | None = None

    @property
    def dial(self) -> Dial | None:
        """The live controls, if this job's schedule has any."""
        return self.schedule if isinstance(self.schedule, Dial) else None

    # -- control, from any thread -------------------------------------------------------------------------------

    def start(self, *, resume: bool = False, paused: bool = False) -> Job:
        """Begin in the background and return at once. resume: continue from the newest snapshot of the folder."""
        if self._thread is not None and self._thread.is_alive():
            raise RunError(f"{self.folder.path.name} is already running; stop it first, or build a new job.")
        owner = getattr(self.state, "owner", None)
        if owner is not None and owner is not self and owner.alive:
            raise RunError(
                f"Another job ({owner.folder.path.name}) is training this very model; stop it, or build the state anew."
            )
        if resume:
            self._load_newest()
        live = isinstance(self.schedule, (Dial, Replay))
        knobs = self.schedule.knobs.to_json() if live else {}
        self.folder.begin(
            settings={**self.settings, "knobs": knobs}, seed=self.seed, parents=self.parents, resume=resume
        )
        if self.state is not None:
            self.state.owner = self  # type: ignore[attr-defined]
        if live:
            self.schedule.record = self._record_request
        self._paused, self.status = paused, "paused" if paused else "running"
        self._thread = threading.Thread(target=self._run, name=f"job-{self.folder.path.name}", daemon=True)
        self._thread.start()
        return self

    def pause(self) -> None:
        """Do not ask for the next Step yet; the one under way is finished."""
        self._tell(_paused=True)

    def resume(self) -> None:
        """Go on after a pause."""
        self._tell(_paused=False)

    def step(self) -> None:
        """One more Step, then pause."""
        self._tell(_paused=True, _credit=1)

    def stop(self) -> None:
        """End after the Step under way, as if it were the last; what was trained so far is kept."""
        self._tell(_stopping=True)

    def ask(self, function: Callable[[], Any]) -> Future:
        """Run `function()` in the job's thread at the next boundary (also while paused); its value arrives in the Future."""
        future: Future = Future()
        with self._wake:
            if not self.alive:
                future.set_exception(
                    RunError(f"{self.folder.path.name} is not running, so nothing can be asked of it; start it first.")
                )
                return future
            self._asked.append((function, future))
            self._wake.notify_all()
        return future

    def snapshot(self) -> Future:
        """Write a snapshot at the next boundary and keep it for good."""
        return self.ask(lambda: self._snapshot(pin=True))

    def rollback(self, step: int) -> Future:
        """Return to the snapshot of `step` at the next boundary: weights, optimisers and knobs; later Steps are superseded."""
        return self.ask(lambda: self._rollback(step))

    def branch(self, name: str) -> Future:
        """Go on in a folder of its own, `<stage>@<name>`, that shares the history so far; the old folder is left as it is."""
        return self.ask(lambda: self._branch(name))

    def listen(self, callback: Callable[[Step], None]) -> Callable[[], None]:
        """Call `callback(step)` in the job's thread after each Step; returns a function that ends it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def result(self, *, block: bool | None = None) -> Any:
        """What the stage produced (the value of `finish`), once it is there; raises the thread's error if it failed.

        block: wait for it. By default wait when headless; by hand raise StillRunning, which stops "Run All" here
        with one line and leaves the kernel to the controls.
        """
        if self._thread is None:
            raise RunError(f"{self.folder.path.name} was never started; call start() first.")
        if block is None:
            block = bool(os.environ.get("LABKIT_HEADLESS")) or "ipykernel" not in sys.modules
        if self.alive and not block:
            done = len(self.steps)
            raise StillRunning(
                f"Training goes on ({self.status}, step {done} of {self.total}). Run this cell again when the board says done."
            )
        self._wait()
        if self._failure is not None:
            raise self._failure
        return self._value

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        started = time.time()
        try:
            self._drive()
            self.status = "stopped" if self._stopping else "done"
            self._value = self.finish() if self.finish else None
            if self.state is not None and self.snapshot_every:
                self._snapshot(pin=False)
            self.folder.finish(self.status, seconds=time.time() - started, steps=len(self.steps))
        except BaseException as error:  # kept, and raised where somebody waits
            self._failure, self.status = error, "failed"
            self.error = (
                str(error) if isinstance(error, LabError) else "".join(traceback.format_exception_only(error)).strip()
            )
            with contextlib.suppress(LabError):  # a full disk must not hide the error that came first
                self.folder.finish("failed", error=self.error, traceback=traceback.format_exc())
        finally:
            self._drain(RunError(f"{self.folder.path.name} has ended."))
            self._notify(self.steps[-1] if self.steps else None)

    def _drive(self) -> None:
        loop = self.make_loop(self.schedule)
        while self._boundary():
            if self._restart:
                loop, self._restart = self._close(loop) or self.make_loop(self.schedule), False
            try:
                step = next(loop)
            except StopIteration:
                return
            self._record(step)
        self._close(loop)

    def _boundary(self) -> bool:
        """Between two Steps: answer what was asked, wait while paused; False when it is time to stop."""
        while True:
            with self._wake:
                asked, self._asked = self._asked, []
                if not asked and self._paused and not self._credit and not self._stopping:
                    self.status = "paused"
                    self._wake.wait()
                    continue
            for function, future in asked:
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)
            if asked:
                continue
            if self._stopping:
                return False
            self._credit, self.status = 0, "running"
            return True

    def _record(self, step: Step) -> None:
        self.steps.append(step)
        self.folder.append_step(step)
        if self.dial:
            self.dial.observe(step)
        if self.state is not None and self.snapshot_every and step.number % self.snapshot_every == 0:
            self._snapshot(pin=False)
        self._notify(step)

    def _notify(self, step: Step | None) -> None:
        for callback in list(self._listeners):
            try:
                callback(step) if step is not None else None
            except Exception:  # a board's mistake must not end training
                self._listeners.remove(callback)

    def _record_request(self, row: Mapping[str, Any]) -> None:
        self.folder.append_ledger(row)

    def _snapshot(self, *, pin: bool) -> int:
        number = self._stateful().step
        self._stateful().save(self.folder.snapshot(number))
        if pin:
            self.pinned.add(number)
        self.folder.prune(self.keep_snapshots, self.pinned)
        return number

    def _rollback(self, step: int) -> int:
        found = self.folder.snapshots()
        if step not in found:
            listed = ", ".join(map(str, found)) or "none"
            raise RunError(f"There is no snapshot of step {step} in {self.folder.path.name}; there are: {listed}.")
        now = self._stateful().step
        self._stateful().load(self.folder.snapshot(step))
        if self.dial:
            self.dial.knobs = (
                type(self.dial.knobs)(**self._stateful().knobs) if self._stateful().knobs else self.dial.knobs
            )
        row = {
            "time": time.time(),
            "knob": "rollback",
            "asked": step,
            "by": "hand",
            "why": "",
            "step": now,
            "old": now,
            "new": step,
        }
        self._record_request({**row, "outcome": "applied", "reason": ""})
        self.steps = [s for s in self.steps if s.number <= step]
        self._restart = True
        return step

    def _branch(self, name: str) -> StageFolder:
        trunk = self.folder.path.name.split("@")[0]
        new = StageFolder(self.folder.path.with_name(f"{trunk}@{name}"))
        if new.status != "missing":
            raise RunError(f"There is a branch {new.path.name} already; choose another name.")
        number = self._stateful().step
        new.begin(
            settings=self.folder.manifest["settings"],
            seed=self.seed,
            parents={**self.parents, "branch_of": self.folder.path.name},
        )
        self._stateful().save(new.snapshot(number))
        write_jsonl(new.path / "metrics.jsonl", [s.to_json() for s in self.steps])
        if (self.folder.path / "ledger.jsonl").exists():
            shutil.copy(self.folder.path / "ledger.jsonl", new.path / "ledger.jsonl")
        self.folder.finish("stopped", steps=len(self.steps), branched_into=new.path.name)
        self.folder, self.pinned = new, {number}
        self.branches.append(new)
        return new

    # -- small parts --------------------------------------------------------------------------------------------

    def _tell(self, **changes: Any) -> None:
        with self._wake:
            for name, value in changes.items():
                setattr(self, name, value)
            self._wake.notify_all()

    def _stateful(self) -> Saveable:
        if self.state is None:
            raise RunError(f"{self.folder.path.name} keeps no snapshots, so it cannot be rolled back or branched.")
        return self.state

    def _load_newest(self) -> None:
        found = self.folder.snapshots()
        if not found:
            raise RunError(f"{self.folder.path} has no snapshot to resume from; start it without resume.")
        self._stateful().load(self.folder.snapshot(found[-1]))
        self.steps = [s for s in self.folder.steps() if s.number <= found[-1]]
        if self.dial and self._stateful().knobs:
            self.dial.knobs = type(self.dial.knobs)(**self._stateful().knobs)

    def _close(self, loop: Iterator[Step]) -> None:
        close = getattr(loop, "close", None)
        if close:
            close()

    def _drain(self, error: Exception) -> None:
        with self._wake:
            asked, self._asked = self._asked, []
        for _, future in asked:
            future.set_exception(error)

    def _wait(self) -> None:
        printed = time.monotonic()
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.2)
            if time.monotonic() - printed > PRINT_EVERY and self.steps:
                printed = time.monotonic()
                print(_line(self.steps[-1], self.total), flush=True)


def _line(step: Step, total: int) -> str:
    shown = [
        f"{name} {step.metrics[name]:.3g}"
        for name in ("loss", "accuracy", "score", "gold", "kl_k1", "ptx_loss")
        if name in step.metrics
    ]
    return f"{step.stage}: step {step.number} of {total} · " + " · ".join(shown)
