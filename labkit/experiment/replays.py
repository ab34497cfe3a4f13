"""A recorded PPO run once more: its ledger as a schedule, and a job that is refused where the numbers could not be the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import RunError
from labkit.jobs import Job
from labkit.knobs import PPOKnobs, Schedule, replay
from labkit.runs import StageFolder

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["replay_job", "replay_of"]

#: Settings of a run that no scale decides, so its replay takes them from its record.
OPTIONS = ("gradient_checkpointing", "lora_rank", "lora_alpha", "lora_targets")


def replay_of(folder: str | Path) -> tuple[Schedule, dict[str, float]]:
    """The schedule that re-applies an earlier run's ledger, and the knobs that run started from."""
    stage = _stage_at(folder)
    knobs = stage.manifest["settings"].get("knobs")
    if not knobs:
        raise RunError(
            f"{stage.path} does not say which knobs it started from, so it cannot be replayed; choose a PPO stage of a run."
        )
    return replay(stage.ledger(), PPOKnobs(**knobs)), knobs


def replay_job(lab: Experiment, folder: str | Path, *, name: str = "") -> tuple[Job, dict[str, float]]:
    """A PPO job that re-applies an earlier run's ledger from its start to its last recorded step; and its first knobs.

    Raises RunError where seed, settings, prompts or models are not those of the recorded run: the same ledger on
    something else is another experiment, and its numbers would differ without saying so.
    """
    stage = _stage_at(folder)
    schedule, knobs = replay_of(folder)
    steps = stage.steps()
    if not steps:
        raise RunError(f"{stage.path} has no recorded step to replay; choose a run that trained.")
    asked = {k: v for k, v in stage.manifest["settings"].items() if k in OPTIONS}
    job = lab.ppo_job(name=name, schedule=schedule, steps=steps[-1].number, **asked, **knobs)
    found = next(_differences(stage.manifest, job), None)
    if found:
        what, was, now = found
        raise RunError(
            f"{stage.path} cannot be replayed in {lab.run.path}: {what} was {was}, here it is {now}. "
            "Use the same scale and seed, and the same prompts, ppo_init and reward as the recorded run."
        )
    job.threads = stage.manifest.get("threads")  # their number shows in the last digits
    return job, knobs


def _differences(recorded: Mapping[str, Any], job: Job) -> Iterator[tuple[str, Any, Any]]:
    """(what, recorded, here) for all that decides the numbers. The number of steps does not: each is drawn by its own address."""
    if recorded["seed"] != job.seed:
        yield "the seed", recorded["seed"], job.seed
    here = json.loads(json.dumps(job.settings))
    for name, value in recorded["settings"].items():
        if name not in ("knobs", "auto", "steps") and here.get(name) != value:
            yield f"the setting {name}", value, here.get(name)
    for name, value in recorded["parents"].items():
        if name != "branch_of" and job.parents.get(name) != value:
            yield f"the content of {name}", value, job.parents.get(name)


def _stage_at(folder: str | Path) -> StageFolder:
    """The stage's folder, also where it is named from the repository root while the kernel runs in notebooks/."""
    stage = StageFolder(Path(folder))
    if not stage.path.is_dir() and not stage.path.is_absolute():
        stage = StageFolder(Path("..") / stage.path)
    return stage
