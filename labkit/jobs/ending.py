"""The end of a job's thread: the model is saved, a last snapshot is written, and run.json says how it went."""

from __future__ import annotations

import contextlib
import time
import traceback
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError
from labkit.figures.training import profile
from labkit.jobs.threads import number_of_threads

if TYPE_CHECKING:
    from labkit.jobs.job import Job

__all__ = ["conclude", "give_up"]


def conclude(job: Job, started: float) -> Any:
    """Finish what the job trained and close its folder; returns what `finish` made of it.

    From then on the model is whole on the disk: a last snapshot that cannot be written takes nothing from it, and run.json
    says under `snapshot_error` why it is missing. There is none to write where no Step was made since the newest.
    """
    value = job.finish(job.folder) if job.finish else None
    facts: dict[str, Any] = {"seconds": time.time() - started, "steps": len(job.steps), "profile": profile(job.steps)}
    try:
        job.snapshot_at_the_end()
    except (LabError, OSError) as error:
        facts["snapshot_error"] = str(error)
        print(f"{job.folder.path.name}: the model is saved, but no snapshot of its last step. {error}", flush=True)
    job.folder.finish(job.status, threads=number_of_threads(), **facts)
    return value


def give_up(job: Job, error: BaseException) -> str:
    """Close the folder of a job that an error ended; returns the error as told to people."""
    told = str(error) if isinstance(error, LabError) else "".join(traceback.format_exception_only(error)).strip()
    with contextlib.suppress(LabError):  # a full disk must not hide the error that came first
        job.folder.finish("failed", error=told, traceback="".join(traceback.format_exception(error)))
    return told
