"""Which model do labelers prefer? Win rates, Likert scores and flags of several models on the same world prompts.

    preference = compare(prompts, {"sft": [...], "ppo_ptx": [...]}, baseline="sft")
    print(preference.text()); preference.rows()     # rows for figures.win_rates

Every prompt's completions, one per model, are ranked by simulated labelers of both groups (those whose data train
models, and held-out ones, as in the paper's figures 1 and 3) and by the gold judge. Win rates are split by group and by
whether the customers' prompts were in training; their intervals are clustered by prompt.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import DataError
from labkit.evaluation.winrate import Judgment, WinRate, judgments_of, win_rate
from labkit.labels.intervals import LEVEL
from labkit.types import Completion, Prompt, Ranking, listed
from labkit.world.judge import judge
from labkit.world.labelers import Labeler, hire_labelers, rank_all

__all__ = ["GOLD", "REWARD_MODEL", "Preference", "compare", "compare_by_score", "gold_judgments"]

GOLD = "gold judge"
REWARD_MODEL = "reward model"
GROUP_NAMES = {"train": "training labelers", "heldout": "held-out labelers"}


@dataclass(frozen=True)
class Preference:
    """The outcome of a comparison. Judges are "training labelers", "held-out labelers" and "gold judge"."""

    baseline: str
    win_rates: Mapping[tuple[str, str], WinRate]  # (model, judge): over the baseline, on all prompts
    by_users: Mapping[tuple[str, str, str], WinRate]  # (model, judge, "train users" | "held-out users")
    likert: Mapping[str, Mapping[str, float]]  # model -> judge -> mean overall quality, 1..7
    flags: Mapping[str, Mapping[str, float]]  # model -> flag -> share of responses on which labelers ticked it
    utility: Mapping[str, float]  # model -> mean gold utility
    rankings: tuple[Ranking, ...]  # the labelers' own, for the agreement report and for saving

    def rows(self) -> list[dict[str, Any]]:
        """Rows for `labkit.figures.evaluation.win_rates`: one per model and judge."""
        return [
            {"name": model, "group": judge_name, "rate": r.rate, "low": r.low, "high": r.high, "count": r.n}
            for (model, judge_name), r in self.win_rates.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything but the rankings."""
        return {
            "baseline": self.baseline,
            "win_rates": [{"model": m, "judge": j, **r.to_json()} for (m, j), r in self.win_rates.items()],
            "by_users": [{"model": m, "judge": j, "users": u, **r.to_json()} for (m, j, u), r in self.by_users.items()],
            "likert": {m: dict(own) for m, own in self.likert.items()},
            "flags": {m: dict(own) for m, own in self.flags.items()},
            "utility": dict(self.utility),
        }

    def text(self) -> str:
        """The outcome as tables for people."""
        from tabulate import tabulate

        rates = [[m, j, r, r.n, r.prompts] for (m, j), r in self.win_rates.items()]
        rates += [[m, f"{j}, {u}", r, r.n, r.prompts] for (m, j, u), r in self.by_users.items()]
        head = ["model", "judge", f"preferred to {self.baseline} [{100 * LEVEL:.0f} %]", "judgments", "prompts"]
        if not self.utility:  # judged by scores alone
            return tabulate(rates, head)
        judges = list(next(iter(self.likert.values())))
        quality = [[m, f"{self.utility[m]:.3f}", *(f"{own[j]:.2f}" for j in judges)] for m, own in self.likert.items()]
        heads = ["model", "gold utility", *(f"Likert, {j}" for j in judges)]
        return tabulate(rates, head) + "\n\n" + tabulate(quality, heads)


def compare(
    prompts: Sequence[Prompt],
    completions: Mapping[str, Sequence[Completion]],
    *,
    baseline: str,
    labelers: Sequence[Labeler] | None = None,
    each: int = 3,
    seed: int = 0,
) -> Preference:
    """Compare models on world prompts: `completions[model][i]` answers `prompts[i]`.

    `each` labelers of every group, drawn for each prompt, rank the completions of all models together.
    Raises DataError when a model has too few completions, or is not there.
    """
    shown = _line_up(prompts, completions, baseline)
    hired = list(labelers if labelers is not None else hire_labelers())
    judgments: dict[str, list[Judgment]] = {}
    rankings: dict[str, list[Ranking]] = {}
    for group in dict.fromkeys(h.group for h in hired):
        of_group = [h for h in hired if h.group == group]
        name = GROUP_NAMES.get(group, group)
        rankings[name] = rank_all(shown, of_group, min(each, len(of_group)), seed)
        judgments[name] = judgments_of(rankings[name])
    judgments[GOLD] = gold_judgments(shown)
    users = {p.id: "train users" if p.split == "train" else "held-out users" for p in prompts}
    models = [m for m in completions if m != baseline]
    everyone = [r for made in rankings.values() for r in made]
    return Preference(
        baseline=baseline,
        win_rates={(m, j): win_rate(made, m, baseline) for m in models for j, made in judgments.items()},
        by_users=_by_users(judgments, models, baseline, users),
        likert=_likert(rankings, shown, list(completions)),
        flags=_flags(everyone, list(completions)),
        utility={
            m: _mean([_gold(p, c)[0] for p, c in zip(prompts, own, strict=True)]) for m, own in completions.items()
        },
        rankings=tuple(everyone),
    )


