"""A job drives one training loop in a background thread: pause, single step, resume, stop, snapshot, roll back, branch.

The thread asks the loop for the next Step and writes it into the run folder; between two Steps, at the boundary, it does
what it was asked meanwhile. By hand the cell that starts a job returns at once, and `result()` never blocks the kernel
under the sliders; headless (LABKIT_HEADLESS=1, or outside a notebook) `result()` waits and raises the thread's error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Protocol

from labkit.errors import RunError
from labkit.jobs import ending, history
from labkit.jobs.given import check_given, made, told
from labkit.jobs.owners import claimed
from labkit.jobs.threads import sharing
from labkit.jobs.turns import turn
from labkit.jobs.waiting import StillRunning, by_hand, nobody_there, wait_for
from labkit.knobs import Dial, Replay, Schedule
from labkit.runs import StageFolder
from labkit.types import Step

__all__ = ["Job"]

SPREAD = 5  # snapshots that reach back over a run, beside its newest


class Saveable(Protocol):
    """State that can be written to a snapshot folder and read back: what rollback and branch need."""

    step: int
    knobs: dict[str, float]

    def save(self, folder: Any) -> Any: ...
    def load(self, folder: Any) -> Any: ...


class Job:
    """One stage of one run, under way in a thread of its own.

    make_loop: schedule -> generator of Steps from `state.step + 1` on, called anew after a rollback. folder: where the
    stage is written, as Run("mine").stage("ppo"). schedule: a `Dial` for live control, or any step -> Knobs function.
    total: number of Steps, for progress. settings, seed, parents: what run.json records of them; nothing is done with them.
    state: the object that holds everything the loop changes, with `step`, `knobs` (as `Knobs.to_json` gives them),
    `save(folder)` and `load(folder)`, as `ppo.State`; without one there are no snapshots.
    finish: called in the thread when the loop ends or is stopped, with the folder that is being written (a branch has its
    own), e.g. to save the model there; its value is `result()`.
    snapshot_every: Steps between snapshots. The newest `keep_snapshots` stay, `spread_snapshots` over the run before them
    (by default some where a person may want to go back, else none), and all that somebody asked for.
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
        finish: Callable[[StageFolder], Any] | None = None,
        snapshot_every: int = 0,
        keep_snapshots: int = 3,
        spread_snapshots: int | None = None,
    ) -> None:
        check_given(make_loop, folder, schedule, settings)
        self.make_loop, self.folder, self.schedule, self.total = make_loop, folder, schedule, total
        self.settings, self.seed, self.parents = dict(settings or {}), seed, dict(parents or {})
        self.state, self.finish = state, finish
        self.snapshot_every, self.keep_snapshots = snapshot_every, keep_snapshots
        self.spread_snapshots = by_hand(SPREAD) if spread_snapshots is None else spread_snapshots
        self.status = "idle"  # idle, running, paused, done, stopped, failed
        self.error: str | None = None
        self.steps: list[Step] = []
        self.branches: list[StageFolder] = [folder]
        self._failure: BaseException | None = None
        self._value: Any = None
        self._listeners: list[Callable[[Step], None]] = []
        self._asked: list[tuple[Callable[[], Any], Future]] = []
        self._wake = threading.Condition()
        self._paused, self._stopping = False, False
        self._credit = 0  # 1: one more Step though it is paused
        self._restart = False  # the state is another one since a rollback or a branch, so the loop is made anew
        self._deaf = False  # the thread ends, and answers nothing any more
        self._saved = False  # whether the newest snapshot holds the state as it is
        self._saving = 0.0  # seconds that snapshots took since the last Step
        self.threads: int | None = None  # of the processor, for tensors; None: what torch takes
        self._thread: threading.Thread | None = None
        self.begun = 0.0  # when run.json says that the folder was begun, by this job

    @property
    def _draws(self) -> bool:
        """Whether its steps draw from torch's generator, which is one for the process: then no other job steps beside it."""
        return bool(self.settings.get("dropout"))

    @property
    def dial(self) -> Dial | None:
        """The live controls, if this job's schedule has any."""
        return self.schedule if isinstance(self.schedule, Dial) else None

    # -- control, from any thread -------------------------------------------------------------------------------

    def start(self, *, resume: bool = False, paused: bool = False, threads: int | None = None) -> Job:
        """Begin in the background and return at once.

        resume: continue from the newest snapshot of the folder. threads: of the processor, for this job's tensors; by
        default as many as torch takes, or as the record says that is replayed.
        """
        if self._thread is not None and self._thread.is_alive():
            raise RunError(f"{self.folder.path.name} is already running; stop it first, or build a new job.")
        if self._thread is not None and not resume:
            raise RunError(
                f"{self.folder.path.name} has ended, and its model is trained; build a new job to begin anew, or go on with "
                "start(resume=True)."
            )
        self._check_owner()
        with claimed(self, self.folder):
            newest = history.load_newest(self) if resume else 0
            recorded = self.folder.manifest["settings"] if resume else {}
            start = {k: recorded[k] for k in ("knobs", "auto") if k in recorded} or history.start_of(self.schedule)
            self.folder.begin(settings={**self.settings, **start}, seed=self.seed, parents=self.parents, resume=resume)
            if isinstance(self.schedule, (Dial, Replay)):
                self.schedule.record = self._record_request
            if resume:
                history.resume_at(self, newest)
            self.threads = threads or self.threads
            self._launch(paused)
        return self

    def pause(self) -> None:
        """Do not ask for the next Step yet; the one under way is finished."""
        self._tell(_paused=True)

    def resume(self) -> None:
        """Go on after a pause."""
        self._tell(_paused=False, error=None)

    def step(self) -> None:
        """One more Step, then pause."""
        self._tell(_paused=True, _credit=1, error=None)

    def stop(self) -> None:
        """End after the Step under way, as if it were the last; what was trained so far is kept."""
        self._tell(_stopping=True)

    def ask(self, function: Callable[[], Any]) -> Future:
        """Run `function()` in the job's thread at the next boundary (also while paused); its value arrives in the Future."""
        future: Future = Future()
        with self._wake:
            if not self.alive or self._deaf:
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

    def rollback(self, step: int, why: str = "") -> Future:
        """Return to the snapshot of `step` at the next boundary: weights, optimisers and knobs; later Steps are superseded.

        A job that has ended, also by an error, comes back to life there, paused.
        """
        return self._change_past(lambda: self._rollback(step, why))

    def branch(self, name: str, step: int | None = None) -> Future:
        """Go on in a folder of its own, `<stage>@<name>`, that shares the history so far; the old folder is left as it is.

        step: begin at the snapshot of that earlier step; a job that has ended comes back to life there, paused.
        """
        return self._change_past(lambda: self._branch(name, step))

    def listen(self, callback: Callable[[Step], None]) -> Callable[[], None]:
        """Call `callback(step)` in the job's thread after each Step; returns a function that ends it."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    @property
    def alive(self) -> bool:
        """Whether it is under way or paused."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Return when the job has ended, however it ended."""
        if self._thread is not None:
            self._thread.join()

    def result(self, *, block: bool | None = None) -> Any:
        """What the stage produced (the value of `finish`), once it is there; raises the thread's error if it failed.

        block: wait for it. By default wait when headless; by hand raise StillRunning, which stops "Run All" here
        with one line and leaves the kernel to the controls.
        """
        if self._thread is None:
            raise RunError(f"{self.folder.path.name} was never started; call start() first.")
        if self.alive and not (nobody_there() if block is None else block):
            stands = f"Training goes on ({self.status}, step {len(self.steps)} of {self.total})."
            if self.status in ("done", "stopped"):
                stands = "The last step is done and the model is being written."
            further = "When the board says done, click this cell and choose Run > Run Selected Cell and All Below: Run All would train again."
            raise StillRunning(f"{stands} {further}")
        wait_for(self._thread, self.folder.path.name, self.steps, self.total, lambda: self.status == "paused")
        if self._failure is not None:
            raise self._failure
        return self._value

    # -- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with sharing(self.threads):
            self._run_to_the_end()

    def _run_to_the_end(self) -> None:
        started = time.time()
        try:
            self._drive()
            self.status = "stopped" if self._stopping else "done"
            self._value = ending.conclude(self, started)
        except BaseException as error:  # kept, and raised where somebody waits
            self._failure, self.error, self.status = error, ending.told(error), "failed"
            ending.give_up(self, error)
        finally:
            self._drain(RunError(f"{self.folder.path.name} has ended."))
            if self.steps:
                self._notify(self.steps[-1])

    def _drive(self) -> None:
        loop, first = made(self.make_loop, self.schedule), True
        try:
            while self._boundary():
                if self._restart:
                    self._close(loop)
                    loop, first, self._restart = made(self.make_loop, self.schedule), True, False
                try:
                    with turn(first or self._draws):
                        step, first = told(next(loop)), False
                except StopIteration:
                    return self.folder.check_ours()
                self._record(step)
        finally:
            self._close(loop)
            history.refuse_waiting(self)

    def _boundary(self) -> bool:
        """Between two Steps: answer what was asked, wait while paused; False when it is time to stop."""
        while True:
            with self._wake:
                asked, self._asked = self._asked, []
                if not asked and self._paused and not self._credit and not self._stopping:
                    self.status = "paused"
                    self._wake.wait()
                    continue
            self.folder.check_ours()  # a pause may have been long
            if asked:
                self._answer(asked)
                continue
            if self._stopping:
                return False
            self._credit, self.status = 0, "running"
            return True

    def _answer(self, asked: list[tuple[Callable[[], Any], Future]]) -> None:
        for place, (function, future) in enumerate(asked):
            try:
                future.set_result(function())
            except history.HalfDone as half:  # neither here nor there: training on would go wrong in silence
                future.set_exception(half.__cause__)
                with self._wake:
                    self._asked = asked[place + 1 :] + self._asked
                raise half.__cause__ from None
            except BaseException as error:
                future.set_exception(error)

    def _record(self, step: Step) -> None:
        self._saved, step = False, self._waited(step)
        self.steps.append(step)
        self.folder.append_step(step)
        if self.dial:
            self.dial.observe(step)
        if self.state is not None and self.snapshot_every and step.number % self.snapshot_every == 0:
            with ending.pausing_for_room(self):
                self._snapshot(pin=False)
        self._notify(step)

    def _waited(self, step: Step) -> Step:
        """The step; the seconds of a snapshot that was written since the last one belong to its time."""
        seconds, self._saving = self._saving, 0.0
        if self.state is None:
            return step
        total = step.metrics.get("time_total", 0.0) + seconds
        return replace(step, metrics={**step.metrics, "time_snapshot": seconds, "time_total": total})

    def _notify(self, step: Step) -> None:
        for callback in list(self._listeners):
            try:
                callback(step)
            except Exception:  # a board's mistake must not end training
                self._listeners.remove(callback)

    def _record_request(self, row: Mapping[str, Any]) -> None:
        self.folder.append_ledger(row)

    def _snapshot(self, *, pin: bool) -> int:
        number, started = self.stateful().step, time.perf_counter()
        pin |= number in self.folder.kept()  # written anew, it loses its mark
        self.stateful().save(self.folder.snapshot(number))
        self._saving, self._saved = self._saving + time.perf_counter() - started, True
        if pin:
            self.folder.keep(number)
        self.folder.prune(self.keep_snapshots, spread=self.spread_snapshots)
        return number

    def snapshot_at_the_end(self) -> None:
        """Write the state, unless the newest snapshot holds it already. The processes of a sharded run all do, or none."""
        if self.state is not None and self.snapshot_every and not self._saved:
            self._snapshot(pin=False)

    def _rollback(self, step: int, why: str) -> int:
        history.roll_back(self, step, why)
        self._restart = True
        return step

    def _branch(self, name: str, step: int | None) -> StageFolder:
        folder = history.branch_off(self, name, step)
        self._restart |= step is not None  # from here the loop just goes on
        return folder

    def _change_past(self, change: Callable[[], Any]) -> Future:
        """Do `change` at the next boundary. A job that has ended does it here and now, and comes back to life, paused."""
        ended = self._thread is not None and not self.alive
        if not ended:
            return self.ask(change)
        future: Future = Future()
        try:
            self._check_owner()
            with claimed(self, self.folder):
                self.folder.check_ours()
                value = change()
                there = self.folder.manifest
                self.folder.begin(settings=there["settings"], seed=self.seed, parents=there["parents"], resume=True)
                self._launch(paused=True)
            future.set_result(value)
        except history.HalfDone as half:
            future.set_exception(half.__cause__)
        except Exception as error:
            future.set_exception(error)
        return future

    # -- small parts --------------------------------------------------------------------------------------------

    def _tell(self, **changes: Any) -> None:
        with self._wake:
            for name, value in changes.items():
                setattr(self, name, value)
            self._wake.notify_all()

    def stateful(self) -> Saveable:
        """The state, where there is one; else an error that says what cannot be done without."""
        if self.state is None:
            raise RunError(f"{self.folder.path.name} keeps no snapshots, so it cannot be rolled back or branched.")
        return self.state

    def _check_owner(self) -> None:
        owner = getattr(self.state, "owner", None)
        if owner is not None and owner is not self and owner.alive:
            raise RunError(
                f"Another job ({owner.folder.path.name}) is training this very model; stop it, or build the state anew."
            )

    def _launch(self, paused: bool) -> None:
        self.begun = self.folder.manifest["started"]
        if self.state is not None:
            self.state.owner = self  # type: ignore[attr-defined]
        self._failure, self.error, self._value = None, None, None
        self._stopping, self._restart, self._deaf = False, False, False
        self._paused, self._credit, self.status = paused, 0, "paused" if paused else "running"
        self._thread = threading.Thread(target=self._run, name=f"job-{self.folder.path.name}", daemon=True)
        self._thread.start()

    def _close(self, loop: Iterator[Step]) -> None:
        close = getattr(loop, "close", None)
        if close:
            close()

    def _drain(self, error: Exception) -> None:
        with self._wake:
            asked, self._asked, self._deaf = self._asked, [], True
        for _, future in asked:
            future.set_exception(error)
