"""Knobs: the numbers that may bend while training runs, and the schedules that bend them.

A loop sees a schedule: any `Callable[[int], Knobs]` that it asks once per step. `constant(k)`, `ramp(k, steps, kl_coef=...)`,
`Dial(k)` (turned by hand or by a KL controller, from any thread), `replay(...)` or a plain function all serve.
Every request to change a knob becomes one ledger line: asked, applied / clamped / refused, at which step, by whom, why.
Settings (frozen at the start) live with their stage; a name is a setting or a knob, never both.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Real
from typing import Any

from labkit.errors import RunError, SettingsError
from labkit.settings import plain, tell_fields
from labkit.types import Step

__all__ = [
    "AdaptiveKL",
    "Dial",
    "Knobs",
    "PPOKnobs",
    "Replay",
    "RewardKnobs",
    "SFTKnobs",
    "Schedule",
    "constant",
    "knob",
    "knobs_at",
    "ramp",
    "replay",
    "standing",
]


def knob(default: float, low: float, high: float, doc: str, bounds: str, *, log: bool = False, symbol: str = "") -> Any:
    """A field of a Knobs class: its bounds and why they are there, one sentence on it, whether its slider is logarithmic."""
    meta = {"low": low, "high": high, "doc": doc, "bounds": bounds, "log": log, "symbol": symbol}
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Knobs:
    """Base of the knobs of a stage; bounds are checked whenever one is built."""

    def __init_subclass__(cls) -> None:
        tell_fields(cls)

    def __post_init__(self) -> None:
        for f in fields(self):
            value, low, high = plain(getattr(self, f.name)), f.metadata["low"], f.metadata["high"]
            object.__setattr__(self, f.name, value)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise SettingsError(
                    f"{f.name} is {value!r}; it must lie between {low:g} and {high:g} ({f.metadata['bounds']}). {f.metadata['doc']}"
                )

    def turned(self, **changes: float) -> Knobs:
        """The same knobs with some changed; raises SettingsError on an unknown name or a value out of bounds."""
        names = [f.name for f in fields(self)]
        for name in changes:
            if name not in names:
                raise SettingsError(f"There is no knob {name!r}; the knobs are {', '.join(names)}.")
        return replace(self, **changes)

    def to_json(self) -> dict[str, float]:
        return asdict(self)


OF_ADAM = "0 holds the weights still; Adam moves each by about the rate at every step, and 0.1 is as large as most of them"
OF_A_RATE = "0 holds the weights still, and ten times the rate of a schedule is another schedule"


@dataclass(frozen=True)
class SFTKnobs(Knobs):
    """Knobs of supervised fine-tuning."""

    lr_scale: float = knob(1.0, 0.0, 10.0, "Factor on the scheduled learning rate; 1 follows the cosine schedule.", OF_A_RATE)


@dataclass(frozen=True)
class RewardKnobs(Knobs):
    """Knobs of reward-model training."""

    lr_scale: float = knob(1.0, 0.0, 10.0, "Factor on the scheduled learning rate; 1 follows the cosine schedule.", OF_A_RATE)


@dataclass(frozen=True)
class PPOKnobs(Knobs):
    """Knobs of PPO and PPO-ptx. Defaults are starting values; `labkit.presets` has each scale's; `labkit.paper` has the paper's."""

    policy_lr: float = knob(
        1e-3, 0.0, 1e-1, "Learning rate of the policy after warm-up (final value not in the paper).", OF_ADAM, log=True
    )
    value_lr: float = knob(1e-3, 0.0, 1e-1, "Learning rate of the value model (paper: 9e-6).", OF_ADAM, log=True)
    kl_coef: float = knob(
        0.02, 0.0, 10.0, "Weight of the per-token KL penalty to the PPO init model (paper: 0.02).",
        "0 leaves the policy free; from 2 on it hardly leaves its init (paper, figure 34)", log=True, symbol="β",
    )
    ptx_coef: float = knob(
        0.0, 0.0, 1000.0, "Weight of the pretraining gradient; 0 is PPO, more is PPO-ptx (paper: 27.8).",
        "0 is plain PPO; there is room for the paper's 27.8 under any of the reductions that it may have meant", log=True, symbol="γ",
    )
    clip: float = knob(
        0.2,
        0.01,
        1.0,
        "How far the probability ratio may leave 1 before the policy loss is cut (paper: 0.2).",
        "at 0.01 nearly every token is cut, and a ratio cannot fall by more than 1",
        symbol="ε",
    )
    value_clip: float = knob(
        0.2, 0.01, 100.0, "How far a value may move from its old estimate (not in the paper; 0.2 by lineage).",
        "values are a few units wide: 0.01 hardly lets them move, 100 never cuts",
    )
    gae_lambda: float = knob(
        0.95, 0.0, 1.0, "λ of generalised advantage estimation (not in the paper; 0.95 by lineage).",
        "0 trusts the value model alone, 1 the sampled return alone, and beyond is no average of the two", symbol="λ",
    )
    temperature: float = knob(
        1.0,
        0.05,
        5.0,
        "Divides the logits in sampling and in scoring (paper: 1).",
        "near 0 one token takes all and ratios have no end; at 5 most text is noise",
    )
    kl_target: float = knob(
        6.0, 0.01, 1000.0, "Target of the adaptive KL controller, nats per episode (the paper keeps β fixed).",
        "a KL of 0 is the init itself; a thousand nats leave nothing of it in a response of a hundred tokens", log=True,
    )


Schedule = Callable[[int], Knobs]


def knobs_at(schedule: Schedule, step: int, kind: type[Knobs]) -> Knobs:
    """What the schedule says of this step; raises SettingsError where it is no schedule, or one of other knobs than `kind`."""
    knobs = schedule(step) if callable(schedule) and not isinstance(schedule, type) else None
    if knobs is None or not all(hasattr(knobs, f.name) for f in fields(kind)):
        found = f"gives {knobs!r:.60} at step {step}" if knobs is not None else f"is {schedule!r:.60}"
        raise SettingsError(f"The schedule {found}; give constant({kind.__name__}(...)), a Dial of them, or a function from step to {kind.__name__}.")
    return knobs


def constant(knobs: Knobs) -> Schedule:
    """The schedule that never bends."""
    _check_knobs(knobs, "A constant schedule")
    return lambda step: knobs


def _check_knobs(knobs: Any, what: str) -> None:
    if not isinstance(knobs, Knobs):
        raise SettingsError(f"{what} needs knobs, not {knobs!r:.60}; give for instance PPOKnobs(kl_coef=0.05).")


def ramp(knobs: Knobs, steps: int, **ends: float) -> Schedule:
    """From the values of `knobs` at step 1 to these at step `steps`, where they stay: `ramp(knobs, 30, kl_coef=0.02)`.

    Straight, or by equal factors for knobs that are turned logarithmically, where neither end is 0. Both ends are checked
    now, not in the middle of training.
    """
    if steps < 1:
        raise SettingsError(f"steps is {steps}; a ramp needs at least one.")
    last = knobs.turned(**ends)
    by_factors = {f.name for f in fields(knobs) if f.metadata["log"] and getattr(knobs, f.name) > 0 and getattr(last, f.name) > 0}

    def at(step: int) -> Knobs:
        share = min(max(step - 1, 0) / max(steps - 1, 1), 1.0)
        if share in (0.0, 1.0):
            return last if share else knobs
        pairs = {name: (getattr(knobs, name), getattr(last, name)) for name in ends}
        return knobs.turned(
            **{n: a * (b / a) ** share if n in by_factors else a + (b - a) * share for n, (a, b) in pairs.items()}
        )

    return at


@dataclass(frozen=True)
class AdaptiveKL:
    """Proportional controller of β: it grows when KL is above target, falls when below, by at most `gain` a step.

    After Ziegler et al. 2019, section 2.2, but quicker: their error, clipped at ±0.2, times their 0.1 moves β by at most
    2 % a step, over thousands of steps; here an error of 0.2 or more moves it by `gain`, 10 %.
    """

    gain: float = 0.1  # largest relative change of β per step
    floor: float = 1e-4  # β from which the controller starts again after β = 0

    def __call__(self, knobs: Knobs, kl: float) -> float:
        """Return the next β for the KL (nats per episode) measured under `knobs`."""
        error = max(-0.2, min(0.2, kl / knobs.kl_target - 1.0))
        return max(knobs.kl_coef, self.floor) * (1.0 + self.gain * error / 0.2)


class Dial:
    """A schedule that a person, or a KL controller, may bend while the loop runs.

    `turn` only queues a request, from any thread; the loop's own call `dial(step)` applies it, so no knob
    ever changes inside a step. Each request becomes a ledger row given to `record` (e.g. `folder.append_ledger`).
    """

    def __init__(
        self,
        knobs: Knobs,
        *,
        record: Callable[[Mapping[str, Any]], None] | None = None,
        controller: AdaptiveKL | None = None,
        auto: bool = False,
        locked: Mapping[str, str] | None = None,
    ) -> None:
        """locked: knobs that cannot bend here, each with the reason that whoever asks is given."""
        _check_knobs(knobs, "A Dial")
        self.knobs = knobs
        self.locked = dict(locked or {})
        self.record = record
        self.controller = controller or AdaptiveKL()
        self.auto = auto  # True: the controller holds β; False: the hand does
        self.ledger: list[dict[str, Any]] = []
        self._queue: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def turn(self, *, why: str = "", by: str = "hand", **changes: float) -> None:
        """Ask for new knob values at the next step; a request that cannot be met is refused there, with its reason.

        What is no finite number is no request: it raises SettingsError here, and nothing of this turn waits.
        """
        numbers = {name: _finite(name, value) for name, value in changes.items()}
        with self._lock:
            for name, value in numbers.items():
                self._queue.append({"time": time.time(), "knob": name, "asked": value, "by": by, "why": why})

    def hold(self, why: str = "") -> None:
        """Take β from the controller into the hand."""
        self._switch(False, why)

    def release(self, why: str = "") -> None:
        """Give β to the controller."""
        self._switch(True, why)

    def _switch(self, auto: bool, why: str) -> None:
        with self._lock:
            self._queue.append({"time": time.time(), "knob": "auto", "asked": float(auto), "by": "hand", "why": why})

    @property
    def pending(self) -> tuple[Mapping[str, Any], ...]:
        """The requests that wait for the next step, oldest first."""
        with self._lock:
            return tuple(self._queue)

    def __call__(self, step: int) -> Knobs:
        with self._lock:
            requests, self._queue = self._queue, []
        for request in requests:
            self._apply(step, request)
        return self.knobs

    def refuse_waiting(self, step: int, reason: str) -> None:
        """No further step will be asked for after `step`: what the hand asked for and still waits is refused, which the ledger says.

        What the controller asked for it asks for again where the run goes on.
        """
        with self._lock:
            requests, self._queue = self._queue, []
        for request in requests:
            if request["by"] != "controller":
                name = request["knob"]
                now = float(self.auto) if name == "auto" else getattr(self.knobs, name, None)
                self._tell({**request, "step": step, "old": now, "new": now, "outcome": "refused", "reason": reason})

    def rewind(
        self, knobs: Knobs, *, auto: bool, ledger: Iterable[Mapping[str, Any]] = (), newest: Step | None = None
    ) -> None:
        """Stand as after `newest`: its knobs, who held β then, and the ledger up to there.

        What the controller asked for because of superseded steps is dropped, and it looks at `newest` again; what the
        hand asked for still waits.
        """
        with self._lock:
            waiting = [request for request in self._queue if request["by"] != "controller"]
            self.knobs, self.auto, self.ledger, self._queue = knobs, auto, [dict(row) for row in ledger], []
        if newest is not None:
            self.observe(newest)
        with self._lock:
            self._queue += waiting

    def observe(self, step: Step) -> None:
        """Let the controller see a finished step; under `auto` it asks for the next β."""
        kl = step.metrics.get("kl_k1")
        if self.auto and kl is not None and math.isfinite(kl):
            asked = self.controller(self.knobs, kl)
            self.turn(kl_coef=asked, by="controller", why=f"KL {kl:.3g}, target {self.knobs.kl_target:g}")

    def _apply(self, step: int, request: dict[str, Any]) -> None:
        name, asked = request["knob"], request["asked"]
        row = {**request, "step": step, "old": None, "new": None, "outcome": "applied", "reason": ""}
        if name == "auto":
            row["old"], self.auto = float(self.auto), bool(asked)
            row["new"] = float(self.auto)
        elif request["by"] == "hand" and name == "kl_coef" and self.auto:
            row.update(old=self.knobs.kl_coef, new=self.knobs.kl_coef, outcome="refused")
            row["reason"] = "the controller holds kl_coef; switch to hold first"
        elif request["by"] == "controller" and name == "kl_coef" and not self.auto:  # asked before the hand took over
            row.update(old=self.knobs.kl_coef, new=self.knobs.kl_coef, outcome="refused")
            row["reason"] = "the hand holds kl_coef"
        elif name in self.locked:
            row["old"] = row["new"] = getattr(self.knobs, name, None)
            row.update(outcome="refused", reason=self.locked[name])
        else:
            row["old"] = getattr(self.knobs, name, None)
            try:
                value, row["outcome"] = self._bounded(name, asked, clamp=request["by"] == "controller")
                self.knobs = self.knobs.turned(**{name: value})
            except SettingsError as error:
                row.update(outcome="refused", reason=str(error))
            row["new"] = getattr(self.knobs, name, None)
        self._tell(row)

    def _tell(self, row: dict[str, Any]) -> None:
        self.ledger.append(row)
        if self.record:
            self.record(row)

    def _bounded(self, name: str, asked: float, clamp: bool) -> tuple[float, str]:
        meta = next((f.metadata for f in fields(self.knobs) if f.name == name), None)
        if clamp and meta and not meta["low"] <= asked <= meta["high"]:
            return min(max(asked, meta["low"]), meta["high"]), "clamped"
        return asked, "applied"


def _finite(name: str, value: Any) -> float:
    """The value as a plain number, also where it comes from NumPy; raises SettingsError where it is none."""
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            if math.isfinite(value):
                return value if isinstance(value, int) else float(value)
    raise SettingsError(f"{name} = {value!r:.60} is no finite number; turn a knob as in dial.turn({name}=0.05).")


def standing(ledger: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that still count: a rollback supersedes every request that took effect after the step it returned to.

    Rollbacks are rows too, and stand where they returned to.
    """
    rows: list[Mapping[str, Any]] = []
    for row in ledger:
        if row["knob"] == "rollback":
            rows = [r for r in rows if (r["new"] if r["knob"] == "rollback" else r["step"]) <= row["new"]]
        rows.append(row)
    return rows


