"""Jobs driven by hand, and the numbers of a stage without its times."""

from __future__ import annotations

import time
from collections.abc import Iterable

from labkit.experiment import Experiment
from labkit.jobs import Job
from labkit.types import Step


def metrics(lab: Experiment, stage: str) -> list[dict[str, float]]:
    """Numbers of a stage, by step."""
    return metrics_of(lab.run.stage(stage).steps())


def metrics_of(steps: Iterable[Step]) -> list[dict[str, float]]:
    """The same of any steps."""
    return [{k: v for k, v in s.metrics.items() if not k.startswith("time_")} for s in steps]


def stepped(job: Job, upto: int) -> Job:
    """The job, paused after step `upto`."""
    job.start(paused=True)
    for n in range(1, upto + 1):
        job.step()
        while len(job.steps) < n or job.status != "paused":
            time.sleep(0.01)
    return job
