"""What the pretraining gradient costs: PPO-ptx beside PPO at the tour's size, iteration by iteration in turn.

The world's medium base, briefly fine-tuned so that answers end as they do in the tour, its reader as reward and value
model, the tour's settings. CPU seconds of this process, because other programs may share the machine.

    python -m tests.benchmarks.ptx_cost
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from typing import Any

from labkit import reward
from labkit.experiment import Experiment, amounts
from labkit.knobs import constant
from labkit.runs import Run

__all__ = ["ptx_cost"]

PHASES = ("generation", "scoring", "advantage", "update", "ptx")


def ptx_cost(rounds: int = 5, *, size: str = "medium", steps: int = 60, **settings: Any) -> dict[str, Any]:
    """CPU seconds of `rounds` pairs of iterations after one pair to warm up, their ratios, and the phases of each side.

    steps: of the fine-tuning before. settings: of PPO, in place of the tour's.
    """
    with tempfile.TemporaryDirectory() as folder:
        lab = _lab(Run("ptx-cost", folder), size, steps)
        sides = {name: _loop(lab, name == "PPO-ptx", settings) for name in ("PPO", "PPO-ptx")}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        metrics: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for _ in range(rounds + 1):
            for name, loop in sides.items():
                started = time.process_time()
                metrics[name].append(dict(next(loop).metrics))
                seconds[name].append(time.process_time() - started)
    ratios = [b / a for a, b in zip(seconds["PPO"][1:], seconds["PPO-ptx"][1:], strict=True)]
    return {
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "pairs": rounds},
        "seconds": {name: statistics.median(s[1:]) for name, s in seconds.items()},
        "phases": {name: _phases(rows[1:]) for name, rows in metrics.items()},
        "response_length": {name: statistics.mean(r["response_length"] for r in rows[1:]) for name, rows in metrics.items()},
        "settings": {k: getattr(lab.preset.ppo.but(**settings), k) for k in ("batch", "minibatch", "ptx_per_episode", "ptx_tokens", "ptx_row")},
    }


def _lab(run: Run, size: str, steps: int) -> Experiment:
    """The tour's experiment with as much data as a few iterations need; the reward model is its base, which costs the same."""
    lab = Experiment(run, scale="tour", model=size)
    demonstrations = steps * lab.preset.ppo_init.batch_size
    lab.amounts = amounts("tour").but(raw_prompts=6_000, demonstrations=demonstrations, pretraining_rows=1024)
    lab.prepare()
    lab.sft_job(init=True, epochs=1, pretrain_share=0.0).start().result(block=True)
    reward.start(lab.reward_base).save_model(run.stage("reward").model)
    return lab


def _loop(lab: Experiment, ptx: bool, settings: dict[str, Any]):
    """Iterations that hardly change the policy, so that both sides go on drawing answers of one length."""
    job = lab.ppo_job(ptx=ptx, steps=1000, policy_lr=1e-7, value_lr=1e-7, **settings)
    return job.make_loop(constant(job.dial.knobs))


def _phases(rows: list[dict[str, float]]) -> dict[str, float]:
    """Median wall seconds of each phase."""
    return {p: statistics.median(row[f"time_{p}"] for row in rows) for p in PHASES}


if __name__ == "__main__":
    result = ptx_cost()
    print(json.dumps(result, indent=1))
