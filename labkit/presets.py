"""Scales of the lab: "smoke" (a few minutes, for tests), "tour" (minutes, the default) and "full" (hours), beside the paper.

A preset is the stages' settings and knobs, each made from the paper's by `but(...)`, and a sentence for every number
that departs from the paper. `paper_table` sets them side by side, as rows and as Markdown:

    print(as_markdown(paper_table("sft", "tour")))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from labkit import paper
from labkit.errors import SettingsError
from labkit.knobs import PPOKnobs

if TYPE_CHECKING:
    from labkit.ppo.settings import PPOSettings
    from labkit.reward.settings import RewardSettings
    from labkit.sft.settings import SFTSettings

__all__ = ["SCALES", "STAGES", "Preset", "as_markdown", "paper_table", "preset"]

STAGES = ("sft", "ppo_init", "reward", "ppo")
SCALES = ("smoke", "tour", "full")
COLUMNS = ("setting", "paper", "here", "why")
#: Settings that change memory, speed or what is measured, not what is learnt: no rows of the table.
HOUSEKEEPING = ("seed", "micro_batch", "micro_tokens", "score_tokens", "samples", "exact_kl", "recompute_logprobs")
HOUSEKEEPING += ("valid_samples", "valid_response_tokens", "valid_every", "gradient_checkpointing")

#: Limits on length that are half of what the model reads where they are not set.
HALVES = ("max_prompt_tokens", "max_response_tokens")

#: Why a number departs from the paper, by stage and setting; a preset may say more.
WHY: dict[tuple[str, str], str] = {
    ("sft", "epochs"): "a small world is learnt sooner",
    ("sft", "lr"): "a model a thousand times smaller takes, and needs, larger steps",
    ("sft", "dropout"): "a model this small underfits: 0.2 in every block costs it more than overfitting would",
    ("sft", "batch_size"): "as many optimiser steps as the time allows",
    ("sft", "max_prompt_tokens"): "half of what the model reads, as 1k of 2k",
    ("sft", "max_response_tokens"): "half of what the model reads, as 1k of 2k",
    ("ppo_init", "epochs"): "with 2, at half the rate, gold was 0.29 and SFT's 0.52; with 4 it is still behind: 0.41 where SFT has 0.46",
    ("ppo_init", "lr"): "a model a thousand times smaller takes, and needs, larger steps",
    ("ppo_init", "batch_size"): "as many optimiser steps as the time allows",
    ("ppo_init", "max_prompt_tokens"): "half of what the model reads, as 1k of 2k",
    ("ppo_init", "max_response_tokens"): "half of what the model reads, as 1k of 2k",
    ("reward", "epochs"): "few rankings, fewer pairs than a large model would need",
    ("reward", "lr"): "a model a thousand times smaller takes, and needs, larger steps",
    ("reward", "batch_size"): "as many optimiser steps as the time allows",
    ("reward", "max_prompt_tokens"): "half of what the model reads, as 1k of 2k",
    ("reward", "max_response_tokens"): "half of what the model reads, as 1k of 2k",
    ("ppo", "steps"): "minutes instead of weeks",
    ("ppo", "batch"): "minutes instead of weeks",
    ("ppo", "minibatch"): "so that a batch still gives several steps",
    ("ppo", "max_new_tokens"): "answers of the world are short",
    ("ppo", "warmup"): "fewer iterations in all",
    ("ppo", "kl_coef"): "chosen on validation prompts",
    ("ppo", "ptx_coef"): "scaled to a mean over tokens; chosen on validation prompts of 0.1, 0.2 and 0.5",
    ("ppo", "value_lr"): "a model a thousand times smaller takes, and needs, larger steps",
    ("ppo", "ptx_per_episode"): "pretraining passes would take most of the time",
}


@dataclass(frozen=True)
class Preset:
    """The settings of every stage at one scale, and its own reasons beside those of `WHY`."""

    scale: str
    sft: SFTSettings
    ppo_init: SFTSettings
    reward: RewardSettings
    ppo: PPOSettings
    ppo_knobs: PPOKnobs = field(default_factory=PPOKnobs)
    why: dict[tuple[str, str], str] = field(default_factory=dict)

    def stage(self, stage: str) -> dict[str, Any]:
        """Settings (and knobs) of one stage, name by name."""
        if stage not in STAGES:
            raise SettingsError(f"There is no stage {stage!r}; the stages are {', '.join(STAGES)}.")
        values = {f.name: getattr(getattr(self, stage), f.name) for f in fields(getattr(self, stage))}
        return {**values, **(self.ppo_knobs.to_json() if stage == "ppo" else {})}


def preset(scale: str = "tour") -> Preset:
    """The settings of all stages at one scale: smoke, tour or full."""
    makers = {"smoke": _smoke, "tour": _tour, "full": _full}
    if scale not in makers:
        raise SettingsError(f"There is no scale {scale!r}; the scales are {', '.join(SCALES)}.")
    return makers[scale]()


def _paper() -> Preset:
    """The paper's own numbers (1.3B), with our defaults where it gives none: what each scale is made from."""
    from labkit.ppo.settings import PPOSettings
    from labkit.reward.settings import RewardSettings
    from labkit.sft.settings import SFTSettings, init_settings

    ppo = {name: fact.value for name, fact in paper.stage_facts("ppo").items() if hasattr(PPOSettings, name)}
    knobs = {name: fact.value for name, fact in paper.stage_facts("ppo").items() if hasattr(PPOKnobs, name)}
    return Preset("paper", SFTSettings(), init_settings(), RewardSettings(), PPOSettings(**ppo), PPOKnobs(**knobs))