def compare_by_score(
    prompts: Sequence[Prompt],
    completions: Mapping[str, Sequence[Completion]],
    scores: Mapping[str, Sequence[float]],
    *,
    baseline: str,
    judge_name: str = REWARD_MODEL,
) -> Preference:
    """Compare models on prompts whose truth nobody knows: of two answers the one of higher score is preferred.

    scores[model][i] is that of `completions[model][i]`; equal ones tie. There are no Likert scores, flags or utilities.
    """
    lined_up = _line_up(prompts, completions, baseline)
    numbers = {model: _numbers(model, scores, len(prompts)) for model in completions}
    rankings = tuple(_by_score(prompt, own, [numbers[c.model][i] for c in own], judge_name) for i, (prompt, own) in enumerate(lined_up))
    judgments = judgments_of(rankings)
    rates = {(m, judge_name): win_rate(judgments, m, baseline) for m in completions if m != baseline}
    return Preference(baseline, rates, {}, {m: {} for m in completions}, {m: {} for m in completions}, {}, rankings)


def _numbers(model: str, scores: Mapping[str, Sequence[float]], count: int) -> list[float]:
    """The scores of one model as plain numbers, from lists, arrays and tensors alike."""
    if model not in scores:
        raise DataError(f"Model {model!r} has no scores; give one for each of its completions.")
    found = [float(score) for score in scores[model]]
    if len(found) != count:
        raise DataError(f"Model {model!r} has {len(found)} scores for {count} prompts; give one for each.")
    if not all(map(math.isfinite, found)):
        raise DataError(f"Model {model!r} has scores that are no finite numbers, which prefer nothing; repair or leave out their prompts.")
    return found


def _by_score(prompt: Prompt, completions: Sequence[Completion], scores: Sequence[float], judge_name: str) -> Ranking:
    groups: dict[float, list[str]] = defaultdict(list)
    for completion, score in zip(completions, scores, strict=True):
        groups[score].append(completion.id)
    best_first = tuple(tuple(groups[s]) for s in sorted(groups, reverse=True))
    return Ranking(prompt, tuple(completions), best_first, labeler=judge_name)


def gold_judgments(shown: Sequence[tuple[Prompt, Sequence[Completion]]]) -> list[Judgment]:
    """The gold judge's preference between the models of every two completions of a prompt; equal utility is a tie."""
    found = []
    for prompt, completions in shown:
        gold = [(c.model, _gold(prompt, c)[0]) for c in completions]
        for i, (a, worth_a) in enumerate(gold):
            for b, worth_b in gold[i + 1 :]:
                preference = 0.5 if abs(worth_a - worth_b) < 1e-9 else float(worth_a > worth_b)
                found.append(Judgment(prompt.id, a, b, preference, GOLD))
    return found


def _line_up(
    prompts: Sequence[Prompt], completions: Mapping[str, Sequence[Completion]], baseline: str
) -> list[tuple[Prompt, list[Completion]]]:
    """One completion per model for every prompt, renamed so that ids and models are distinct."""
    if baseline not in completions or len(completions) < 2:
        raise DataError(
            f"The baseline {baseline!r} and at least one other model must be given; got {list(completions)}."
        )
    completions = {model: listed(own, Completion, f"completions of {model!r}") for model, own in completions.items()}
    for model, own in completions.items():
        if len(own) != len(prompts):
            raise DataError(
                f"Model {model!r} has {len(own)} completions for {len(prompts)} prompts; give one for each."
            )
    return [
        (
            prompt,
            [
                Completion(
                    f"{prompt.id}/{model}",
                    prompt.id,
                    own[i].text,
                    own[i].token_ids,
                    own[i].finished,
                    model,
                    own[i].sampling,
                )
                for model, own in completions.items()
            ],
        )
        for i, prompt in enumerate(prompts)
    ]


def _by_users(
    judgments: Mapping[str, Sequence[Judgment]], models: Sequence[str], baseline: str, users: Mapping[str, str]
) -> dict[tuple[str, str, str], WinRate]:
    """The same win rates for training users' and held-out users' prompts, where both kinds are there."""
    kinds = sorted(set(users.values()))
    if len(kinds) < 2:
        return {}
    return {
        (model, name, kind): win_rate([j for j in made if users[j.prompt] == kind], model, baseline)
        for model in models
        for name, made in judgments.items()
        for kind in kinds
    }


def _gold(prompt: Prompt, completion: Completion) -> tuple[float, int]:
    judgment = judge(prompt, completion.text, completion.finished is not False)
    return judgment.utility, judgment.likert


def _likert(
    rankings: Mapping[str, Sequence[Ranking]],
    shown: Sequence[tuple[Prompt, Sequence[Completion]]],
    models: Sequence[str],
) -> dict[str, dict[str, float]]:
    rated: dict[str, dict[str, list[int]]] = {m: defaultdict(list) for m in models}
    for name, made in rankings.items():
        for ranking in made:
            for c in ranking.completions:
                rated[c.model][name].append(ranking.ratings[c.id].likert)
    for prompt, completions in shown:
        for c in completions:
            rated[c.model][GOLD].append(_gold(prompt, c)[1])
    return {m: {name: _mean(values) for name, values in own.items()} for m, own in rated.items()}


def _flags(rankings: Sequence[Ranking], models: Sequence[str]) -> dict[str, dict[str, float]]:
    """Share of rated responses with each flag; `satisfies_constraint` among prompts with a constraint only."""
    ticked: dict[str, dict[str, int]] = {m: defaultdict(int) for m in models}
    rated: dict[str, int] = defaultdict(int)
    constrained: dict[str, int] = defaultdict(int)
    for ranking in rankings:
        has_constraint = bool((ranking.prompt.meaning or {}).get("constraint"))
        for c in ranking.completions:
            rated[c.model] += 1
            constrained[c.model] += has_constraint
            for flag in ranking.ratings[c.id].flags:
                ticked[c.model][flag] += 1
    flags = sorted({f for own in ticked.values() for f in own})
    return {
        m: {f: ticked[m][f] / max(1, (constrained if f == "satisfies_constraint" else rated)[m]) for f in flags}
        for m in models
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
