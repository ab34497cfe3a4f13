"""The benchmarks while PPO trains: the tax as it is paid, step by step (figures 28 and 29).

At a few steps of a PPO job the averaged policy is asked the four miniature benchmarks on which the paper sees the tax.
Asking draws nothing from the loop's randomness and changes no weight, so the run is the same with and without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.errors import RunError
from labkit.world.benchmarks import TAX_BENCHMARKS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.experiment import Experiment
    from labkit.jobs import Job
    from labkit.types import Step

__all__ = ["BY_STEP", "Curve", "marks"]

BY_STEP = ("ppo", "ppo_ptx", "ppo-longer")  # the runs whose curve is drawn
POINTS = 4  # steps at which a run is asked, the last one among them; and before the first
ITEMS = {"smoke": 4, "findings": 60, "tour": 60, "full": 150}  # of each benchmark: the first of those asked at the end


def marks(total: int, points: int = POINTS) -> list[int]:
    """About `points` evenly spaced steps of a run of `total`, the last one among them."""
    return sorted({max(1, round(total * i / points)) for i in range(1, points + 1)})


class Curve:
    """Asks a job's policy at its marks; `rows` are {"step": number, benchmark: value, ...}, step 0 is the start."""

    def __init__(self, lab: Experiment, job: Job, start: str) -> None:
        self.lab, self.job, self.marks = lab, job, marks(job.total)
        self.found: dict[int, dict[str, float]] = {0: self._ask(lab.policy(start))}
        self.errors: list[Exception] = []
        job.listen(self._at)

    def _at(self, step: Step) -> None:
        """In the job's thread, between two steps; the last step is announced once more when the job ends."""
        if step.number not in self.marks or step.number in self.found:
            return
        try:
            self.found[step.number] = self._ask(self.job.state.averaged_policy())
        except Exception as error:  # a job goes on without a listener that fails; `rows` raises it
            self.errors.append(error)

    def _ask(self, policy: PreTrainedModel) -> dict[str, float]:
        from labkit.world.benchmarks import run_benchmarks

        lab, items = self.lab, ITEMS[self.lab.scale]
        found = run_benchmarks(policy, lab.tokenizer, lab.source.world, n=items, seed=lab.seed, only=TAX_BENCHMARKS)
        return {name: score.value for name, score in found.items()}

    def rows(self) -> list[dict[str, Any]]:
        """One row per mark; raises where asking failed, or where the job ended before its last step."""
        if self.errors:
            raise self.errors[0]
        missing = [mark for mark in self.marks if mark not in self.found]
        if missing:
            raise RunError(
                f"{self.job.folder.path.name} was not asked at step {missing[0]}: it ended before; run it again."
            )
        return [{"step": number, **values} for number, values in sorted(self.found.items())]
