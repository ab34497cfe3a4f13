"""What a live cockpit costs the training under it, decided by many short turns inside one process.

One PPO-ptx job at tour scale is trained for a while, then goes on from the same snapshot again and again, in turns with
and without a board (ABBA), so that both sides do the very same work and a neighbour's load falls on both alike. A crowded
machine makes the same arithmetic dearer by turns, and a ratio of whole turns shows little else. But threads have clocks of
their own: what the process did outside the training thread is the board, its sending and the kernel's own business, and the
last is the same on both sides. Runs inside a kernel, where the board's messages really leave the process.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

__all__ = ["interval", "measure"]

NEEDED = ("ppo_init", "reward")
TAIL = 1.0  # seconds after a turn in which the board shows its last step


def measure(
    root: str | Path, name: str = "board-cost", *, pairs: int = 40, steps: int = 1, warm: int = 12
) -> dict[str, Any]:
    """Turns with ("board") and without ("bare") a cockpit, and what they say, with intervals.

    cpu, wall: with / without, the whole process. beside: processor time outside the training thread as a share of that
    inside it, with minus without. share: what the board's own thread took of the process's processor time.

    root, name: a run folder; where it is a finished tour its models are used, else small stand-ins are trained first.
    warm: iterations before the snapshot, whose curves the board draws as well.
    """
    job = _job(root, name, warm + steps + 1)
    job.start(paused=True)
    _advance(job, warm)
    job.snapshot().result()
    rows: dict[str, list[dict[str, float]]] = {"bare": [], "board": []}
    for turn in range(pairs + 1):
        for who in ("bare", "board") if turn % 2 else ("board", "bare"):
            row = _turn(job, warm, steps, board=who == "board")
            if turn:  # the first pair warms both sides
                rows[who].append(row)
    job.stop()
    ratios = {
        clock: interval([b[clock] / a[clock] for a, b in zip(rows["bare"], rows["board"], strict=True)])
        for clock in ("cpu", "wall")
    }
    beside = [b["beside"] - a["beside"] for a, b in zip(rows["bare"], rows["board"], strict=True)]
    ratios["beside"] = interval(beside)
    ratios["share"] = interval([row["own"] / row["cpu"] for row in rows["board"]])
    return {"turns": rows, "ratios": ratios, "messages": sum(row["messages"] for row in rows["board"])}


def interval(values: Sequence[float], *, draws: int = 10_000) -> dict[str, float]:
    """Median of `values` and its 95 % interval over bootstrap resamples of them."""
    given = np.asarray(values, float)
    medians = np.median(np.random.default_rng(0).choice(given, (draws, len(given))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return {"median": median(values), "low": float(low), "high": float(high), "count": len(given)}


def _job(root: str | Path, name: str, total: int) -> Any:
    """A PPO-ptx job at tour scale that is rolled back, not finished."""
    from labkit.experiment import Experiment
    from labkit.experiment.amounts import amounts
    from labkit.presets import preset
    from labkit.runs import Run

    run = Run(name, root)
    finished = all(run.stage(stage).model.is_dir() for stage in NEEDED)
    lab = Experiment(run, scale="tour" if finished else "smoke")
    lab.ensure(*NEEDED, say=lambda line: None)
    tour = preset("tour")
    lab.preset = replace(lab.preset, ppo=tour.ppo, ppo_knobs=tour.ppo_knobs)
    lab.amounts = amounts("tour").but(snapshot_every=0)
    return lab.ppo_job(name="board_cost", steps=total)


def _turn(job: Any, start: int, steps: int, *, board: bool) -> dict[str, float]:
    """From the snapshot of `start` so many steps on: processor and wall seconds, the board's own, its messages."""
    job.rollback(start).result()
    with _board(job) if board else contextlib.nullcontext({}) as seen:
        training = time.pthread_getcpuclockid(job._thread.ident)
        cpu, inside, wall = time.process_time(), time.clock_gettime(training), time.perf_counter()
        own, sent = _own(seen), seen.get("messages", 0)
        _advance(job, steps)
        wall = time.perf_counter() - wall
        time.sleep(TAIL)
        cpu, inside = time.process_time() - cpu, time.clock_gettime(training) - inside
        spent = {"cpu": cpu, "wall": wall, "beside": (cpu - inside) / inside}
        return {**spent, "own": _own(seen) - own, "messages": seen.get("messages", 0) - sent}


@contextlib.contextmanager
def _board(job: Any) -> Iterator[dict[str, Any]]:
    """A cockpit that has shown what there is so far; counts its packets of curves."""
    from widgets import Cockpit

    before, seen = set(threading.enumerate()), {"messages": 0}
    shown = Cockpit(job)
    helper = next(t for t in threading.enumerate() if t.name == "cockpit" and t not in before)
    send = shown.send

    def counted(*message: Any, **more: Any) -> None:
        seen["messages"] += 1
        send(*message, **more)

    shown.send = counted
    seen["clock"] = time.pthread_getcpuclockid(helper.ident)
    while not shown.state:
        time.sleep(0.05)
    try:
        yield seen
    finally:
        shown.close()
        helper.join(10)


def _own(seen: dict[str, Any]) -> float:
    return time.clock_gettime(seen["clock"]) if seen else 0.0


def _advance(job: Any, steps: int) -> None:
    """Let the job take so many steps, and wait without a poll until it stands."""
    goal, there = (job.steps[-1].number if job.steps else 0) + steps, threading.Event()

    def reached(step: Any) -> None:
        if step.number >= goal:
            job.pause()
            there.set()

    unlisten = job.listen(reached)
    job.resume()
    while not there.wait(5):
        if not job.alive:
            job.result(block=True)  # raises why
    unlisten()
