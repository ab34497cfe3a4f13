"""The sheet of one evaluation: who was preferred by whom, quality and benchmarks by model, and the tables made of them.

`labkit.experiment.evaluate` fills it in, `labkit.experiment.by_people` adds what people say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.errors import RunError
from labkit.labels.intervals import FEW
from labkit.runs import Run

if TYPE_CHECKING:
    from labkit.evaluation.winrate import WinRate
    from labkit.experiment.look import JudgedRankings

__all__ = ["GROUPS", "PEOPLE", "Evaluation", "load_evaluation", "preference_row"]

GROUPS = ("held-out labelers", "training labelers", "gold judge")  # of judges in the world; the reward model follows, if there is one
PEOPLE = "people"  # the group of those who judged blind
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


def load_evaluation(run: Run, stage: str = "evaluate") -> Evaluation:
    """The sheet of a run that was evaluated before."""
    file = run.path / stage / "results.json"
    if not file.exists():
        raise RunError(f"{file} does not exist: this run was not evaluated. Run 06_evaluate first.")
    return Evaluation(**json.loads(file.read_text(encoding="utf-8")))


def preference_row(model: str, group: str, over: WinRate) -> dict[str, Any]:
    """A row of `preferences`: how often a group of judges preferred a model to the baseline."""
    return {"model": model, "group": group, "rate": over.rate, "se": over.se, "low": over.low, "high": over.high, "count": over.n}