class Replay:
    """The schedule that re-applies a ledger; what it applies goes to `record`, so that a replayed run can be replayed again."""

    def __init__(self, ledger: Iterable[Mapping[str, Any]], knobs: Knobs) -> None:
        self.knobs = self._start = knobs
        self.record: Callable[[Mapping[str, Any]], None] | None = None
        self._rows: dict[int, list[Mapping[str, Any]]] = {}
        for row in standing(ledger):
            if row["outcome"] != "refused" and row["knob"] not in ("auto", "rollback"):
                self._rows.setdefault(int(row["step"]), []).append(row)

    def rewind(self, step: int) -> None:
        """Stand as after `step`; what was applied up to there is not recorded again."""
        self.knobs, record, self.record = self._start, self.record, None
        for number in sorted(n for n in self._rows if n <= step):
            self(number)
        self.record = record

    def __call__(self, step: int) -> Knobs:
        for row in self._rows.get(step, ()):
            now = getattr(self.knobs, row["knob"], None)
            if now != row["old"]:
                raise RunError(
                    f"Replay of step {step}: the ledger changes {row['knob']} from {row['old']}, but it stands at {now}. "
                    "Start from the settings in the run.json beside that ledger."
                )
            self.knobs = self.knobs.turned(**{row["knob"]: row["new"]})
            if self.record:
                self.record({**row, "by": "replay", "time": time.time()})
        return self.knobs


def replay(ledger: Iterable[Mapping[str, Any]], knobs: Knobs) -> Replay:
    """The schedule that re-applies a ledger, strictly: a knob that does not stand where the ledger says is an error.

    `ledger` holds the rows of a run's ledger.jsonl, `knobs` what that run started from.
    """
    return Replay(ledger, knobs)
