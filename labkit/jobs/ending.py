"""The end of a job's thread: the model is saved, a last snapshot is written, and run.json says how it went.

A snapshot on the way that cannot be written does not end a job by hand: it pauses, until somebody has made room.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from labkit.errors import LabError, RunError
from labkit.figures.training import profile
from labkit.jobs.threads import number_of_threads
from labkit.jobs.waiting import nobody_there

if TYPE_CHECKING:
    from labkit.jobs.job import Job

__all__ = ["conclude", "give_up", "pausing_for_room", "told"]


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


@contextlib.contextmanager
def pausing_for_room(job: Job) -> Iterator[None]:
    """Inside, a snapshot that cannot be written (a full disk) pauses a job by hand, with the error beside it; headless it ends it."""
    try:
        yield
    except RunError as error:
        if nobody_there():
            raise
        job.error = f"{error} Then resume, or stop to keep the model as it is."
        job.pause()


def told(error: BaseException) -> str:
    """An error as people are told it: the lab's own as its sentence."""
    return str(error) if isinstance(error, LabError) else "".join(traceback.format_exception_only(error)).strip()


def give_up(job: Job, error: BaseException) -> None:
    """Close the folder of a job that an error ended."""
    with contextlib.suppress(LabError):  # a full disk must not hide the error that came first
        job.folder.finish("failed", error=job.error, traceback="".join(traceback.format_exception(error)))
