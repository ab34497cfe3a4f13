"""PPO of a prepared run, in as many processes as a launcher starts: one GPU each, on one machine or on several.

    accelerate launch --multi_gpu --num_processes 8 -m labkit.experiment.launch mine ppo_ptx -p kl_coef=0.05

The numbers are those of one process with the same settings, to rounding. The first process writes the run folder, as a
job always does. The others do the same work in step with it, in a scratch folder of their own that goes when they end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.batch.parameters import parse_assignments
from labkit.errors import LabError, RunError
from labkit.experiment.lab import Experiment
from labkit.jobs import Job
from labkit.jobs.history import load_newest
from labkit.runs import FACTS, Run, StageFolder, runs_root

__all__ = ["carry_out", "main", "prepared"]

WORDS = {"true": True, "false": False, "none": None}


def prepared(run: Run) -> Experiment:
    """The experiment that a run folder was prepared with."""
    facts = run.facts
    if not facts:
        raise RunError(
            f"{run.path} was not prepared: {run.path / FACTS} is missing. "
            f"Make the stages before PPO first: labkit run {run.name} --only 01_prompts, and 02_sft to 04_reward after it."
        )
    missing = [name for name in ("ppo_init", "reward") if not run.stage(name).model.is_dir()]
    if missing:
        raise RunError(f"{run.path / missing[0]} has no finished model; run that stage first: labkit run {run.name}.")
    return Experiment(run, scale=facts["scale"], seed=facts["seed"])


def carry_out(job: Job, *, resume: bool = False) -> Any:
    """Run the job to its end in this process; only the first one leaves anything behind."""
    accelerator = job.state.accelerator
    if accelerator.is_main_process:
        return job.start(resume=resume).result(block=True)
    with tempfile.TemporaryDirectory() as scratch:
        if resume:
            load_newest(job)
        job.folder = StageFolder(Path(scratch) / job.folder.path.name)
        return job.start().result(block=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """What a launcher starts once per process; an error is one sentence on stderr."""
    asked = _parser().parse_args(arguments)
    try:
        changes = {name: _value(text) for name, text in parse_assignments(asked.parameter).items()}
        lab = prepared(Run(asked.run, asked.root))
        job = lab.ppo_job(ptx=asked.stage == "ppo_ptx", name=asked.name or asked.stage, **changes)
        carry_out(job, resume=asked.resume)
        if job.state.accelerator.is_main_process:
            last = {k: round(v, 4) for k, v in job.steps[-1].metrics.items() if k in ("score", "gold", "kl_k1", "ptx_loss")}
            print(f"{job.folder.path}: {job.status} after step {job.steps[-1].number}, {last}", flush=True)
        job.state.accelerator.end_training()
    except LabError as error:
        print(str(error), file=sys.stderr, flush=True)
        sys.exit(1 if isinstance(error, RunError) else 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m labkit.experiment.launch", description=__doc__.split("\n")[0])
    parser.add_argument("run", help="name of the run: runs/RUN, with ppo_init and reward done")
    parser.add_argument("stage", choices=("ppo", "ppo_ptx"), help="without or with pretraining gradients")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a knob or a setting; repeatable")
    parser.add_argument("--name", default="", help="folder of the stage; default: STAGE")
    parser.add_argument("--resume", action="store_true", help="go on from the newest snapshot")
    parser.add_argument("--root", type=Path, default=runs_root(), help="the folder of runs")
    return parser


def _value(text: str) -> Any:
    """A word of the command line as a number, a truth value, nothing, or itself."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    main()
