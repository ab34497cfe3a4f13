"""Judge the models of a run as the paper does: preference over SFT, Likert, metadata flags, benchmarks; on held-out customers' prompts.

Judges are the simulated labelers, those whose data trained the models and those held out, the gold utility and the
reward model. With prompts of your own nobody knows the truth: the reward model judges alone, and what only the world
knows is left out. Either way people may judge as well (`labkit.experiment.by_people`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.disk import write_json, write_jsonl
from labkit.errors import DataError, LabError, RunError, SettingsError
from labkit.evaluation.preference import REWARD_MODEL, Preference, compare, compare_by_score
from labkit.evaluation.winrate import Judgment, WinRate, judgments_of
from labkit.experiment import needs
from labkit.experiment.by_people import join_people
from labkit.experiment.evaluation import GROUPS, Evaluation, preference_row
from labkit.experiment.look import answers
from labkit.models import encode_prompt, load_reward_model, score
from labkit.reward.data import response_ids
from labkit.runs import StageFolder
from labkit.types import Completion, Prompt

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["evaluate"]

Rates = Mapping[tuple[str, str], WinRate]  # (model, group of judges) -> over the baseline


def evaluate(
    lab: Experiment,
    models: Sequence[str],
    *,
    baseline: str = "sft",
    prompts: Sequence[Prompt] | None = None,
    benchmarks: bool = True,
    training_prompts: int = 0,
    stage: str = "evaluate",
) -> Evaluation:
    """Sample one answer per test prompt from every model and have them judged; written to runs/<name>/<stage>/.

    prompts: by default test prompts, which come from held-out customers. On the world's prompts its labelers and its
    judge decide; on others the run's reward model, without gold utility, Likert, flags and benchmarks.
    training_prompts: in the world, on so many prompts that PPO was trained on preferences are counted as well: does what was
    learnt hold for customers who took no part?
    """
    if isinstance(models, str):
        raise SettingsError(f"models is the one name {models!r}; give a list of names, as [{models!r}].")
    own = prompts is None
    prompts = lab.prompts("test")[: lab.amounts.test_prompts] if own else list(prompts)
    if not prompts:
        raise DataError(
            f"{lab.run.path / 'prompts' / 'test.jsonl'} is empty: no prompt is left to evaluate on. "
            'Give more prompts, or some with "split": "test" in prompts.jsonl.'
        )
    folder = lab.run.stage(stage)
    folder.begin(settings={"models": list(models), "baseline": baseline}, seed=lab.seed, parents=_parents(lab, models, prompts, own))
    try:
        result = _evaluate(lab, folder, list(models), baseline, prompts, benchmarks, training_prompts)
    except BaseException as error:
        with contextlib.suppress(LabError):  # a full disk must not hide the error that came first
            folder.finish("failed", error=str(error) or type(error).__name__)
        raise
    folder.finish()
    return result


def _parents(lab: Experiment, models: Sequence[str], prompts: Sequence[Prompt], own: bool) -> dict[str, str]:
    """What the sheet is made from: the models that answer, the run's own prompts, and the reward model where it judges."""
    there = lab.run.stage("reward").model.is_dir()  # in the world it is one judge of several
    judge = ["reward"] if there or not all(p.meaning is not None for p in prompts) else []
    return needs.fingerprints(lab.run, *dict.fromkeys([*needs.answered_by(models, prompts=own), *judge]))


def _evaluate(
    lab: Experiment,
    folder: StageFolder,
    models: list[str],
    baseline: str,
    prompts: list[Prompt],
    benchmarks: bool,
    training_prompts: int,
) -> Evaluation:
    """Draw, judge, write and return; the world's benchmarks where the models know the world."""
    in_world = all(p.meaning is not None for p in prompts)
    drawn = {m: answers(lab, m, prompts) for m in models}
    write_jsonl(folder.path / "samples.jsonl", (c.to_json() for m in models for c in drawn[m]))
    judged, rates, quality = (_by_all if in_world else _by_reward_model)(lab, prompts, drawn, baseline)
    write_jsonl(folder.path / "rankings.jsonl", (r.to_json() for r in judged.rankings))
    write_jsonl(folder.path / "judgments.jsonl", (_row(j) for j in judgments_of(judged.rankings)))
    groups = [g for g in (*GROUPS, REWARD_MODEL) if any(group == g for _, group in rates)]
    result = Evaluation(
        baseline=baseline,
        models=models,
        preferences=[preference_row(m, group, rates[m, group]) for group in groups for m in models if m != baseline],
        quality=quality,
        benchmarks=_benchmarks(lab, models) if benchmarks and in_world else [],
        on_training=_on_training(lab, models, baseline, training_prompts) if training_prompts and in_world else [],
        prompts=len(prompts),
    )
    texts = {m: {c.prompt_id: c.text for c in own} for m, own in drawn.items()}
    result = join_people(lab.run, result, {p.id: p.text for p in prompts}, texts)
    write_json(folder.path / "results.json", result.to_json())
    return result


