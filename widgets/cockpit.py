"""Cockpit: steer a running job with live curves, knobs, snapshots, branches, samples and alerts.

    board = Cockpit(job, sample=sample_now, evaluate=evaluate_now, prompts=[...])
    board                      # by hand: the live board; headless: a static figure and tables
    board.report()             # the static twin at any time

The job does not know the board. A helper thread looks at the job at most four times a second and is the only one that
writes to the widget; what the page asks for arrives as messages and is handed on to the job, which acts at its next
boundary. Errors of a callback appear on the board.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from statistics import fmean
from typing import Any

import traitlets

from labkit.alerts import Alert, alerts, failure
from labkit.errors import LabError, SettingsError
from labkit.figures.panels import WIN_RATE, panels_for
from labkit.figures.records import Record, interventions, records
from labkit.jobs import Job
from labkit.jobs.evaluations import keep_evaluation, of_this_start
from labkit.runs import check_name
from widgets import display, twins
from widgets.answers import LONGEST_TEXT, answer_rows, in_thread, short, span
from widgets.assets import css, esm
from widgets.board import Board
from widgets.desk import Desk, describe
from widgets.feed import Feed, LedgerTail, WinRates

__all__ = ["Cockpit"]

_LEDGER_ROWS = 40  # newest requests on the board; the file has them all
_ANSWERS = 5  # newest answers on the board
_ENDED = ("done", "stopped", "failed")


class Cockpit(Board):
    """The live board of one job.

    job: a `labkit.jobs.Job` of any stage; without a Dial as its schedule there are no knobs on the board.
    sample: prompts -> one row (mapping with "response" and numbers) or text per prompt; evaluate: prompts -> a mapping
    of numbers or a text; a mapping is kept in the stage's folder, and the alerts compare its "win_rate" (with "low" and
    "high", its interval) with earlier ones on the same prompts. Both run in the job's thread at its next boundary.
    prompts: texts to choose from.
    beside: other runs to draw with this one, as `labkit.figures.training_curves` takes them.
    samples: rows of the newest batch to show. rate: updates per second at most.
    """

    _esm = esm("cockpit")
    _css = css("board", "knobs", "cockpit")
    spec = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    samples = traitlets.List().tag(sync=True)
    answers = traitlets.List().tag(sync=True)
    ledger = traitlets.List().tag(sync=True)

    def __init__(
        self,
        job: Any,
        *,
        sample: Callable[[list[str]], Sequence[Any]] | None = None,
        evaluate: Callable[[list[str]], Any] | None = None,
        prompts: Sequence[str] = (),
        beside: Any = None,
        title: str = "",
        samples: int = 8,
        rate: float = 4.0,
    ) -> None:
        if not isinstance(job, Job):
            raise SettingsError(f"A Cockpit shows a Job, not a {type(job).__name__}; give labkit.jobs.Job(...), as lab.ppo_job() makes one.")
        if rate <= 0 or samples < 0:
            raise SettingsError("A Cockpit needs rate > 0 updates per second and samples >= 0.")
        self.job, self.sample, self.evaluate = job, sample, evaluate
        self.desk = Desk(job.dial) if job.dial is not None else None
        self.stage = job.folder.path.name.split("@")[0]
        self.panels = panels_for(self.stage)
        self._beside = beside
        self._prompts = [str(getattr(p, "text", p)) for p in prompts]
        self._count, self._period = samples, 1.0 / rate
        self._feed, self._ledger = Feed(job, self.panels, beside), LedgerTail()
        self._win_rates = WinRates(job, self._feed.beside)
        self._notice: dict[str, Any] = {}
        self._ending: dict[str, Any] = {}  # the notice that a pause or a stop waits for the step under way
        self._answers: list[dict[str, Any]] = []
        self._alerts: tuple[float, Any, list[dict[str, Any]]] = (0.0, None, [])  # when they are due, of what, the alerts
        self._opened = 0.0  # the start of the run whose earlier evaluations are on the board
        self._stamps: list[tuple[int, float]] = []
        self._wanted, self._wake, self._closed = False, threading.Event(), False
        super().__init__(spec=self._spec(title))
        self.on_msg(self._hear)
        self._unlisten = job.listen(self._stepped)
        if not display.is_headless():
            threading.Thread(target=_tick, args=(weakref.ref(self),), name="cockpit", daemon=True).start()

    @property
    def beside(self) -> list[Record]:
        """The other runs as they stand now."""
        return records(self._beside) if self._beside else []

    # -- to the page: only from the helper thread ------------------------------------------------------------------

    def refresh(self) -> None:
        """Send what is new; the helper thread does this by itself."""
        hello, self._wanted = self._wanted, False
        packets = self._feed.update()
        for head, body in [*(self._feed.everything() if hello else packets)]:
            self.send(head, buffers=[body])
        state = self._state()
        if state != self.state:
            self.state = state
        newest = self.job.steps[-1].samples[: self._count] if self.job.steps else ()
        rows = [{k: short(v) for k, v in row.items()} for row in newest]
        if rows != self.samples:
            self.samples = rows
        asked = self._ledger.rows[-_LEDGER_ROWS:]
        self._recall()
        if self._answers != self.answers:
            self.answers = self._answers
        requests = [twins.ledger_row(row) for row in reversed(asked)]
        if requests != self.ledger:
            self.ledger = requests

    def _spec(self, title: str) -> dict[str, Any]:
        return {
            "title": title or self.job.folder.path.name,
            "stage": self.stage,
            "panels": [p.to_json() for p in (*self.panels, WIN_RATE)],
            "keys": self._feed.keys,
            "knobs": describe(self.job.dial.knobs) if self.desk else [],
            "total": self.job.total,
            "snapshots": self.job.state is not None,
            "sample": self.sample is not None,
            "evaluate": self.evaluate is not None,
            "prompts": [p[:LONGEST_TEXT] for p in self._prompts],
        }

    def _state(self) -> dict[str, Any]:
        job, steps = self.job, list(self.job.steps)
        if self._notice is self._ending and job.status != "running":
            self._say("")
        ledger = self._ledger.read(job.folder.path)
        snapshots = job.folder.snapshots() if job.state is not None else []
        marks = interventions(Record(job.folder.path.name, steps, ledger))
        return {
            "status": job.status,
            "line": self._line(steps),
            "step": steps[-1].number if steps else 0,
            "total": job.total,
            "error": job.error,
            "branch": job.folder.path.name,
            "snapshots": snapshots,
            "marks": [{"step": m.step, "text": m.sentence, "refused": m.refused} for m in marks],
            "win_rates": self._win_rates.lines((self._evaluated(), sum(row["knob"] == "rollback" for row in ledger)), self.evaluations),
            "alerts": self._alerts_now(steps, snapshots),
            "knobs": self.desk.state() if self.desk else None,
            "notice": self._notice,
        }

    def _line(self, steps: Sequence[Any]) -> str:
        """The state in words: 'running step 12 of 60 · 1.9 s/step · 1 min left'."""
        done, status = (steps[-1].number if steps else 0), self.job.status
        if status == "failed":
            return f"failed at step {done + 1} of {self.job.total}: {self.job.error}"
        if status != "running":
            self._stamps = []  # the pause is no part of the next step
            return f"{status} · step {done} of {self.job.total}" + (f": {self.job.error}" if self.job.error else "")
        words = [f"running step {min(done + 1, self.job.total)} of {self.job.total}"]
        stamps = self._stamps[-6:]
        gaps = [b[1] - a[1] for a, b in zip(stamps, stamps[1:], strict=False) if b[0] == a[0] + 1]
        if gaps:
            pace = fmean(gaps)
            words += [
                f"{pace:.2g} s/step" if pace < 10 else f"{pace:.0f} s/step",
                f"{span(pace * (self.job.total - done))} left",
            ]
        return " · ".join(words)

    def _alerts_now(self, steps: Sequence[Any], snapshots: Sequence[int]) -> list[dict[str, Any]]:
        """The alerts, looked for anew at most every two seconds, and at once when the job has ended."""
        due, seen, _ = self._alerts
        # a row never names a snapshot that is gone, and an evaluation while the job is paused is new too
        now = (steps[-1].number if steps else 0, tuple(snapshots), self._evaluated())
        if now != seen and (time.monotonic() > due or self.job.status in _ENDED):
            started = time.monotonic()
            found = [alert.to_json() for alert in alerts(steps, snapshots, self.evaluations())]
            ended = time.monotonic()
            self._alerts = (ended + max(2.0, 50 * (ended - started)), now, found)  # a very long run is looked at less often
        return [*(alert.to_json() for alert in self._failed(steps, snapshots)), *self._alerts[2]]

    def _failed(self, steps: Sequence[Any], snapshots: Sequence[int]) -> list[Alert]:
        failed = self.job.status == "failed" and self.job.error
        return [failure(self.job.error, steps, snapshots)] if failed else []

    def alerts(self, steps: Sequence[Any], snapshots: Sequence[int]) -> list[Alert]:
        """What the whole record of the run says is going wrong: what the live board shows, asked for now."""
        return [*self._failed(steps, snapshots), *alerts(steps, snapshots, self.evaluations())]

    def evaluations(self) -> list[dict[str, Any]]:
        """What "evaluate now" measured in this run, also before it was resumed, oldest first."""
        return self.job.folder.evaluations() if self._evaluated() else []

    def _evaluated(self) -> int:
        """How much was measured by hand, as the size of its file; nothing of a run that another job began in this folder."""
        file = self.job.folder.path / "evaluations.jsonl"
        if not file.exists() or not of_this_start(self.job.folder, self.job.begun):
            return 0
        return file.stat().st_size

    def _recall(self) -> None:
        """The newest evaluations of a run that was resumed, where nothing was asked since."""
        begun = getattr(self.job, "begun", 0.0)
        if begun != self._opened and not self._answers:
            self._answers = [_evaluation(row) for row in reversed(self.evaluations()[-_ANSWERS:])]
        self._opened = begun

    # -- from the page: handed on at once --------------------------------------------------------------------------

    def _stepped(self, step: Any) -> None:
        self._stamps = [*self._stamps[-20:], (step.number, time.monotonic())]
        self._wake.set()

    def _hear(self, _: Any, message: Any, buffers: Any = None) -> None:
        try:
            self._obey(message if isinstance(message, Mapping) else {})
        except Exception as error:
            self._say(str(error), bad=True)
        self._wake.set()

    def _obey(self, message: Mapping[str, Any]) -> None:
        kind = message.get("kind")
        if kind == "hello":
            self._wanted = True
        elif kind == "do" and message.get("what") in ("start", "pause", "step", "resume", "stop"):
            self._control(message["what"])
        elif kind == "do" and message.get("what") == "snapshot":
            self._await(self.job.snapshot(), "Snapshot", lambda step: f"Snapshot of step {step} kept.")
        elif kind == "rollback":
            going = self.job.rollback(int(message["step"]), str(message.get("why", "")))
            self._await(going, "Rollback", lambda step: f"Rolled back to step {step}.")
        elif kind == "branch":
            name = check_name(str(message.get("name", "")).strip(), "branch")
            step = message.get("step")
            going = self.job.branch(name, None if step is None else int(step))
            where = "" if step is None else f" from step {step}"
            self._await(going, "Branch", lambda folder: f"Branched{where}: now writing {folder.path.name}.")
        elif kind in ("turn", "apply") and self.desk:
            getattr(self.desk, kind)(message.get("changes") or {}, message.get("why", ""))
        elif kind == "auto" and self.desk and self.desk.has_controller:
            self.desk.switch(bool(message.get("on")), message.get("why", ""))
        elif kind in ("sample", "evaluate"):
            whole = {p[:LONGEST_TEXT]: p for p in self._prompts}  # the page was given the beginnings of long ones
            self._call(kind, [whole.get(str(p), str(p)) for p in message.get("prompts") or []])

    def _control(self, what: str) -> None:
        if what == "step" and self.job.status == "idle":
            self.job.start(paused=True)
        getattr(self.job, what)()
        waits = {"pause": "Pausing", "stop": "Stopping"}.get(what) if self.job.status == "running" else None
        self._say(f"{waits} when the step under way is done …" if waits else "", busy=True)
        self._ending = self._notice

    def _call(self, kind: str, prompts: list[str]) -> None:
        """Run a callback where the model is free: at the job's boundary, or in a thread when no job runs."""
        function = self.sample if kind == "sample" else self.evaluate
        if function is None:
            return
        if not prompts:
            raise SettingsError("Choose or write at least one prompt first.")

        def work() -> dict[str, Any]:
            value = function(prompts)
            self._stamps = []  # nor is this part of the step that follows
            number = self.job.steps[-1].number if self.job.steps else 0
            answer = {"kind": kind, "step": number, "prompts": len(prompts), "rows": answer_rows(value, prompts)}
            if kind == "evaluate" and isinstance(value, Mapping) and of_this_start(self.job.folder, self.job.begun):
                try:
                    answer["rows"] = _evaluation(keep_evaluation(self.job.folder, number, prompts, value))["rows"]
                except LabError as error:  # a full disk: what was measured is shown all the same
                    answer["lost"] = f"This evaluation was not kept: {error}"
            return answer

        self._say("Waiting for the boundary of this step …" if self.job.alive else "Working …", busy=True)
        self._await(self.job.ask(work) if self.job.alive else in_thread(work), kind.capitalize(), self._answered)

    def _answered(self, answer: dict[str, Any]) -> str:
        said = answer.pop("lost", "")
        self._answers = [answer, *self._answers][:_ANSWERS]
        return said

    def _await(self, future: Future, what: str, words: Callable[[Any], str]) -> None:
        def done(finished: Future) -> None:
            error = finished.exception()
            self._say(f"{what}: {error}" if error else words(finished.result()), bad=error is not None)
            self._wake.set()

        if not future.done():
            self._say(f"{what}: waiting for the boundary of this step …", busy=True)
        future.add_done_callback(done)

    def _say(self, text: str, *, bad: bool = False, busy: bool = False) -> None:
        self._notice = {"text": text[:2000], "bad": bad, "busy": busy} if text else {}

    # -- the static twin -------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Show the static twin here: figure, knobs and ledger, alerts, newest samples."""
        for made in self.static():
            twins.show_bundle(made)

    def static(self) -> list[dict[str, Any]]:
        """The mime bundles of the static twin."""
        return twins.cockpit_bundles(self)

    def twin(self) -> dict[str, Any]:
        """The figure alone."""
        return self.static()[0]

    def close(self) -> None:
        """End the helper thread and the widget; the job goes on."""
        if hasattr(self, "_unlisten"):  # else it was refused when it was built, and nothing runs
            self._closed = True
            self._wake.set()
            self._unlisten()
        super().close()


def _evaluation(row: Mapping[str, Any]) -> dict[str, Any]:
    """A kept evaluation as an answer on the board."""
    rows = answer_rows(row["values"], row["prompts"])
    return {"kind": "evaluate", "step": row["step"], "prompts": len(row["prompts"]), "rows": rows}


def _tick(board: weakref.ref) -> None:
    """The helper thread: refresh when something happened, at most `rate` times a second, until the board is gone."""
    wake, period, broken = board()._wake, board()._period, None
    while True:
        wake.wait(0.5)
        wake.clear()
        self = board()
        if self is None or self._closed:
            return
        try:
            self.refresh()
            if broken and self._notice is broken:
                self._say("")
            broken = None
        except Exception as error:  # a full disk, a removed folder, a row that nobody foresaw: none ends the board
            what = str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            self._say(f"The board could not be brought up to date. {what}", bad=True)
            broken = self._notice
            if self.state:
                self.state = {**self.state, "notice": broken}
        del self
        time.sleep(period)
