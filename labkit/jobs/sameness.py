"""Whether a job would make the numbers that a run.json records: the same seed, settings and parents, name by name.

A replay must have all of them. A resumed run may be longer, and may trade memory for time; with anything else changed its
record would mix two runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from labkit.errors import RunError
from labkit.presets import HOUSEKEEPING

if TYPE_CHECKING:
    from labkit.jobs.job import Job

__all__ = ["check_resumable", "differences"]

#: Settings that may be others after a resume: how long, and what changes memory, speed or what is measured.
MAY_CHANGE = {"steps", "epochs", *HOUSEKEEPING} - {"seed"}


def differences(recorded: Mapping[str, Any], job: Job) -> Iterator[tuple[str, Any, Any]]:
    """(what, recorded, here) for all that a manifest names of what decides the numbers."""
    if recorded.get("seed", job.seed) != job.seed:
        yield "the seed", recorded["seed"], job.seed
    here = json.loads(json.dumps(job.settings))
    for name, value in (recorded.get("settings") or {}).items():
        if name not in ("knobs", "auto") and here.get(name) != value:
            yield f"the setting {name}", value, here.get(name)
    for name, value in (recorded.get("parents") or {}).items():
        if name != "branch_of" and job.parents.get(name) != value:
            yield f"the content of {name}", value, job.parents.get(name)


def check_resumable(job: Job) -> None:
    """Refuse to go on with a run that was begun with another seed, other settings, or from other data or models."""
    allowed = {f"the setting {name}" for name in MAY_CHANGE}
    found = [row for row in differences(job.folder.manifest, job) if row[0] not in allowed]
    if found:
        told = "; ".join(f"{what} was {was}, here it is {'not given' if now is None else now}" for what, was, now in found)
        raise RunError(
            f"{job.folder.path} cannot be resumed: {told}. Its steps so far rest on the former, so going on would mix two runs in one record. "
            "Give it back what it was begun with, or begin anew with start(), which moves the old files aside. Nothing was changed."
        )
