"""What is measured of every trained model, in the same way for all variants: reward, truth, distance, benchmarks.

Written to runs/<name>/<cell>/measured/<model>.json; the findings read nothing of a model but this and its evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from labkit.disk import write_json
from labkit.runs import Run
from labkit.seeds import derive_seed

if TYPE_CHECKING:
    from labkit.experiment import Experiment

__all__ = ["measure", "measured"]

BENCHMARK_ITEMS = {"smoke": 6, "findings": 250, "tour": 150, "full": 300}
#: Toxicity is sampled and must be shown to stay the same within a few points, which 150 texts cannot tell.
TOXICITY_ITEMS = {"smoke": 6, "findings": 400, "tour": 400, "full": 600}
#: Answers to each validation prompt: one alone would leave gold utility as uncertain as the effects that it decides.
ANSWERS = {"smoke": 1, "findings": 4, "tour": 4, "full": 4}


def measured(run: Run, model: str) -> dict[str, Any] | None:
    """What was measured of a model of `run`, or None."""
    file = run.path / "measured" / f"{model}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def measure(
    lab: Experiment,
    model: str,
    *,
    only: Collection[str] = (),
    error: str = "",
    by_step: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Measure a model of the run on validation prompts and benchmarks (or `only` these benchmarks).

    score: mean RM score; gold: mean gold utility; kl: nats per response from the PPO init, of the model's own samples;
    length, end_rate; benchmarks: name -> value. error: why there is no model, such as a training that diverged.
    by_step: benchmarks while the model was trained (`labkit.findings.curve`), kept beside.
    """
    row: dict[str, Any] = {"model": model, "error": error, "by_step": list(by_step)}
    if not error:
        row |= _on_prompts(lab, model) | {"benchmarks": _benchmarks(lab, model, only)}
    write_json(lab.run.path / "measured" / f"{model}.json", row)
    return row


def _on_prompts(lab: Experiment, model: str) -> dict[str, float]:
    """The model's own answers to validation prompts, several to each.

    Prompts and random numbers are the same for every model, so that models are not told apart by luck.
    """
    from labkit.models import encode_prompt, load_reward_model, response_logprobs, score
    from labkit.sampling import complete

    policy, init, each = lab.policy(model), lab.policy("ppo_init"), ANSWERS[lab.scale]
    options = {"n": each, "max_new_tokens": lab.max_new_tokens, "name": model}
    chosen = lab.prompts("valid")[: lab.amounts.valid_prompts]
    groups = complete(policy, lab.tokenizer, chosen, seed=derive_seed(lab.seed, "measure"), **options)
    prompts, drawn = [p for p in chosen for _ in range(each)], [c for group in groups for c in group]
    asked = [encode_prompt(lab.tokenizer, p.text) for p in prompts]
    given = [list(c.token_ids) for c in drawn]
    distance = response_logprobs(policy, asked, given) - response_logprobs(init, asked, given)
    scores = score(load_reward_model(lab.run.stage("reward").model), asked, given)
    gold = lab.source.gold(prompts, [c.text for c in drawn], [bool(c.finished) for c in drawn])
    n = len(drawn)
    return {
        "score": float(scores.mean()),
        "gold": sum(gold) / n,
        "kl": float(distance.sum()) / n,
        "length": sum(map(len, given)) / n,
        "end_rate": sum(bool(c.finished) for c in drawn) / n,
    }


def _benchmarks(lab: Experiment, model: str, only: Collection[str]) -> dict[str, float]:
    from labkit.world.benchmarks import benchmark_items, run_benchmarks

    policy, world = lab.policy(model), lab.source.world
    wanted = [name for name in benchmark_items(world, 1) if not only or name in only]
    toxic = [name for name in wanted if name.startswith("toxicity")]
    found = {}
    for names, count in ((set(wanted) - set(toxic), BENCHMARK_ITEMS), (toxic, TOXICITY_ITEMS)):
        if names:
            found |= run_benchmarks(policy, lab.tokenizer, world, n=count[lab.scale], seed=lab.seed, only=names)
    return {name: score.value for name, score in found.items()}
