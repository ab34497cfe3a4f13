"""The past of a job: back to a snapshot, on from the newest one, off into a branch.

After each of these everything stands as it stood after that step: weights, optimisers, knobs, who holds β, and what
the folder says. So a run that went back, or was killed and resumed, repeats itself and can be replayed.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

from labkit.errors import RunError
from labkit.jobs.owners import claimed
from labkit.knobs import Dial, Replay, standing
from labkit.runs import StageFolder, append_jsonl, write_jsonl

if TYPE_CHECKING:
    from labkit.jobs.job import Job

__all__ = ["branch_off", "load_newest", "resume_at", "roll_back", "start_of"]


def start_of(schedule: Any) -> dict[str, Any]:
    """What run.json says of the knobs at the start, beside the settings: their values, and that the controller holds β."""
    if not isinstance(schedule, (Dial, Replay)):
        return {"knobs": {}}
    return {"knobs": schedule.knobs.to_json(), **({"auto": True} if getattr(schedule, "auto", False) else {})}


def roll_back(job: Job, step: int, why: str = "") -> int:
    """Return to the snapshot of `step`; what came after it is superseded."""
    found = job.folder.snapshots()
    if step not in found:
        listed = ", ".join(map(str, found)) or "none"
        raise RunError(f"There is no snapshot of step {step} in {job.folder.path.name}; there are: {listed}.")
    now = max(job.stateful().step, job.steps[-1].number if job.steps else 0)
    job.stateful().load(job.folder.snapshot(step))
    _supersede(job, now, step, by="hand", why=why)
    return step


def load_newest(job: Job) -> int:
    """Load the newest snapshot; nothing on the disk changes."""
    found = job.folder.snapshots()
    if not found:
        raise RunError(f"{job.folder.path} has no snapshot to resume from; start it without resume.")
    job.stateful().load(job.folder.snapshot(found[-1]))
    return found[-1]


def resume_at(job: Job, step: int) -> None:
    """Stand after `step` of the folder's run; what a killed process did after its last snapshot is superseded."""
    job.steps = job.folder.steps()
    asked = [row["step"] for row in standing(job.folder.ledger()) if row["knob"] != "rollback"]
    reached = max([step, *asked, *(s.number for s in job.steps)])
    if reached > step:
        _supersede(job, reached, step, by="resume", why=f"resumed from the snapshot of step {step}")
    else:
        _stand(job, step)


def branch_off(job: Job, name: str) -> StageFolder:
    """Go on in `<stage>@<name>`; the trunk is closed as stopped here, with the result that it has here."""
    trunk = job.folder
    new = StageFolder(trunk.path.with_name(f"{trunk.path.name.split('@')[0]}@{name}"))
    with claimed(job, new):
        if new.status != "missing":
            raise RunError(f"There is a branch {new.path.name} already; choose another name.")
        number = job.stateful().step
        new.begin(
            settings=trunk.manifest["settings"], seed=job.seed, parents={**job.parents, "branch_of": trunk.path.name}
        )
    job.stateful().save(new.snapshot(number))
    write_jsonl(new.path / "metrics.jsonl", [s.to_json() for s in job.steps])
    if (trunk.path / "ledger.jsonl").exists():
        shutil.copy(trunk.path / "ledger.jsonl", new.path / "ledger.jsonl")
    if job.finish:
        job.finish(trunk)
    trunk.finish("stopped", steps=len(job.steps), branched_into=new.path.name)
    new.keep(number)
    job.folder = new
    job.branches.append(new)
    return new


def _supersede(job: Job, now: int, step: int, **who: str) -> None:
    """Steps, snapshots and requests after `step` no longer count; the ledger says so, and nothing is lost of the steps."""
    row = {"time": time.time(), "knob": "rollback", "asked": step, **who, "step": now, "old": now, "new": step}
    job.folder.append_ledger({**row, "outcome": "applied", "reason": ""})
    for gone in [s for s in job.steps if s.number > step]:
        append_jsonl(job.folder.path / "superseded.jsonl", gone.to_json())
    job.steps = [s for s in job.steps if s.number <= step]
    write_jsonl(job.folder.path / "metrics.jsonl", [s.to_json() for s in job.steps])
    for number in [n for n in job.folder.snapshots() if n > step]:  # of a run that is no longer this one
        _put_away(job, number)
    _stand(job, step)


def _put_away(job: Job, number: int) -> None:
    """A superseded snapshot is neither offered nor resumed from; one that somebody asked to keep moves aside."""
    folder = job.folder.snapshot(number)
    if number in job.folder.kept():
        folder.rename(folder.with_name(f"superseded-{folder.name}-{time.time_ns() // 1_000_000}"))
    else:
        shutil.rmtree(folder)


def _stand(job: Job, step: int) -> None:
    """The schedule as it was after `step`."""
    if isinstance(job.schedule, Replay):
        job.schedule.rewind(step)
    if isinstance(job.schedule, Dial):
        start = job.folder.manifest["settings"]
        knobs = type(job.schedule.knobs)(**(job.stateful().knobs or start["knobs"]))
        rows = [row for row in standing(job.folder.ledger()) if row["knob"] != "rollback"]
        held = [bool(row["new"]) for row in rows if row["knob"] == "auto"]
        auto = held[-1] if held else bool(start.get("auto"))
        job.schedule.rewind(knobs, auto=auto, ledger=rows, newest=job.steps[-1] if job.steps else None)
