"""Other methods beside PPO-ptx on one sheet: trained where they are missing, judged by the same labelers on the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labkit.baselines.settings import METHODS, settings_of
from labkit.baselines.train import train

if TYPE_CHECKING:
    from labkit.experiment import Evaluation, Experiment

__all__ = ["EVALUATION", "compare"]

EVALUATION = "evaluate-methods"  # the stage of the sheet


def compare(
    lab: Experiment, methods: Sequence[str] = METHODS, *, best_of: int = 0, say: Callable[[str], None] = print
) -> Evaluation:
    """Train what is missing of these methods in the run, and judge them beside SFT and the run's own PPO models.

    best_of: n of best-of-n, the SFT model's best answer in the eyes of the reward model; 0 leaves it out.
    """
    from labkit.experiment import evaluate
    from labkit.experiment.needs import is_there, parents_that_changed

    for method in methods:
        settings_of(lab, method)  # an unknown name is refused before anything trains
    lab.ensure("ppo_init", "reward", say=say)
    for method in methods:
        changed = parents_that_changed(lab.run, method) if is_there(lab.run, method) else []
        if changed:
            say(f"{method}: its {' and '.join(changed)} changed since it was trained; training it again.")
        elif not is_there(lab.run, method):
            say(f"{method}: training, from the PPO init model.")
        if changed or not is_there(lab.run, method):
            train(lab, method)
    own = [stage for stage in ("ppo", "ppo_ptx") if is_there(lab.run, stage)]
    best = [f"best-of-{best_of}"] if best_of else []
    return evaluate(lab, ["sft", *best, *own, *methods], benchmarks=False, stage=EVALUATION)
