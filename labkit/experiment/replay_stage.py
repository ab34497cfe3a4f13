"""Replay of a recorded stage: its settings, its ledger, its last step. Refused where seed, data or models are others, so its numbers would be too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import RunError
from labkit.jobs import Job
from labkit.jobs.sameness import differences
from labkit.knobs import Knobs, PPOKnobs, RewardKnobs, Schedule, SFTKnobs, replay
from labkit.runs import StageFolder
from labkit.types import Step

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["kind_of", "replay_job"]

#: What a recorded Step calls its stage -> the knobs of that stage. PPO and PPO-ptx are one kind.
KNOBS: dict[str, type[Knobs]] = {"sft": SFTKnobs, "ppo_init": SFTKnobs, "reward": RewardKnobs, "ppo": PPOKnobs}


def kind_of(folder: str | Path | StageFolder) -> str:
    """sft, ppo_init, reward or ppo: what a recorded stage is, whatever its folder is called."""
    stage = _stage_at(folder)
    return _kind(stage, stage.steps())


def replay_job(lab: Experiment, folder: str | Path | StageFolder, *, name: str = "", only: str = "") -> tuple[Job, dict[str, float]]:
    """A job that re-applies an earlier stage's ledger from its start to its last recorded step; and its first knobs.

    Settings and the number of threads are those of the record. A stage that was stopped is stopped after the same step,
    so that its model is the same; one that came to its end comes to it again. name: the folder to write, by default that
    of the stage's kind. only: refuse stages of another kind (sft, ppo_init, reward, ppo).
    Raises RunError where the seed, the prompts or the models here are not those of the recorded run: the same ledger on
    something else is another experiment, and its numbers would differ without saying so.
    """
    stage = _stage_at(folder)
    steps = stage.steps()
    kind = _kind(stage, steps)
    if only and kind != only:
        raise RunError(f"{stage.path} holds a stage of {kind}, not of {only}; choose a stage of {only}.")
    schedule, knobs = _schedule(stage, kind)
    job = _job(lab, kind, name, schedule, stage.manifest["settings"], knobs)
    found = next(differences(stage.manifest, job), None)
    if found:
        what, was, now = found
        raise RunError(
            f"{stage.path} cannot be replayed in {lab.run.path}: {what} was {was}, here it is {now}. "
            f"Use the same scale and seed, and the same {' and '.join(job.parents)} as the recorded run."
        )
    job.threads = _threads(stage)  # their number shows in the last digits
    if stage.status != "done":
        _stop_after(job, steps[-1].number)
    return job, knobs


def _kind(stage: StageFolder, steps: list[Step]) -> str:
    _ = stage.manifest  # a folder that holds no stage says so
    if not steps:
        raise RunError(f"{stage.path} has no recorded step to replay; choose a stage that trained.")
    if steps[0].stage not in KNOBS:
        raise RunError(
            f"{stage.path} holds a stage of {steps[0].stage}, which cannot be replayed; those that can are {', '.join(KNOBS)}."
        )
    return steps[0].stage


def _schedule(stage: StageFolder, kind: str) -> tuple[Schedule, dict[str, float]]:
    """The schedule that re-applies a stage's ledger, and the knobs that the stage started from."""
    knobs = stage.manifest["settings"].get("knobs")
    if not knobs:
        raise RunError(
            f"{stage.path} does not say which knobs it started from, so it cannot be replayed; choose another stage."
        )
    return replay(stage.ledger(), KNOBS[kind]().turned(**knobs)), knobs


def _job(
    lab: Experiment, kind: str, name: str, schedule: Schedule, recorded: Mapping[str, Any], knobs: Mapping[str, float]
) -> Job:
    """The stage's job with the recorded settings, as far as this version knows them."""
    known = getattr(lab.preset, kind).__dataclass_fields__
    settings = {k: v for k, v in recorded.items() if k in known}
    if kind == "ppo":
        return lab.ppo_job(ptx=knobs["ptx_coef"] > 0, name=name, schedule=schedule, **settings, **knobs)
    if kind == "reward":
        return lab.reward_job(name=name or "reward", schedule=schedule, **settings)
    settings.pop("seed", None)  # it is the run's own, and compared afterwards
    return lab.sft_job(init=kind == "ppo_init", name=name, schedule=schedule, **settings)


def _threads(stage: StageFolder) -> int | None:
    """The record's number of threads; that of a stage which went on as a branch stands in the branch's record."""
    branch = StageFolder(stage.path.with_name(stage.manifest.get("branched_into", stage.path.name)))
    return (branch if branch.status != "missing" else stage).manifest.get("threads")


def _stop_after(job: Job, last: int) -> None:
    """Let the job be stopped as by hand after step `last`: what follows the loop's own end is not done then."""
    make = job.make_loop

    def steps(knobs: Schedule) -> Iterator[Step]:
        with closing(make(knobs)) as found:
            for step in found:
                if step.number >= last:
                    job.stop()  # before the Step is handed over, so that no other is asked for
                yield step

    job.make_loop, job.total = steps, last


def _stage_at(folder: str | Path | StageFolder) -> StageFolder:
    """The stage's folder, also where it is named from the repository root while the kernel runs in notebooks/."""
    stage = folder if isinstance(folder, StageFolder) else StageFolder(Path(folder))
    if not stage.path.is_dir() and not stage.path.is_absolute():
        stage = StageFolder(Path("..") / stage.path)
    return stage
