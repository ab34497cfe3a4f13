"""A job without torch: a real `Job`, Dial and run folder around a loop of arithmetic, for tests of the boards.

The numbers behave like PPO's: the score rises, KL answers to β, gold turns down late. `hostile` puts texts into the
samples that would run, hide or reorder something if they were shown as markup.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.jobs import Job
from labkit.knobs import AdaptiveKL, Dial, PPOKnobs, SFTKnobs
from labkit.runs import StageFolder
from labkit.types import Step

HOSTILE = (
    '<img src=x onerror="window.__hacked = 1"> costs $x^2$ dollars',
    " \n",
    "long " * 2000,
    "abc \u202edlrow\u202c zero\u200bwidth",
)


class ToyState:
    """What the toy loop changes; saves and loads as JSON."""

    def __init__(self) -> None:
        self.step, self.knobs, self.kl = 0, {}, 0.0

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text(json.dumps({"step": self.step, "knobs": self.knobs, "kl": self.kl}))

    def load(self, folder: Path) -> ToyState:
        self.__dict__.update(json.loads((folder / "state.json").read_text()))
        return self


def toy_job(
    path: str | Path,
    *,
    total: int = 60,
    seconds: float = 0.1,
    hostile: bool = False,
    stage: str = "ppo",
    ptx: bool = True,
) -> Job:
    """A job of `total` steps of `seconds` each, not started."""
    state = ToyState()
    folder = StageFolder(Path(path))
    dial = Dial(SFTKnobs() if stage == "sft" else PPOKnobs(ptx_coef=1.0 if ptx else 0.0), controller=AdaptiveKL())

    def loop(schedule: Any) -> Iterator[Step]:
        for number in range(state.step + 1, total + 1):
            knobs = schedule(number)
            time.sleep(seconds)
            noise = random.Random(f"noise {number}")
            metrics = _sft(number / total, noise) if stage == "sft" else _ppo(number, total, state, knobs, noise, ptx)
            state.step, state.knobs = number, knobs.to_json()
            yield Step(stage, number, {**metrics, "time_total": seconds}, state.knobs, _samples(number, noise, hostile))

    return Job(loop, folder=folder, schedule=dial, total=total, state=state, snapshot_every=5, settings={"toy": True})


def _ppo(
    number: int, total: int, state: ToyState, knobs: PPOKnobs, noise: random.Random, ptx: bool
) -> dict[str, float]:
    t, wobble = number / total, lambda size: size * noise.gauss(0, 1)
    state.kl = 0.9 * state.kl + 0.1 * (0.35 / math.sqrt(knobs.kl_coef + 1e-4)) * (1 + t)
    kl = state.kl * (1 + wobble(0.05))
    metrics = {
        "score": 1.6 * t + 0.1 * kl + wobble(0.06),
        "gold": 0.5 + 0.5 * t - 0.012 * kl * kl + wobble(0.015),
        "kl_k1": kl,
        "kl_k3": 0.85 * kl,
        "entropy": 2.1 - t + wobble(0.04),
        "ratio_mean": 1 + wobble(0.004),
        "ratio_max": 1.8 + abs(wobble(0.6)),
        "clip_fraction": 0.05 + 0.08 * t + wobble(0.01),
        "explained_variance": 1 - math.exp(-4 * t) + wobble(0.03),
        "value_loss": 0.5 * math.exp(-3 * t) + abs(wobble(0.04)),
        "response_length": 14 + 3 * t + wobble(0.3),
        "end_token_rate": min(1.0, 0.92 + 0.06 * t + wobble(0.01)),
        "time_generation": 0.4,
        "time_update": 0.6,
    }
    metrics["objective"] = metrics["score"] - knobs.kl_coef * kl
    if ptx:
        grad = {
            "grad_norm_ppo": 1 + noise.random(),
            "grad_norm_ptx": 0.5 + 0.3 * noise.random(),
            "grad_cosine": wobble(0.1),
        }
        metrics |= {"ptx_loss": 1 - 0.07 * t + wobble(0.015), **grad}
    return metrics


def _sft(t: float, noise: random.Random) -> dict[str, float]:
    metrics = {
        "loss": 2 * math.exp(-3 * t) + 0.5 + 0.03 * noise.gauss(0, 1),
        "lr": 1e-3 * (1 - 0.9 * t),
        "grad_norm": 1.0,
    }
    return metrics | ({"valid_loss": 2 * math.exp(-3 * t) + 0.6, "rm_score": t} if round(t * 60) % 10 == 0 else {})


def _samples(number: int, noise: random.Random, hostile: bool) -> tuple[dict[str, Any], ...]:
    animals = ("fox", "otter", "heron", "badger")
    texts = [
        f"The {a} lives near the river and eats {f}."
        for a, f in zip(animals, ("mice", "fish", "frogs", "roots"), strict=True)
    ]
    return tuple(
        {
            "prompt_id": f"p{i}",
            "prompt": f"Tell me where the {animal} lives.\n",
            "response": HOSTILE[i] if hostile else texts[i],
            "score": round(number / 60 + noise.gauss(0, 0.5), 3),
            "kl": round(abs(noise.gauss(2, 1)), 3),
            "length": 9,
            "finished": noise.random() < 0.95,
            "gold": round(0.5 + 0.3 * noise.random(), 3),
        }
        for i, animal in enumerate(animals)
    )
