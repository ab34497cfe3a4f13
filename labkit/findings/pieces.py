"""The pieces of work behind the findings: each makes one thing in one run folder from what lies there.

A piece is a function of a `Cell`. What stages make (models, metrics) goes to stage folders by the `Experiment`; the
numbers of a piece itself go to <piece>/results.json in the run folder.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from labkit.batch.parents import bring
from labkit.disk import write_json
from labkit.errors import InvariantError
from labkit.experiment import Experiment, evaluate
from labkit.findings.curve import BY_STEP, Curve
from labkit.findings.measure import measure
from labkit.findings.plan import MEMBERS, METHODS, MODELS, NEW_RANKINGS, ROUNDS, Plan, Task, Variant, variants
from labkit.findings.scales import lab_at
from labkit.jobs import Job
from labkit.runs import Run
from labkit.seeds import derive_seed
from labkit.types import Step
from labkit.world.benchmarks import TAX_BENCHMARKS

__all__ = ["PIECES", "Cell", "do", "has_diverged"]

SWEPT_BENCHMARKS = ("lm_loss", *TAX_BENCHMARKS)  # all that the findings ask of a variant
BLOWN_UP = 5.0  # nats per token from the PPO init: near log of the vocabulary, it shares nothing with it any more


@dataclass(frozen=True)
class Cell:
    """What a piece works on: the plan, its home, and one task's run folder, size and seed."""

    plan: Plan
    home: Path
    task: Task

    @cached_property
    def run(self) -> Run:
        return Run(self.task.run, self.home)

    @cached_property
    def lab(self) -> Experiment:
        """The experiment of this size and seed."""
        return lab_at(self.run, self.plan.scale, seed=self.task.seed, model=self.task.size)

    def write(self, results: dict[str, Any]) -> None:
        """Keep the numbers of this piece."""
        write_json(self.run.path / self.task.piece / "results.json", results)


def do(plan: Plan, home: Path, task: Task) -> None:
    """Carry out one task."""
    PIECES[task.piece](Cell(plan, home, task))


def base(cell: Cell) -> None:
    """Prompts, demonstrations, SFT and the PPO init model."""
    cell.lab.ensure("prompts", "sft", "ppo_init", say=print)


def judge(cell: Cell) -> None:
    """Rankings and reward model: made at the judge's size, from what its SFT model wrote, and brought to the other sizes."""
    lab = cell.lab
    if cell.task.size == cell.plan.judge:
        lab.rank()
        lab.reward_job().start().result(block=True)
    else:
        source = cell.plan.cell(cell.plan.judge, cell.task.seed, cell.home)
        for name in ("rankings", "reward"):
            bring(source.path / name, cell.run.path / name)
    lab.choose_sft_epoch()


def measure_start(cell: Cell) -> None:
    """Measure the models that PPO is compared with."""
    for model in ("base", "sft", "ppo_init"):
        measure(cell.lab, model)


def variant(cell: Cell) -> None:
    """One PPO run of the plan, measured. A training that diverged is a result; any other broken promise is an error."""
    chosen = next(v for v in variants(cell.plan.scale) if v.name == cell.task.argument)
    only = () if chosen.name in MODELS else SWEPT_BENCHMARKS
    job = _ppo_job(cell.lab, chosen)
    curve = Curve(cell.lab, job, chosen.init) if chosen.name in BY_STEP else None
    try:
        job.start().result(block=True)
    except InvariantError as error:
        if not has_diverged(str(error), cell.run.stage(chosen.name).steps()):
            raise
        measure(cell.lab, chosen.name, error=str(error))
    else:
        measure(cell.lab, chosen.name, only=only, by_step=curve.rows() if curve else ())
    shutil.rmtree(cell.run.path / chosen.name / "state", ignore_errors=True)  # snapshots: nobody will resume it


def has_diverged(error: str, steps: Sequence[Step]) -> bool:
    """True where a broken promise is a divergence: a number that is not finite, or a KL that had blown up before.

    Everything else (a ratio that is not 1, a negative KL) is a fault of the lab, about which no claim may be made.
    """
    if re.search(r"\b(nan|inf)\b", error):
        return True
    last = steps[-1].metrics if steps else {}
    return bool(last) and last["kl_k1"] > BLOWN_UP * max(1.0, last["response_length"])


def _ppo_job(lab: Experiment, chosen: Variant) -> Job:
    options: dict[str, Any] = {"name": chosen.name, "ptx": chosen.ptx, "init": chosen.init, **chosen.knobs}
    if chosen.longer > 1:
        options["steps"] = chosen.longer * lab.preset.ppo.steps
    if chosen.ensemble:
        options["score"] = _ensemble(lab)
    return lab.ppo_job(**options)


