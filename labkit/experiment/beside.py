"""The paper beside one run, where no stage's settings say it: what the run learns from, who ranks, who judges.

    show_table(beside_paper(lab, "rankings"))

Rows have the columns of `labkit.presets.paper_table`. What is counted is counted in the run itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from labkit.data.prepare import PrepareSettings
from labkit.data.splits import SPLITS
from labkit.errors import SettingsError
from labkit.experiment.own import users_apart
from labkit.experiment.prompted import DRAWS, EXAMPLES, LAYOUTS, PROMPTS
from labkit.models import load_policy
from labkit.paper import DATA, DERIVED, PPO, Fact
from labkit.presets import COLUMNS
from labkit.types import FLAGS
from labkit.world.judge import RAISED

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["PARTS", "beside_paper"]

Row = tuple[str, "Fact | str", object, str]  # setting, paper, here, why

TIME = "minutes on a laptop instead of weeks on many GPUs"
OFFLINE = "a small model can do them, and nothing is downloaded"
SHORT = "a mean over tokens; short ones, so that PPO-ptx costs less than twice PPO"
SAME = "as in the paper"
YOURS = "your own data"


def beside_paper(lab: Experiment, part: str) -> list[dict[str, str]]:
    """Rows "setting / paper / here / why" of one part of a prepared run: whole, prompts, rankings or evaluation."""
    if part not in PARTS:
        raise SettingsError(f"There is no part {part!r}; the parts are {', '.join(PARTS)}.")
    rows = []
    for setting, stated, here, why in PARTS[part](lab):
        theirs = f"{_show(stated.value)} ({stated.where})" if isinstance(stated, Fact) else stated
        why = SAME if isinstance(stated, Fact) and str(stated.value) == str(here) else why
        rows.append(dict(zip(COLUMNS, (setting, theirs, _show(here), why), strict=True)))
    return rows


def _whole(lab: Experiment) -> list[Row]:
    ppo, knobs = lab.preset.ppo, lab.preset.ppo_knobs
    tuned = "scaled to a mean over tokens; chosen on validation prompts"
    return [
        ("parameters of the policy", "1.3, 6 and 175 billion (3.5)", _weights(lab.model), TIME),
        ("parameters of the reward model", "6 billion (3.5)", _weights(lab.reward_base), TIME),
        ("demonstrations", DATA.demonstrations, len(lab.demonstrations()), TIME),
        ("rankings, one prompt each", DATA.rankings, lab.amounts.rankings, TIME),
        ("PPO episodes", Fact(DERIVED["episodes"], "App. C.4"), ppo.steps * ppo.batch, TIME),
        ("pretraining examples per episode", PPO.ptx_per_episode, f"{ppo.ptx_per_episode}, {ppo.ptx_tokens} tokens of a row of {ppo.ptx_row} each", SHORT),
        ("β, weight of the KL penalty", PPO.kl_coef, knobs.kl_coef, "chosen on validation prompts"),
        ("γ, weight of the pretraining gradients", PPO.ptx_coef, knobs.ptx_coef, tuned),
    ]


def _prompts(lab: Experiment) -> list[Row]:
    cleaning, world = PrepareSettings(), lab.data == "world"
    source = "simulated customers and labelers" if world else lab.data
    why, less = ("so that what was planted can be counted", TIME) if world else (YOURS, YOURS)
    return [
        ("prompts", "of customers of an API, and of labelers (3.2)", source, why),
        ("a long common prefix", "is a duplicate (3.2)", f"from {cleaning.prefix_words} words on", "no length is stated"),
        ("prompts of one customer, at most", DATA.per_user, cleaning.per_user, ""),
        ("personal data is filtered from", "the training splits (3.2)", ", ".join(cleaning.filter_splits), SAME),
        ("splits", "by customer (3.2)", *_splits(lab)),
        ("demonstrations", DATA.demonstrations, len(lab.demonstrations()), less),
        ("prompts for the reward model", DATA.rankings, len(lab.prompts("train", "reward")), less),
        ("prompts for PPO", DATA.ppo_prompts, len(lab.prompts("train", "ppo")), less),
    ]


def _splits(lab: Experiment) -> tuple[str, str]:
    """How the prompts were kept apart, and why so."""
    prompts = {split: lab.prompts(split) for split in SPLITS}
    if not any(p.user for rows in prompts.values() for p in rows):
        return "by prompt", "yours name no users"
    return ("by customer", SAME) if users_apart(prompts) else ("by prompt", "too few users to keep some whole")


def _rankings(lab: Experiment) -> list[Row]:
    made, world = lab.rankings(), lab.data == "world"
    counts = [len(r.completions) for r in made]
    labelers, agree, why, less, drawn, flags = "yours", "see below", YOURS, YOURS, YOURS, str(len(FLAGS))
    if world:
        labelers = f"{len(lab.source.labelers)} simulated, and {len(lab.source.held_out_labelers)} held out"
        agree, why, less = "tuned to the same", "on answers made for that; below, what some say of this run's", TIME
        flags = f"{len(RAISED)} of the {len(FLAGS)} are raised"
        drawn = f"{lab.amounts.k_low} to {lab.amounts.k_high} are drawn, equal ones shown once"
    return [
        ("labelers", DATA.labelers, labelers, "so that their noise is known" if world else YOURS),
        ("pairs that two training labelers order alike", DATA.agreement, agree, why),
        ("the same of two held-out labelers", DATA.held_out_agreement, agree, why),
        ("K, answers on one screen", DATA.completions, f"{min(counts, default=0)} to {max(counts, default=0)}", drawn),
        ("what is asked", "Likert 1 to 7 and flags, then a ranking (App. B)", "the same", SAME),
        ("flags", DATA.flags, flags, "the world has no sex, no violence and no advice" if world else SAME),
        ("prompts ranked for training", DATA.rankings, len(made), less),
        ("prompts ranked for validation", DATA.valid_rankings, len(lab.rankings("valid")), less),
    ]


def _evaluation(lab: Experiment) -> list[Row]:
    asked = min(lab.amounts.test_prompts, len(lab.prompts("test")))
    rows: list[Row] = [
        ("prompts", "of customers who are not in training (3.6)", f"{asked}, of such customers", SAME),
        ("compared with", "SFT of 175 billion (3.6)", "SFT of the same size", "07_findings compares sizes"),
    ]
    if lab.data != "world":
        return [*rows, ("judge", "labelers (3.6)", "the reward model", "nobody else knows your prompts")]
    return [
        *rows,
        ("few-shot prefix", "the best of several by the authors, by RM score on validation prompts (3.5)", _contest(lab), "written by a program"),
        ("judges", "training and held-out labelers (4.1)", "both, simulated; the truth, the reward model, you on the board", "the world knows the truth"),
        ("metadata", "Likert 1 to 7 and 11 flags (Table 3)", f"Likert 1 to 7 and {len(RAISED)} of the flags", "the world has no more"),
        ("benchmarks", "SQuAD, DROP, HellaSwag, WMT 15, TruthfulQA and more (3.6)", "one of each kind in miniature", OFFLINE),
    ]


def _contest(lab: Experiment) -> str:
    """How many prompts compete to be the few-shot one, and on how many of the run's validation prompts."""
    return f"best of {len(LAYOUTS) * len(EXAMPLES) * DRAWS}, by the same, on {min(PROMPTS, len(lab.prompts('valid')))} of them"


def _weights(base: str) -> str:
    """How many weights a model has, in millions."""
    return f"{load_policy(base).num_parameters() / 1e6:.2g} million"


def _show(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


#: part -> its rows; "whole" is the method at a glance, the others have a notebook each.
PARTS: Mapping[str, Callable[[Experiment], list[Row]]] = {
    "whole": _whole,
    "prompts": _prompts,
    "rankings": _rankings,
    "evaluation": _evaluation,
}