def _on_training(lab: Experiment, models: Sequence[str], baseline: str, count: int) -> list[dict[str, Any]]:
    """Preferences of the simulated labelers on PPO's own prompts; what is no stage of its own (few-shot, best-of-n) is left out."""
    asked = lab.prompts("train", "ppo")[:count]
    stages = [m for m in models if m != "few-shot" and not m.startswith("best-of-")]
    judged = compare(asked, {m: answers(lab, m, asked) for m in stages}, baseline=baseline, seed=lab.seed)
    return [preference_row(m, group, judged.win_rates[m, group]) for group in GROUPS[:2] for m in stages if m != baseline]


def _by_all(
    lab: Experiment, prompts: list[Prompt], drawn: Mapping[str, Sequence[Completion]], baseline: str
) -> tuple[Preference, Rates, list[dict[str, Any]]]:
    """The world's judges, and the reward model beside them where the run has one."""
    judged = compare(prompts, drawn, baseline=baseline, seed=lab.seed)
    quality = [_quality(lab, prompts, m, own, judged) for m, own in drawn.items()]
    if not lab.run.stage("reward").model.is_dir():
        return judged, judged.win_rates, quality
    by_model = compare_by_score(prompts, drawn, _scores(lab, prompts, drawn), baseline=baseline)
    return judged, {**judged.win_rates, **by_model.win_rates}, quality


def _by_reward_model(
    lab: Experiment, prompts: list[Prompt], drawn: Mapping[str, Sequence[Completion]], baseline: str
) -> tuple[Preference, Rates, list[dict[str, Any]]]:
    """The one judge of prompts whose truth nobody knows."""
    scores = _scores(lab, prompts, drawn)
    judged = compare_by_score(prompts, drawn, scores, baseline=baseline)
    return judged, judged.win_rates, [_scored_quality(m, own, scores[m]) for m, own in drawn.items()]


def _quality(
    lab: Experiment, prompts: Sequence[Prompt], model: str, completions: Sequence[Completion], judged: Preference
) -> dict[str, Any]:
    """Gold utility, and Likert and flags as the held-out labelers gave them."""
    gold = lab.source.gold(prompts, [c.text for c in completions], [bool(c.finished) for c in completions])
    held_out = {x.id for x in lab.source.held_out_labelers}
    rated = [
        (r.prompt.id, r.ratings[c.id].likert)
        for r in judged.rankings
        if r.labeler in held_out
        for c in r.completions
        if c.model == model
    ]
    n = len(gold)
    mean = sum(gold) / n
    return {
        "model": model,
        "gold": mean,
        "gold_se": (sum((g - mean) ** 2 for g in gold) / n / n) ** 0.5,
        "likert": judged.likert[model][GROUPS[0]],
        "likert_scores": [likert for _, likert in rated],
        "likert_prompts": [prompt for prompt, _ in rated],
        "flags": dict(judged.flags[model]),
        "length": sum(len(c.token_ids) for c in completions) / n,
        "end_rate": sum(bool(c.finished) for c in completions) / n,
    }


def _scores(
    lab: Experiment, prompts: Sequence[Prompt], drawn: Mapping[str, Sequence[Completion]]
) -> dict[str, list[float]]:
    """The reward model's score of every answer, by model."""
    if not lab.run.stage("reward").model.is_dir():
        raise RunError(
            f"{lab.run.stage('reward').model} does not exist, and these prompts are not the world's, so nobody can judge "
            "the answers. Train the reward model first (04_reward)."
        )
    judge = load_reward_model(lab.run.stage("reward").model)
    asked = [encode_prompt(lab.tokenizer, p.text) for p in prompts]
    return {
        model: score(judge, asked, [response_ids(lab.tokenizer, c) for c in own]).tolist()
        for model, own in drawn.items()
    }


def _scored_quality(model: str, completions: Sequence[Completion], scores: Sequence[float]) -> dict[str, Any]:
    """What can be said of a model without the truth."""
    n, mean = len(scores), sum(scores) / len(scores)
    return {
        "model": model,
        "score": mean,
        "score_se": (sum((s - mean) ** 2 for s in scores) / n / n) ** 0.5,
        "likert_scores": [],
        "flags": {},
        "length": sum(len(c.token_ids) for c in completions) / n,
        "end_rate": sum(bool(c.finished) for c in completions) / n,
    }


def _benchmarks(lab: Experiment, models: Sequence[str]) -> list[dict[str, Any]]:
    from labkit.world.benchmarks import run_benchmarks

    rows = []
    init = ["ppo_init"] if lab.run.stage("ppo_init").model.is_dir() and "ppo_init" not in models else []
    for model in [*models, *init]:  # the tax is what PPO costs the model that it starts from
        if model == "few-shot" or model.startswith("best-of-"):
            continue  # the benchmarks bring their own examples
        for name, found in run_benchmarks(lab.policy(model), lab.tokenizer, lab.source.world, seed=lab.seed).items():
            rows.append(
                {
                    "model": model,
                    "benchmark": name,
                    "value": found.value,
                    "stderr": found.stderr,
                    "n": found.n,
                    "higher_is_better": found.higher_is_better,
                }
            )
    return rows


def _row(judgment: Judgment) -> dict[str, Any]:
    return {
        "prompt_id": judgment.prompt,
        "a": judgment.a,
        "b": judgment.b,
        "preference": judgment.preference,
        "judge": judgment.judge,
    }