def _ensemble(lab: Experiment) -> Any:
    """The worst case of several reward models: what fools one of them is not enough."""
    from labkit.models import load_reward_model
    from labkit.reward import Ensemble

    names = ["reward", *(member_name(i) for i in range(1, MEMBERS))]
    models = [load_reward_model(lab.run.stage(n).model).requires_grad_(False) for n in names]
    return Ensemble(models, how="worst")


def member_name(number: int) -> str:
    """Stage of one more member of the ensemble."""
    return f"reward-member{number}"


def members(cell: Cell) -> None:
    """More reward models, each from as many rankings drawn with replacement, so that they err on different ones.

    A seed of their own would not do: the head is fitted, not drawn, and the rest begins from one reader.
    """
    rankings = cell.lab.rankings("train")
    for number in range(1, MEMBERS):
        seed = cell.task.seed + 1000 * number
        drawn = Random(derive_seed(seed, "member")).choices(rankings, k=len(rankings))
        cell.lab.reward_job(name=member_name(number), seed=seed, rankings=drawn).start().result(block=True)


def init_without_mix(cell: Cell) -> None:
    """The PPO init model without pretraining text among its demonstrations."""
    cell.lab.sft_job(init=True, name="ppo_init-nomix", pretrain_share=0.0).start().result(block=True)


def evaluation(cell: Cell) -> None:
    """The models of figures 1 and 3 on held-out customers' prompts; benchmarks are measured with each model."""
    evaluate(cell.lab, MODELS, benchmarks=False)


def across(cell: Cell) -> None:
    """The smallest aligned model against the largest unaligned ones, judged by held-out labelers."""
    from labkit.findings.across import compare_sizes

    cell.write(compare_sizes(cell.plan, cell.home, cell.task.seed))


def cost(cell: Cell) -> None:
    """Floating-point operations of each stage."""
    from labkit.findings.cost import costs

    cell.write(costs(cell.lab))


def folds(cell: Cell) -> None:
    """Five reward models, each blind to one fifth of the labelers."""
    from labkit.findings.judges import labeler_groups

    cell.write(labeler_groups(cell.lab))


def batching(cell: Cell) -> None:
    """Reward models with pairs shuffled apart, and with more epochs, beside the paper's way."""
    from labkit.findings.judges import ways_of_batching

    cell.write(ways_of_batching(cell.lab))


def sft_long(cell: Cell) -> None:
    """SFT for many epochs, each judged by validation loss, RM score and truth."""
    from labkit.findings.judges import epochs_of_long_sft

    cell.write(epochs_of_long_sft(cell.lab))


def best_of_n(cell: Cell) -> None:
    """Proxy and gold reward of the best of n answers of the PPO init model."""
    from labkit.findings.bestof import best_of_n_curve

    cell.write(best_of_n_curve(cell.lab))


def rounds(cell: Cell) -> None:
    """Iterated RLHF: each round's rankings come from the newest policy; and as many from the SFT model, for comparison."""
    from labkit.iterate import iterate

    new = round(NEW_RANKINGS * cell.lab.amounts.rankings)
    iterate(cell.lab, rounds=ROUNDS, say=print, control=True, rankings=new)  # it writes the results itself


def method(cell: Cell) -> None:
    """Another method on the same prompts and rankings, measured like every other model."""
    from labkit.baselines import train

    train(cell.lab, cell.task.argument)
    measure(cell.lab, cell.task.argument, only=SWEPT_BENCHMARKS)


def evaluation_of_methods(cell: Cell) -> None:
    """The other methods' answers before the same labelers, on the same prompts as those of SFT and PPO-ptx."""
    from labkit.baselines import EVALUATION

    evaluate(cell.lab, ("sft", "ppo_ptx", *METHODS), benchmarks=False, stage=EVALUATION)


def sheet(cell: Cell) -> None:
    """The model sheet of the cell: every stage, and with it every point of a sweep, with curves, samples, provenance."""
    from labkit.batch.sheet import write_sheet

    write_sheet(cell.run)


PIECES: dict[str, Callable[[Cell], None]] = {
    "base": base,
    "judge": judge,
    "measure": measure_start,
    "variant": variant,
    "members": members,
    "init-nomix": init_without_mix,
    "evaluate": evaluation,
    "across": across,
    "cost": cost,
    "folds": folds,
    "batching": batching,
    "sft-long": sft_long,
    "best-of-n": best_of_n,
    "rounds": rounds,
    "method": method,
    "evaluate-methods": evaluation_of_methods,
    "sheet": sheet,
}
