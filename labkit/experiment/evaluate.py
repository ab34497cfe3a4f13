"""Judge the models of a run as the paper does: preference over SFT, Likert, metadata flags, benchmarks; on held-out customers' prompts.

Judges are the simulated labelers, those whose data trained the models and those held out, and the gold utility.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.errors import RunError
from labkit.evaluation.preference import Preference, compare
from labkit.evaluation.winrate import Judgment, judgments_of
from labkit.experiment.look import JudgedRankings, answers
from labkit.runs import Run, write_json, write_jsonl
from labkit.types import Completion, Prompt

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["Evaluation", "evaluate", "load_evaluation"]

GROUPS = ("held-out labelers", "training labelers", "gold judge")
SHOWN_FLAGS = ("fails_instruction", "hallucination", "inappropriate")


@dataclass
class Evaluation:
    """The sheet of one run; `to_json` is what evaluate/results.json holds."""

    baseline: str
    models: list[str]
    preferences: list[dict[str, Any]]  # model, group, rate, se, low, high, count
    quality: list[dict[str, Any]]  # model, gold, gold_se, likert, flags {name: share}, length, end_rate
    benchmarks: list[dict[str, Any]] = field(
        default_factory=list
    )  # model, benchmark, value, stderr, n, higher_is_better

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def win_rates(self, group: str = GROUPS[0]) -> list[dict[str, Any]]:
        """Rows for `labkit.figures.win_rates`: each model against the baseline in the eyes of one group of judges."""
        return [
            {"name": r["model"], **{k: r[k] for k in ("rate", "low", "high", "count")}}
            for r in self.preferences
            if r["group"] == group
        ]

    def rate(self, model: str, group: str = GROUPS[0]) -> float | None:
        """Win rate of a model over the baseline; None for the baseline itself."""
        return next((r["rate"] for r in self.preferences if r["model"] == model and r["group"] == group), None)

    def table(self) -> list[dict[str, Any]]:
        """One row per model: preferences, gold utility, Likert and the flags that matter most."""
        rows = []
        for q in self.quality:
            row = {"model": q["model"], "gold utility": round(q["gold"], 3), "Likert": round(q["likert"], 2)}
            for group in GROUPS[:2]:
                rate = self.rate(q["model"], group)
                row[f"preferred to {self.baseline}, {group}"] = "" if rate is None else f"{100 * rate:.0f} %"
            for flag in SHOWN_FLAGS:
                row[flag.replace("_", " ")] = f"{100 * q['flags'].get(flag, 0.0):.0f} %"
            rows.append(row)
        return rows

    def benchmark_rows(
        self, models: Sequence[str] = ("base", "ppo_init", "ppo", "ppo_ptx"), *, tax: bool = True
    ) -> list[dict[str, Any]]:
        """Rows for `labkit.figures.alignment_tax`, with intervals of two standard errors.

        tax: the benchmarks on which higher is better and a model can lose what it knew; else all others (toxicity, bias).
        """
        from labkit.world.benchmarks import TAX_BENCHMARKS

        rows = []
        for b in self.benchmarks:
            if b["model"] in models and b["benchmark"] != "lm_loss" and (b["benchmark"] in TAX_BENCHMARKS) == tax:
                half = 2 * b["stderr"]
                rows.append(
                    {k: b[k] for k in ("benchmark", "model", "value")}
                    | {"low": b["value"] - half, "high": b["value"] + half}
                )
        return rows

    def benchmark(self, model: str, name: str) -> float | None:
        """One benchmark of one model."""
        return next((b["value"] for b in self.benchmarks if b["model"] == model and b["benchmark"] == name), None)

    def summary(self, judged: JudgedRankings | None = None) -> dict[str, Any]:
        """The numbers that a run is known by, for its record and for comparisons of runs."""
        found: dict[str, Any] = {}
        if judged is not None:
            found |= {"RM accuracy": round(judged.accuracy.overall.value, 4)}
            if judged.ceiling is not None:
                found |= {"RM ceiling": round(judged.ceiling, 4), "RM accuracy, clear pairs": round(judged.clear, 4)}
        for row in self.quality:
            found[f"{row['model']} gold"] = round(row["gold"], 4)
        for r in self.preferences:
            if r["group"] == GROUPS[0]:
                found[f"{r['model']} preferred to {self.baseline}"] = round(r["rate"], 4)
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
    stage: str = "evaluate",
) -> Evaluation:
    """Sample one answer per test prompt from every model and have them judged; written to runs/<name>/<stage>/.

    prompts: by default test prompts, which come from held-out customers. Needs judges: the world's labelers.
    """
    folder = lab.run.stage(stage)
    folder.begin(settings={"models": list(models), "baseline": baseline}, seed=lab.seed)
    prompts = list(prompts) if prompts is not None else lab.prompts("test")[: lab.amounts.test_prompts]
    drawn = {m: answers(lab, m, prompts) for m in models}
    write_jsonl(folder.path / "samples.jsonl", (c.to_json() for m in models for c in drawn[m]))
    judged = compare(prompts, drawn, baseline=baseline, seed=lab.seed)
    write_jsonl(folder.path / "rankings.jsonl", (r.to_json() for r in judged.rankings))
    write_jsonl(folder.path / "judgments.jsonl", (_row(j) for j in judgments_of(judged.rankings)))
    result = Evaluation(
        baseline=baseline,
        models=list(models),
        preferences=[_rate(m, group, judged) for group in GROUPS for m in models if m != baseline],
        quality=[_quality(lab, prompts, m, drawn[m], judged) for m in models],
        benchmarks=_benchmarks(lab, models) if benchmarks else [],
    )
    write_json(folder.path / "results.json", result.to_json())
    folder.finish()
    return result


def load_evaluation(run: Run, stage: str = "evaluate") -> Evaluation:
    """The sheet of a run that was evaluated before."""
    file = run.path / stage / "results.json"
    if not file.exists():
        raise RunError(f"{file} does not exist: this run was not evaluated. Run 06_evaluate first.")
    return Evaluation(**json.loads(file.read_text(encoding="utf-8")))


def _rate(model: str, group: str, judged: Preference) -> dict[str, Any]:
    w = judged.win_rates[model, group]
    return {"model": model, "group": group, "rate": w.rate, "se": w.se, "low": w.low, "high": w.high, "count": w.n}


def _quality(
    lab: Experiment, prompts: Sequence[Prompt], model: str, completions: Sequence[Completion], judged: Preference
) -> dict[str, Any]:
    """Gold utility, and Likert and flags as the held-out labelers gave them."""
    gold = lab.source.gold(prompts, [c.text for c in completions], [bool(c.finished) for c in completions])
    held_out = {x.id for x in lab.source.held_out_labelers}
    scores = [
        r.ratings[c.id].likert
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
        "likert_scores": scores,
        "flags": dict(judged.flags[model]),
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
