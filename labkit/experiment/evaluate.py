"""Judge the models of a run as the paper does: preference over SFT, Likert, metadata flags, benchmarks; on held-out customers' prompts.

Judges are the simulated labelers, those whose data trained the models and those held out, the gold utility and the
reward model. With prompts of your own nobody knows the truth: the reward model judges alone, and what only the world
knows is left out. Either way people may judge as well (`labkit.experiment.by_people`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.disk import write_json, write_jsonl
from labkit.errors import DataError, LabError, RunError, SettingsError
from labkit.evaluation.preference import REWARD_MODEL, Preference, compare, compare_by_score
from labkit.evaluation.winrate import Judgment, WinRate, judgments_of
from labkit.experiment import needs
from labkit.experiment.by_people import PEOPLE, join_people
from labkit.experiment.look import JudgedRankings, answers
from labkit.labels.intervals import FEW
from labkit.models import encode_prompt, load_reward_model, score
from labkit.reward.data import response_ids
from labkit.runs import Run, StageFolder
from labkit.types import Completion, Prompt

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["Evaluation", "evaluate", "load_evaluation"]

GROUPS = ("held-out labelers", "training labelers", "gold judge")  # in the world; the reward model follows, if there is one
Rates = Mapping[tuple[str, str], WinRate]  # (model, group of judges) -> over the baseline
SHOWN_FLAGS = ("fails_instruction", "hallucination", "inappropriate")


@dataclass
class Evaluation:
    """The sheet of one run; `to_json` is what evaluate/results.json holds."""

    baseline: str
    models: list[str]
    preferences: list[dict[str, Any]]  # model, group, rate, se, low, high, count
    quality: list[dict[str, Any]]  # model, gold, gold_se, likert, flags {name: share}, length, end_rate; or score for gold
    benchmarks: list[dict[str, Any]] = field(
        default_factory=list
    )  # model, benchmark, value, stderr, n, higher_is_better
    people: dict[str, Any] = field(default_factory=dict)  # labelers, prompts, rankings, outdated, quality; empty without labels
    on_training: list[dict[str, Any]] = field(default_factory=list)  # as preferences, on prompts that PPO was trained on
    prompts: int = 0  # test prompts that were answered; 0 in records from before they were counted

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    @property
    def groups(self) -> list[str]:
        """The groups of judges that there are, the one that counts first."""
        return list(dict.fromkeys(r["group"] for r in self.preferences))

    def win_rates(self, group: str | None = None) -> list[dict[str, Any]]:
        """Rows for `labkit.figures.win_rates`: each model against the baseline in the eyes of one group (the first)."""
        group = group or self.groups[0]
        return [
            {"name": r["model"], **{k: r[k] for k in ("rate", "low", "high", "count")}}
            for r in self.preferences
            if r["group"] == group
        ]

    def rate(self, model: str, group: str | None = None) -> float | None:
        """Win rate of a model over the baseline; None for the baseline itself."""
        group = group or self.groups[0]
        return next((r["rate"] for r in self.preferences if r["model"] == model and r["group"] == group), None)

    def customers_table(self) -> list[dict[str, str]]:
        """One row per model and group: preferred to the baseline on prompts of held-out customers and on training prompts."""
        held_out = {(r["model"], r["group"]): r for r in self.preferences}

        def said(row: Mapping[str, Any]) -> str:
            return f"{100 * row['rate']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"

        return [
            {"model": r["model"], "judges": r["group"], "held-out customers": said(held_out[r["model"], r["group"]]), "training prompts": said(r)}
            for r in self.on_training
        ]

    def table(self) -> list[dict[str, Any]]:
        """One row per model: preferences, and gold utility, Likert and the flags that matter most, or the RM score."""
        rows = []
        for q in self.quality:
            known = "gold" in q
            row: dict[str, Any] = {"model": q["model"]}
            row |= (
                {"gold utility": round(q["gold"], 3), "Likert": round(q["likert"], 2)}
                if known
                else {"RM score": round(q["score"], 3), "tokens": round(q["length"], 1)}
            )
            for group in [*self.groups[:2], *(g for g in self.groups[2:] if g == PEOPLE)]:
                rate = self.rate(q["model"], group)
                row[f"preferred to {self.baseline}, {group}"] = "" if rate is None else f"{100 * rate:.0f} %"
            for flag in SHOWN_FLAGS if known else ():
                row[flag.replace("_", " ")] = f"{100 * q['flags'].get(flag, 0.0):.0f} %"
            rows.append(row)
        return rows

    def benchmark_rows(
        self, models: Sequence[str] = ("base", "ppo_init", "ppo", "ppo_ptx"), *, tax: bool = True
    ) -> list[dict[str, Any]]:
        """Rows for `labkit.figures.alignment_tax`, with intervals of two standard errors, as far as a share can reach.

        tax: the benchmarks on which higher is better and a model can lose what it knew; else all others (toxicity, bias).
        """
        from labkit.world.benchmarks import TAX_BENCHMARKS

        rows = []
        for b in self.benchmarks:
            if b["model"] in models and b["benchmark"] != "lm_loss" and (b["benchmark"] in TAX_BENCHMARKS) == tax:
                half = 2 * b["stderr"]
                rows.append(
                    {k: b[k] for k in ("benchmark", "model", "value")}
                    | {"low": max(0.0, b["value"] - half), "high": min(1.0, b["value"] + half)}
                )
        return rows

    @property
    def notes(self) -> list[str]:
        """Sentences to stand under the table: where there are too few prompts to say."""
        return [f"Only {self.prompts} prompt{'s' * (self.prompts > 1)}: too few to say."] if 0 < self.prompts < FEW else []

    def benchmark(self, model: str, name: str) -> float | None:
        """One benchmark of one model."""
        return next((b["value"] for b in self.benchmarks if b["model"] == model and b["benchmark"] == name), None)

    @property
    def people_sentence(self) -> str:
        """How many people judged how many prompts, and what of it does not count any more."""
        if not self.people:
            return "Nobody has judged these answers blind yet: 0 rankings by people."
        people = self.people
        who = f"{people['labelers']} {'person has' if people['labelers'] == 1 else 'people have'} judged these answers blind"
        told = [f"{who}: {people['rankings']} rankings on {people['prompts']} test prompts."]
        if people["outdated"]:
            told.append(f"{people['outdated']} more are of answers that the models do not give any more, and do not count.")
        told += [f"Fewer than {FEW}: too few to say."] if people["prompts"] < FEW else []
        return " ".join(told)

    @property
    def people_likert(self) -> dict[str, list[int]]:
        """Overall quality as people rated it, by model; only models that anybody rated."""
        return {q["model"]: q["likert_scores"] for q in self.people.get("quality", ()) if q["likert_scores"]}

    def likert_prompts(self, *, people: bool = False) -> dict[str, list[str]]:
        """The prompt of each Likert rating, by model, as figures need it; models of evaluations before this was kept are left out."""
        rows = self.people.get("quality", ()) if people else self.quality
        return {q["model"]: q["likert_prompts"] for q in rows if "likert_prompts" in q}

    def summary(self, judged: JudgedRankings | None = None) -> dict[str, Any]:
        """The numbers that a run is known by, for its record and for comparisons of runs."""
        found: dict[str, Any] = {}
        if judged is not None:
            found |= {"RM accuracy": round(judged.accuracy.overall.value, 4)}
            if judged.ceiling is not None:
                found |= {"RM ceiling": round(judged.ceiling, 4), "RM accuracy, clear pairs": round(judged.clear, 4)}
        for row in self.quality:
            kind = "gold" if "gold" in row else "score"
            found[f"{row['model']} {kind}"] = round(row[kind], 4)
        for r in self.preferences:
            if r["group"] == self.groups[0]:
                found[f"{r['model']} preferred to {self.baseline}"] = round(r["rate"], 4)
        for r in self.preferences:
            if r["group"] == PEOPLE:
                found[f"{r['model']} preferred to {self.baseline} by people"] = round(r["rate"], 4)
        for b in self.benchmarks:
            if b["benchmark"] == "lm_loss":
                found[f"{b['model']} LM loss"] = round(b["value"], 4)
        return found


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
        preferences=[_rate(m, group, rates) for group in groups for m in models if m != baseline],
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
    return [_rate(m, group, judged.win_rates) for group in GROUPS[:2] for m in stages if m != baseline]


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


def load_evaluation(run: Run, stage: str = "evaluate") -> Evaluation:
    """The sheet of a run that was evaluated before."""
    file = run.path / stage / "results.json"
    if not file.exists():
        raise RunError(f"{file} does not exist: this run was not evaluated. Run 06_evaluate first.")
    return Evaluation(**json.loads(file.read_text(encoding="utf-8")))


def _rate(model: str, group: str, rates: Rates) -> dict[str, Any]:
    w = rates[model, group]
    return {"model": model, "group": group, "rate": w.rate, "se": w.se, "low": w.low, "high": w.high, "count": w.n}


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
