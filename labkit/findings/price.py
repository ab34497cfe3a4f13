"""What a plan costs before it is carried out: every piece as a bill of units, each unit at its measured price.

    labkit findings --plan

A unit is one thing done once: a demonstration learnt, an episode of PPO, an answer sampled and judged. Its price is in
seconds of one thread, so that pieces running side by side on two cores cost what they say. Where a piece was carried
out, the processor time that it took stands beside its price.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.baselines.settings import PAIRS_PER_PROMPT
from labkit.findings import bestof, curve, judges, measure
from labkit.findings.execute import done_records
from labkit.findings.plan import ACROSS, MEMBERS, METHODS, MODELS, NEW_RANKINGS, ROUNDS, SIZES, Plan, Task, variants
from labkit.findings.scales import amounts_of, departures, preset_of

if TYPE_CHECKING:
    from labkit.experiment import Amounts
    from labkit.presets import Preset

__all__ = ["PRICES", "bill", "price", "price_list", "total_minutes"]

#: Seconds of one thread for one unit, at the sizes small, medium and large: processor time on 25 November 2026, one torch
#: thread of a crowded AMD EPYC core, torch 2.13. What was not measured at a size is marked, and scaled as its neighbours.
PRICES: Mapping[str, tuple[float, float, float]] = {
    "piece": (3.0, 4.0, 6.0),  # loading models and data, writing records
    "prompt": (0.0003, 0.0003, 0.0003),  # drawn, deduplicated, filtered
    "demonstration": (0.0033, 0.0062, 0.0150),  # one example through SFT
    "answer": (0.0067, 0.0098, 0.0190),  # sampled, and judged or scored; large scaled
    "ranking": (0.0200, 0.0294, 0.0600),  # its answers sampled and ranked; small and large scaled
    "lesson": (0.0385, 0.0385, 0.0385),  # one ranking through the reward model, which is the reader whatever the size
    "shuffled lesson": (0.0914, 0.0914, 0.0914),  # the same with its pairs apart
    "episode": (0.0148, 0.0228, 0.0416),  # of PPO
    "pretraining": (0.0050, 0.0074, 0.0150),  # examples of one episode of PPO-ptx; large scaled
    "online episode": (0.0300, 0.0412, 0.0900),  # of TRL's RLOO and GRPO; small and large scaled
    "pair": (0.0340, 0.0461, 0.1000),  # one pair through TRL's DPO or KTO; small and large scaled
    "benchmark item": (0.0139, 0.0301, 0.0600),  # one item of each of the four benchmarks of the tax; large scaled
    "other item": (0.0066, 0.0086, 0.0180),  # one item of each of the others; large scaled
    "stage drawn": (1.2, 1.2, 1.2),  # on the model sheet of its cell
    "toxic item": (0.0052, 0.0061, 0.0130),  # one text with each of the three instructions; large scaled
}
Bill = dict[str, float]  # unit -> how many


@dataclass(frozen=True)
class _Shop:
    """What bills are made from: the scale's amounts and settings."""

    scale: str
    amounts: Amounts
    preset: Preset

    def measured(self, *, full: bool = False) -> Bill:
        """One model measured: on validation prompts and benchmarks."""
        items = measure.BENCHMARK_ITEMS[self.scale]
        answers = measure.ANSWERS[self.scale] * self.amounts.valid_prompts
        found: Bill = {"answer": answers, "benchmark item": items}
        if full:
            found |= {"other item": items, "toxic item": measure.TOXICITY_ITEMS[self.scale]}
        return found

    def ppo(self, ptx: bool, longer: int = 1) -> Bill:
        """A PPO run."""
        episodes = longer * self.preset.ppo.steps * self.preset.ppo.batch
        return {"episode": episodes, "pretraining": episodes * ptx}

    def learnt(self, rankings: float, epochs: int = 1) -> Bill:
        """A reward model."""
        return {"lesson": rankings * epochs}


def bill(plan: Plan, task: Task) -> Bill:
    """What a piece consists of."""
    shop = _Shop(plan.scale, amounts_of(plan.scale), preset_of(plan.scale))
    found = {"piece": 1.0}
    for part in _PARTS.get(task.piece, lambda *_: [])(shop, plan, task):
        for unit, count in part.items():
            found[unit] = found.get(unit, 0.0) + count
    return found


def price(plan: Plan, task: Task) -> float:
    """Seconds of one thread that a piece takes."""
    place = SIZES.index(task.size) if task.size in SIZES else 0
    return sum(count * PRICES[unit][place] for unit, count in bill(plan, task).items())


def total_minutes(plan: Plan) -> float:
    """Minutes of one thread that the whole plan takes."""
    return sum(price(plan, t) for t in plan.tasks()) / 60


def price_list(plan: Plan, home: Path) -> str:
    """Every kind of piece with its price at each size, how often it is made, and the total; as text."""
    from tabulate import tabulate

    rows: dict[tuple[str, str], list[Task]] = defaultdict(list)
    for task in plan.tasks():
        rows[task.key.split("/", 1)[1], task.size].append(task)
    table = []
    for (name, size), tasks in rows.items():
        each, taken = price(plan, tasks[0]), [_spent(r) for r in done_records(home, tasks)]
        known = f"{sum(taken) / len(taken):.0f}" if taken else "-"
        shown = "all" if size == ACROSS else size
        table.append([name, shown, f"{each:.0f}", known, len(tasks), f"{each * len(tasks) / 60:.1f}"])
    head = ["piece", "size", "seconds of one thread", "taken so far (mean)", "seeds", "minutes"]
    return f"{tabulate(table, head, disable_numparse=True, colalign=_ALIGN)}\n\n{_totals(plan)}"


