"""What the reward inspector shows of a run: its models' answers side by side, and any of them token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from labkit.evaluation.token_view import TokenView, token_view
from labkit.experiment.live import scores_of
from labkit.experiment.look import answers
from labkit.models import load_policy, load_reward_model
from labkit.reward.scorer import Scorer, text_scorer
from labkit.types import Completion, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.experiment.lab import Experiment
    from labkit.runs import StageFolder

__all__ = ["explain_samples", "inspect_run", "text_judge"]

STAGES = ("ppo", "ppo_ptx")
TRAINED_BY = ("kl_coef", "gae_lambda", "temperature")  # the knobs that the token view's numbers depend on


def inspect_run(lab: Experiment, *, prompts: int = 24, best_of: int = 8) -> dict[str, Any]:
    """Arguments for `RewardInspector`: rows of what the run's models answer, a scorer, a token view, held-out rankings.

    rows: answers to validation prompts by base, SFT, SFT's best of `best_of` and, where trained, PPO and PPO-ptx, each prompt's together.
    """
    judge = load_reward_model(lab.run.stage("reward").model)
    trained = [s for s in STAGES if lab.run.stage(s).model.is_dir()]
    shown, models = lab.prompts("valid")[:prompts], ["base", "sft", f"best-of-{best_of}", *trained]
    drawn = {model: answers(lab, model, shown) for model in models}
    rows = [row for model in models for row in _rows(lab, judge, model, shown, drawn[model])]
    rows.sort(key=lambda row: [p.id for p in shown].index(row["prompt_id"]))  # stable: models keep their order
    return {
        "rows": rows,
        "scorer": text_scorer(judge, lab.tokenizer),
        "explain": _explainer(lab, judge, trained, {(m, c.prompt_id): c for m in models for c in drawn[m]}),
        "rankings": lab.rankings("valid"),
    }


def text_judge(lab: Experiment) -> Scorer:
    """The run's reward model as a function of text, for `RewardInspector(scorer=...)`."""
    return text_scorer(load_reward_model(lab.run.stage("reward").model), lab.tokenizer)


def _rows(
    lab: Experiment, judge: PreTrainedModel, model: str, prompts: Sequence[Prompt], drawn: Sequence[Completion]
) -> list[dict[str, Any]]:
    """One row per prompt; gold where somebody knows it."""
    gold = lab.source.gold and lab.source.gold(prompts, [c.text for c in drawn], [bool(c.finished) for c in drawn])
    rows = []
    for i, (prompt, completion) in enumerate(zip(prompts, drawn, strict=True)):
        row = {"source": model, "prompt_id": prompt.id, "prompt": prompt.text, "response": completion.text}
        row |= {"score": scores_of(lab, judge, prompt, [completion])[0], "length": len(completion.token_ids)}
        rows.append(row | {"finished": bool(completion.finished)} | ({"gold": gold[i]} if gold else {}))
    return rows


def explain_samples(lab: Experiment, stages: Sequence[str]) -> Callable[[Mapping[str, Any]], TokenView]:
    """For samples that every step kept, with their stage as `source`: row -> token view, by the model the stage ended with.

    Of a row with `token_ids`, as whole batches have them, these very tokens are shown.

    The policies of earlier steps are not kept, so `facts["note"]` says whose numbers these are. Nothing is loaded before
    somebody looks.
    """

    @cache
    def shared() -> dict[str, Any]:
        return {"reference": _reference(lab), "reward": load_reward_model(lab.run.stage("reward").model)}

    own = {stage: cache(lambda stage=stage: _trained(lab, stage, shared()["reward"])) for stage in stages}

    def explain(row: Mapping[str, Any]) -> TokenView:
        how = {"finished": row["finished"], **shared(), **own[row["source"]]()}
        response = row.get("token_ids") or row["response"]  # of a whole batch the sampled ids are known
        seen = token_view(lab.tokenizer, row["prompt"], response, **how)
        return replace(seen, facts={**seen.facts, "note": _whose(lab, row, len(seen.tokens))})

    return explain


def _whose(lab: Experiment, row: Mapping[str, Any], tokens: int) -> str:
    """Whose numbers a sample's token view shows, in words."""
    last = lab.run.stage(row["source"]).steps()[-1].number
    note = (
        f"By the policy that {row['source']} ended with (step {last}). This answer was sampled at step {row['step']} by "
        "the policy of that moment, which is not kept: these are not the numbers it was trained on."
    )
    anew = row.get("length") not in (None, tokens)  # a text may be cut into tokens in more than one way
    return note + (
        f" Its text falls into {tokens} tokens here and {row['length']} when it was sampled." if anew else ""
    )


def _explainer(
    lab: Experiment, judge: PreTrainedModel, trained: Sequence[str], drawn: Mapping[tuple[str, str], Completion]
) -> Callable[[Mapping[str, Any]], TokenView]:
    """row -> token view, with the numbers that its stage trained on at its last step: its value model, its knobs, its tokens."""
    own = {model: {"policy": lab.policy(model), "value": judge} for model in ("base", "sft")}
    own |= {stage: _trained(lab, stage, judge) for stage in trained}
    reference = _reference(lab)

    def explain(row: Mapping[str, Any]) -> TokenView:
        source = "sft" if row["source"].startswith("best-of") else row["source"]
        completion = drawn.get((row["source"], row.get("prompt_id")))
        sampled = completion is not None and completion.text == row["response"] and completion.token_ids
        response = completion.token_ids if sampled else row["response"]  # decoded text may tokenise otherwise
        how = {"finished": row["finished"], "reference": reference, "reward": judge, **own[source]}
        return token_view(lab.tokenizer, row["prompt"], response, **how)

    return explain


def _reference(lab: Experiment) -> PreTrainedModel | None:
    """The PPO init model, which the KL penalty is measured against."""
    init = lab.run.stage("ppo_init").model
    return load_policy(init) if init.is_dir() else None


def _trained(lab: Experiment, stage: str, judge: PreTrainedModel) -> dict[str, Any]:
    """A stage's policy, value model and knobs as they were at its end, as `token_view` takes them."""
    folder = lab.run.stage(stage)
    value = value_of(folder, lab.run.stage("reward")) or judge
    settings = folder.manifest["settings"] if folder.status != "missing" else {}
    penalty = settings.get("missing_end_penalty", 0.0)
    return {"policy": lab.policy(stage), "value": value, "missing_end_penalty": penalty, **knobs_of(folder)}


def knobs_of(stage: StageFolder) -> dict[str, float]:
    """β, λ and temperature at the stage's last step."""
    steps = stage.steps()
    return {k: v for k, v in (steps[-1].knobs if steps else {}).items() if k in TRAINED_BY}


def value_of(stage: StageFolder, reward: StageFolder) -> PreTrainedModel | None:
    """The value model as the stage's newest snapshot holds it; None where there is no snapshot."""
    from safetensors.torch import load_file

    found = [stage.snapshot(n) / "value.safetensors" for n in stage.snapshots()]
    if not found or not found[-1].exists():
        return None
    model = load_reward_model(reward.model)
    model.load_state_dict(load_file(found[-1]), strict=False)
    return model
