"""Reading what the runs recorded: one value per cell, and one per seed from the mean over sizes.

A value that was not recorded is `Missing`; its seed then takes no part in the claim, which says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from labkit.disk import read_jsonl
from labkit.errors import DataError, RunError
from labkit.evaluation.winrate import Judgment, WinRate, judgments_of, win_rate
from labkit.experiment.evaluation import GROUPS
from labkit.findings.evidence import BySeed
from labkit.findings.measure import measured
from labkit.findings.plan import Plan
from labkit.runs import Run
from labkit.types import Ranking, Step
from labkit.world.labelers import hire_labelers

__all__ = ["CLOSED_DOMAIN", "EVALUATION", "HELD_OUT", "TRAINING", "Missing", "Record", "Records"]

HELD_OUT, TRAINING = GROUPS[:2]
EVALUATION = "evaluate"  # a stage with rankings
CLOSED_DOMAIN = ("closed_qa", "summarization", "extract", "rewrite")  # use cases whose answer lies in the prompt

GOLD_OF_A_DIVERGED_RUN = 0.0  # gold utility: a model that training destroyed answers nothing


class Missing(RunError):
    """This number is not there (yet)."""


class Record:
    """What one cell (a size and a seed) recorded."""

    def __init__(self, run: Run, size: str, seed: int) -> None:
        self.run, self.size, self.seed = run, size, seed
        self.model = cache(self._model)  # each file is read once
        self.rankings = cache(self._rankings)
        self.judgments = cache(self._judgments)
        self.steps = cache(self._steps)

    def _model(self, name: str) -> dict[str, Any]:
        found = measured(self.run, name)
        if found is None:
            raise Missing(f"{name} was not measured in {self.run.name}.")
        return found

    def value(self, model: str, name: str) -> float:
        """score, gold, kl, length or end_rate of a model on validation prompts; the gold of a diverged one is 0."""
        found = self.model(model)
        if found["error"] and name == "gold":
            return GOLD_OF_A_DIVERGED_RUN
        if name not in found:
            raise self._lacks(model, name)
        return found[name]

    def _lacks(self, model: str, name: str) -> Missing:
        """Why a model has no such number."""
        error = self.model(model)["error"]
        why = f"diverged ({error})" if error else f"has no {name}"
        return Missing(f"{model} of {self.run.name} {why}.")

    def benchmark(self, model: str, *names: str) -> float:
        """Mean of these benchmarks of a model."""
        found = self.model(model).get("benchmarks", {})
        for name in names:
            if name not in found:
                raise self._lacks(model, name)
        return sum(found[n] for n in names) / len(names)

    def by_step(self, model: str) -> list[dict[str, float]]:
        """The benchmarks of a model while it was trained: rows of step and values; step 0 is what it started from."""
        rows = self.model(model).get("by_step")
        if not rows:
            raise self._lacks(model, "benchmarks by step")
        return rows

    def diverged(self, model: str) -> bool:
        """True where training the model diverged."""
        return bool(self.model(model)["error"])

    def results(self, piece: str) -> dict[str, Any]:
        """The numbers of a piece."""
        file = self.run.path / piece / "results.json"
        if not file.exists():
            raise Missing(f"{self.run.name} has no {piece} yet.")
        return json.loads(file.read_text(encoding="utf-8"))

    def _rankings(self, stage: str = EVALUATION) -> list[Ranking]:
        file = self.run.path / stage / "rankings.jsonl"
        if not file.exists():
            raise Missing(f"{self.run.name} has no {stage} yet.")
        return [Ranking.from_json(row) for row in read_jsonl(file)]

    def _judgments(self, group: str, stage: str) -> list[Judgment]:
        held_out = {labeler.id for labeler in hire_labelers() if labeler.group == "heldout"}
        return judgments_of(r for r in self.rankings(stage) if (r.labeler in held_out) == (group == HELD_OUT))

    def _steps(self, stage: str) -> list[Step]:
        steps = self.run.stage(stage).steps()
        if not steps:
            raise Missing(f"{stage} of {self.run.name} has no steps.")
        return steps

    def rate(self, model: str, other: str, group: str = HELD_OUT, stage: str = EVALUATION) -> WinRate:
        """How often one model's answers are preferred to another's by the held-out or the training labelers."""
        try:
            return win_rate(self.judgments(group, stage), model, other)
        except DataError:
            raise Missing(f"{model} was never compared with {other} in {stage} of {self.run.name}.") from None

    def flag(self, model: str, flag: str, use_cases: Sequence[str] = (), *, constrained: bool = False) -> float:
        """Share of a model's answers with a flag; only some use cases, or only prompts with a constraint."""
        ticked = []
        for ranking in self.rankings():
            if use_cases and ranking.prompt.use_case not in use_cases:
                continue
            if constrained and not (ranking.prompt.meaning or {}).get("constraint"):
                continue
            ticked += [flag in ranking.ratings[c.id].flags for c in ranking.completions if c.model == model]
        if not ticked:
            raise Missing(f"No answer of {model} to such prompts in {self.run.path}.")
        return sum(ticked) / len(ticked)


class Records:
    """All cells of a plan."""

    def __init__(self, home: Path, plan: Plan) -> None:
        self.home, self.plan = home, plan
        self.cells = {(z, s): Record(plan.cell(z, s, home), z, s) for z in plan.sizes for s in plan.seeds}

    def over_seeds(self, value: Callable[[Record], float], sizes: Iterable[str] = (), over: str = "") -> BySeed:
        """seed -> mean of `value` over these sizes (by default all); a seed where one is missing is lost."""
        chosen = tuple(sizes) or self.plan.sizes
        return self._by_seed(lambda seed: sum(value(self.cells[size, seed]) for size in chosen) / len(chosen), over)

    def _by_seed(self, value: Callable[[int], float], over: str = "") -> BySeed:
        found = BySeed(over=over)
        for seed in self.plan.seeds:
            try:
                found[seed] = value(seed)
            except Missing as why:
                found.lost[seed] = str(why)
        return found

    def swept(self, value: Callable[[Record], float]) -> BySeed:
        """The same over the sizes at which sweeps are made."""
        return self.over_seeds(value, self.plan.sweep, "sweep")

    def further(self, value: Callable[[Record], float]) -> BySeed:
        """The same for the one size at which it is measured what goes beyond the paper."""
        return self.over_seeds(value, (self.plan.further,), "further")

    def judged(self, value: Callable[[Record], float]) -> BySeed:
        """The same for the judge's size alone: the one whose SFT answers are ranked."""
        return self.over_seeds(value, (self.plan.judge,))

    def across(self, seed: int) -> dict[str, Any]:
        """The comparison of sizes of a seed."""
        return Record(self.plan.across(seed, self.home), "across", seed).results("across")

    def across_rate(self, model: str) -> BySeed:
        """seed -> win rate of the smallest PPO-ptx model over the largest `model`; with one size there is none."""
        if len(self.plan.sizes) == 1:
            return BySeed(lost=dict.fromkeys(self.plan.seeds, "one size alone cannot tell"))
        ends = (self.plan.sizes[0], self.plan.sizes[-1])

        def rate(seed: int) -> float:
            found = self.across(seed)
            if (found["small"], found["large"]) != ends:
                raise Missing(f"across-s{seed} compares {found['small']} with {found['large']}, not {ends[0]} with {ends[1]}.")
            return next(r["rate"] for r in found["rows"] if r["against"] == model)

        return self._by_seed(rate)