def _tour() -> Preset:
    base = _paper()
    return Preset(
        "tour",
        sft=base.sft.but(epochs=4, lr=2e-3, dropout=0.0, valid_samples=128),
        ppo_init=base.ppo_init.but(epochs=4, lr=2e-3, dropout=0.0),
        reward=base.reward.but(batch_size=16, lr=5e-4, micro_batch=8, settle_head=True),
        ppo=base.ppo.but(steps=45, batch=128, minibatch=32, max_new_tokens=32, warmup=3, ptx_tokens=8, ema_decay=0.9),
        ppo_knobs=base.ppo_knobs.turned(policy_lr=5e-4, value_lr=2e-3, kl_coef=0.1, ptx_coef=0.2),
    )


def _smoke() -> Preset:
    tour = _tour()
    return Preset(
        "smoke",
        sft=tour.sft.but(epochs=1, valid_samples=8, valid_response_tokens=16),
        ppo_init=tour.ppo_init.but(epochs=1),
        reward=tour.reward.but(batch_size=8),
        ppo=tour.ppo.but(steps=2, batch=16, minibatch=8, max_new_tokens=16, warmup=1, ptx_per_episode=1, ptx_tokens=16),
        ppo_knobs=tour.ppo_knobs,
    )


def _full() -> Preset:
    base, tour = _paper(), _tour()
    return Preset(
        "full",
        sft=tour.sft.but(epochs=base.sft.epochs, dropout=base.sft.dropout),
        ppo_init=tour.ppo_init,
        reward=tour.reward.but(batch_size=base.reward.batch_size),
        ppo=base.ppo.but(max_new_tokens=tour.ppo.max_new_tokens),
        ppo_knobs=tour.ppo_knobs,
    )


def paper_table(
    stage: str, scale: str | Preset = "tour", *, changed: dict[str, Any] | None = None, context: int | None = None
) -> list[dict[str, str]]:
    """Rows "setting / paper / here / why" of one stage at one scale, in the order of its settings.

    changed: values that a notebook's parameters put in place of the preset's; their reason is "your choice".
    context: tokens that the model can read, of which limits of half are shown in tokens; None: in words.
    """
    chosen = scale if isinstance(scale, Preset) else preset(scale)
    values, changed = chosen.stage(stage), changed or {}
    unknown = sorted(set(changed) - set(values))
    if unknown:
        raise SettingsError(f"{stage} has no setting {unknown[0]!r}; it has {', '.join(values)}.")
    facts = paper.stage_facts(stage)
    rows, here = [], {**values, **changed}
    for name, value in here.items():
        if name in HOUSEKEEPING or (name.startswith("lora_") and not here["lora_rank"]):  # adapters are off
            continue
        fact, yours = facts.get(name), name in changed and changed[name] != values[name]
        stated = f"{_show(fact.value)} ({fact.where})" if fact else "not stated"
        why = "your choice" if yours else _why(chosen, stage, name, here, fact)
        shown = _half(context) if name in HALVES and value is None else _show(value)
        rows.append(dict(zip(COLUMNS, (name, stated, shown, why), strict=True)))
    return rows


def _half(context: int | None) -> str:
    return str(context // 2) if context else "half the context"


def _why(chosen: Preset, stage: str, name: str, here: dict[str, Any], fact: paper.Fact | None) -> str:
    """The reason shown beside one value of those `here`."""
    if fact is None:
        gap = paper.gap(stage, name)
        return gap.origin if gap else "our own"
    if here[name] == fact.value:
        return "as in the paper"
    if name == "ema_decay":
        return _span_of_average(here, fact.value)
    return chosen.why.get((stage, name)) or WHY.get((stage, name)) or "chosen on validation prompts"


def _span_of_average(here: dict[str, Any], theirs: float) -> str:
    """How far back the average of the weights reaches, and what the paper's decay would leave of the PPO init."""
    each = here["inner_epochs"] * here["batch"] // here["minibatch"] if here["ema_per"] == "minibatch" else 1
    moves = here["steps"] * each
    reach, left = 1 / (1 - here["ema_decay"]), theirs**moves
    return f"reaches back 1 / (1 - {here['ema_decay']:g}) = {reach:.0f} steps; after all {moves} steps {theirs:g} would leave the init {left:.2f} of the weight"


def as_markdown(rows: Sequence[dict[str, str]]) -> str:
    """Rows of `paper_table` as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(row[c].replace("|", "\\|") for c in COLUMNS) + " |" for row in rows])


def _show(value: Any) -> str:
    """A number as the paper prints it: 9.65e-6, not 9.65e-06."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e")
    return str(value)
