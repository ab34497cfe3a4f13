"""What a live cockpit costs the training under it: PPO-ptx runs with and without a board, in turns. Runs inside a kernel,
where the board's messages really leave the process.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["measure"]


def measure(folder: str | Path, *, pairs: int = 5, steps: int = 8, batch: int = 64) -> dict[str, Any]:
    """Seconds of processor and wall clock of each run with ("board") and without ("bare") a cockpit, and their ratios.

    share: what the board's own thread took of the process's processor time, which other programs do not blur.
    """
    from labkit.experiment import Experiment
    from labkit.runs import Run

    lab = Experiment(Run("board-cost", folder), scale="smoke", model="small")
    lab.ensure("ppo_init", "reward", say=lambda line: None)
    larger = lab.preset.ppo.but(batch=batch, minibatch=batch // 2, max_new_tokens=32)
    lab.preset = replace(lab.preset, ppo=larger)
    lab.amounts = lab.amounts.but(snapshot_every=0)
    _once(lab, steps=2, board=True)  # warm: imports, compiled kernels, caches
    rows: dict[str, list[dict[str, float]]] = {"bare": [], "board": []}
    for turn in range(pairs):
        for who in ("bare", "board") if turn % 2 else ("board", "bare"):
            rows[who].append(_once(lab, steps=steps, board=who == "board"))
    found = {
        clock: _spread([b[clock] / a[clock] for a, b in zip(rows["bare"], rows["board"], strict=True)])
        for clock in ("cpu", "wall")
    }
    found["share"] = _spread([row["own"] / row["cpu"] for row in rows["board"]])
    return {"runs": rows, "ratios": found, "messages": sum(row["messages"] for row in rows["board"])}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def _once(lab: Any, *, steps: int, board: bool) -> dict[str, float]:
    """One run from the same start."""
    from widgets import Cockpit

    job = lab.ppo_job(name="measured", steps=steps)
    sent: list[Any] = []
    if board:
        shown = Cockpit(job)
        send = shown.send
        shown.send = lambda *message, **more: (sent.append(1), send(*message, **more))
    cpu, wall = time.process_time(), time.perf_counter()
    job.start().result(block=True)
    spent = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "messages": len(sent)}
    if board:
        helper = next(t for t in threading.enumerate() if t.name == "cockpit")
        spent["own"] = time.clock_gettime(time.pthread_getcpuclockid(helper.ident))
        shown.close()
        helper.join(10)
    return spent
