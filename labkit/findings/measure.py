"""What is measured of every trained model, in the same way for all variants: reward, truth, distance, benchmarks.

Written to runs/<name>/<cell>/measured/<model>.json; the findings read nothing of a model but this and its evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from labkit.runs import Run, write_json
from labkit.seeds import derive_seed

if TYPE_CHECKING:
    from labkit.experiment import Experiment

__all__ = ["measure", "measured"]

BENCHMARK_ITEMS = {"smoke": 6, "tour": 150, "full": 300}


def measured(run: Run, model: str) -> dict[str, Any] | None:
    """What was measured of a model of `run`, or None."""
    file = run.path / "measured" / f"{model}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def measure(lab: Experiment, model: str, *, only: Collection[str] = (), error: str = "") -> dict[str, Any]:
    """Measure a model of the run on validation prompts and benchmarks (or `only` these benchmarks).

    score: mean RM score; gold: mean gold utility; kl: nats per response from the PPO init, of the model's own samples;
    length, end_rate; benchmarks: name -> value. error: why there is no model, such as a training that diverged.
    """
    row: dict[str, Any] = {"model": model, "error": error}
    if not error:
        row |= _on_prompts(lab, model) | {"benchmarks": _benchmarks(lab, model, only)}
    write_json(lab.run.path / "measured" / f"{model}.json", row)
    return row


def _on_prompts(lab: Experiment, model: str) -> dict[str, float]:
    from labkit.experiment import answers
    from labkit.models import encode_prompt, load_reward_model, response_logprobs, score

    prompts = lab.prompts("valid")[: lab.amounts.valid_prompts]
    drawn = answers(lab, model, prompts, seed=derive_seed(lab.seed, "measure"))
    asked = [encode_prompt(lab.tokenizer, p.text) for p in prompts]
    given = [list(c.token_ids) for c in drawn]
    policy, init = lab.policy(model), lab.policy("ppo_init")
    distance = response_logprobs(policy, asked, given) - response_logprobs(init, asked, given)
    scores = score(load_reward_model(lab.run.stage("reward").model), asked, given)
    gold = lab.source.gold(prompts, [c.text for c in drawn], [bool(c.finished) for c in drawn])
    n = len(prompts)
    return {
        "score": float(scores.mean()),
        "gold": sum(gold) / n,
        "kl": float(distance.sum()) / n,
        "length": sum(map(len, given)) / n,
        "end_rate": sum(bool(c.finished) for c in drawn) / n,
    }


def _benchmarks(lab: Experiment, model: str, only: Collection[str]) -> dict[str, float]:
    from labkit.world.benchmarks import run_benchmarks

    items = BENCHMARK_ITEMS[lab.scale]
    found = run_benchmarks(lab.policy(model), lab.tokenizer, lab.source.world, n=items, seed=lab.seed, only=only)
    return {name: score.value for name, score in found.items()}