def _spent(record: Mapping[str, float]) -> float:
    """Processor time of a finished piece; of older records only the clock is known."""
    return record.get("cpu_seconds", record["seconds"])


_ALIGN = ("left", "left", "right", "right", "right", "right")


def _totals(plan: Plan) -> str:
    """The sum, by size, and what it means by the clock."""
    by_size: dict[str, float] = defaultdict(float)
    for task in plan.tasks():
        by_size["across sizes" if task.size == ACROSS else task.size] += price(plan, task) / 60
    parts = ", ".join(f"{size} {minutes:.0f}" for size, minutes in by_size.items())
    total = total_minutes(plan)
    return (
        f"Scale {plan.scale}, {len(plan.seeds)} seed(s), sweeps at {', '.join(plan.sweep)}: {total:.0f} minutes of one "
        f"thread ({parts}); on two cores, two pieces at once, about {total / 2 / 60:.1f} hours.{_departures(plan.scale)}"
    )


def _departures(scale: str) -> str:
    changed = ", ".join(f"{name} {here} ({kin})" for name, (here, kin) in departures(scale).items())
    if not changed:
        return ""
    return f"\nWhat this scale takes, and in brackets the tour: {changed}. Rates, β and γ are the tour's."


Parts = Callable[[_Shop, Plan, Task], list[Bill]]


def _base(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    sft, init, demonstrations = shop.preset.sft, shop.preset.ppo_init, shop.amounts.demonstrations
    passes = sft.epochs + init.epochs / (1 - init.pretrain_share)
    return [{"prompt": shop.amounts.raw_prompts, "demonstration": demonstrations * passes}]


def _judge(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    chosen = {"answer": shop.preset.sft.epochs * shop.preset.sft.valid_samples}  # the SFT epoch, by RM score
    if task.size != plan.judge:
        return [chosen]
    drawn = shop.amounts.rankings + shop.amounts.valid_rankings
    return [chosen, {"ranking": drawn}, shop.learnt(shop.amounts.rankings, shop.preset.reward.epochs)]


def _variant(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    chosen = next(v for v in variants(plan.scale) if v.name == task.argument)
    watched = (curve.POINTS + 1) * curve.ITEMS[plan.scale] if chosen.name in curve.BY_STEP else 0
    return [
        shop.ppo(chosen.ptx, chosen.longer),
        shop.measured(full=chosen.name in MODELS),
        {"benchmark item": watched},
    ]


def _rounds(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    """Round 1 is there; every further one ranks, learns from all rankings so far, and trains; the control the same."""
    first, valid = shop.amounts.rankings, shop.amounts.valid_rankings
    new = NEW_RANKINGS * first
    seen = sum(first + new * (number - 1) for number in (*range(2, ROUNDS + 1), ROUNDS))
    policies = ROUNDS  # two further rounds and the control
    reports = (ROUNDS + 1) * (shop.amounts.valid_prompts + 4 * shop.amounts.valid_rankings)
    reports += (ROUNDS + 1) * 2 * shop.amounts.test_prompts
    return [
        {"ranking": (ROUNDS - 1) * 2 * (new + valid)},
        shop.learnt(seen),
        *[shop.ppo(True)] * policies,
        {"answer": reports},
    ]


def _method(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    if task.argument in ("dpo", "kto"):
        return [{"pair": shop.amounts.rankings * PAIRS_PER_PROMPT[plan.scale]}, shop.measured()]
    return [{"online episode": shop.preset.ppo.steps * shop.preset.ppo.batch}, shop.measured()]


def _long_sft(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    epochs = judges.LONG_SFT[plan.scale]
    judged = epochs * (shop.preset.sft.valid_samples + shop.amounts.valid_prompts)
    return [{"demonstration": shop.amounts.demonstrations * epochs, "answer": judged}]


def _folds(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    """Five models, each from four of five groups of labelers and four of five prompts."""
    return [shop.learnt(5 * 0.8 * 0.8 * (shop.amounts.rankings + shop.amounts.valid_rankings))]


def _sheet(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    """The stages on a cell's sheet: SFT, PPO init, RM, evaluation, PPO and PPO-ptx; at a swept size its variants as well."""
    swept = 2 + len(variants(plan.scale)) - 3
    further = 3 + MEMBERS - 1 + len(METHODS)
    return [{"stage drawn": 6 + swept * (task.size in plan.sweep) + further * (task.size == plan.further)}]


def _batching(shop: _Shop, plan: Plan, task: Task) -> list[Bill]:
    apart = {"shuffled lesson": shop.amounts.rankings}
    return [apart, shop.learnt(shop.amounts.rankings, judges.MORE_EPOCHS)]


_PARTS: Mapping[str, Parts] = {
    "base": _base,
    "judge": _judge,
    "measure": lambda shop, *_: [shop.measured(full=True)] * 3,
    "variant": _variant,
    "evaluate": lambda shop, *_: [{"answer": len(MODELS) * shop.amounts.test_prompts}],
    "init-nomix": lambda shop, *_: [{"demonstration": shop.amounts.demonstrations * shop.preset.ppo_init.epochs}],
    "members": lambda shop, *_: [shop.learnt(shop.amounts.rankings)] * (MEMBERS - 1),
    "sft-long": _long_sft,
    "best-of-n": lambda shop, plan, _: [{"answer": bestof.DRAWN[plan.scale] * shop.amounts.valid_prompts}],
    "rounds": _rounds,
    "method": _method,
    "evaluate-methods": lambda shop, *_: [{"answer": (len(METHODS) + 2) * shop.amounts.test_prompts}],
    "folds": _folds,
    "batching": _batching,
    "sheet": _sheet,
}
