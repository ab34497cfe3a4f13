"""Which job of this process writes which stage folder, so that no two write the same one. Between processes run.json sees to that.

The register holds jobs weakly: a job that has ended and that nobody holds any more is gone from it, with its weights; one
that trains is kept alive by its own thread.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit.errors import RunError

if TYPE_CHECKING:
    from labkit.jobs.job import Job
    from labkit.runs import StageFolder

__all__ = ["claimed", "running"]

_jobs: weakref.WeakSet[Job] = weakref.WeakSet()
_starting = threading.RLock()  # from the look at who writes a folder to the moment that this one does


def running() -> list[Job]:
    """The jobs of this process that have not ended, paused ones too: what a notebook's variable no longer names is here."""
    with _starting:
        return sorted((job for job in _jobs if job.alive), key=lambda job: str(job.folder.path))


@contextlib.contextmanager
def claimed(job: Job, folder: StageFolder) -> Iterator[None]:
    """Inside, `job` may begin to write `folder`, and no other job begins anywhere; where one writes it already, an error."""
    with _starting:
        for other in running():
            if other is not job and other.folder.path.resolve() == folder.path.resolve():
                raise RunError(_refusal(other))
        _jobs.add(job)
        yield


def _refusal(writer: Job) -> str:
    done = writer.steps[-1].number if writer.steps else 0
    return (
        f"{writer.folder.path.name} is being written by another job of this kernel ({writer.status}, step {done} of "
        f"{writer.total}). Wait until that one has ended, stop it on its board or with its stop(), or give this one "
        "another name; labkit.jobs.running() lists it. Nothing was changed."
    )
