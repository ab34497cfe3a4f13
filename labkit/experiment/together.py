"""Two jobs side by side: a small model's step hardly gains from a second thread, so two jobs at once end sooner."""

from __future__ import annotations

import threading

from labkit.jobs import Job
from labkit.models import choose_device

__all__ = ["start_together"]


def start_together(*jobs: Job) -> tuple[Job, ...]:
    """Start jobs that need nothing of each other, and return them at once.

    On a CPU all train at the same time, each with its share of torch's threads. On an accelerator, which one job fills,
    and with dropout, whose draws torch takes from one generator for the whole process, each waits, paused, until the one
    before has ended; `resume()` starts it earlier.
    """
    if choose_device()[0].type == "cpu" and not any(job.settings.get("dropout") for job in jobs):
        import torch

        share = max(1, torch.get_num_threads() // len(jobs))
        return tuple(job.start(threads=share) for job in jobs)
    started = tuple(job.start(paused=number > 0) for number, job in enumerate(jobs))
    threading.Thread(target=_one_by_one, args=(started,), name="one-by-one", daemon=True).start()
    return started


def _one_by_one(jobs: tuple[Job, ...]) -> None:
    for before, job in zip(jobs, jobs[1:], strict=False):
        before.wait()
        job.resume()
