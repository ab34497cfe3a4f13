"""The past of a job: roll back to a snapshot, resume from the newest one, branch off.

After each of these everything stands as it stood after that step: weights, optimisers, knobs, who holds β, and what
the folder says. So a run that went back, or was killed and resumed, repeats itself and can be replayed.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.disk import append_jsonl, write_jsonl
from labkit.errors import LabError, RunError, SnapshotError
from labkit.jobs.owners import claimed
from labkit.jobs.sameness import check_resumable
from labkit.knobs import Dial, Replay, standing
from labkit.runs import StageFolder

if TYPE_CHECKING:
    from labkit.jobs.job import Job

__all__ = ["HalfDone", "branch_off", "load_newest", "refuse_waiting", "resume_at", "roll_back", "start_of"]


class HalfDone(Exception):
    """A change of the past failed when the state had changed already; its cause says why. Nobody may train on from there.

    What is on the disk by then leads a resume, or the same rollback asked for again, to where the change was going.
    """


@contextlib.contextmanager
def _whole_or_the_end() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise HalfDone from error


def start_of(schedule: Any) -> dict[str, Any]:
    """What run.json says of the knobs at the start, beside the settings: their values, and that the controller holds β."""
    if not isinstance(schedule, (Dial, Replay)):
        return {"knobs": {}}
    return {"knobs": schedule.knobs.to_json(), **({"auto": True} if getattr(schedule, "auto", False) else {})}


def roll_back(job: Job, step: int, why: str = "") -> int:
    """Return to the snapshot of `step`; what came after it is superseded."""
    _check_snapshot(job, step)
    now = max(job.stateful().step, job.steps[-1].number if job.steps else 0)
    job.stateful().load(job.folder.snapshot(step))
    with _whole_or_the_end():
        _supersede(job, now, step, by="hand", why=why)
        _stand(job, step)
    return step


def load_newest(job: Job) -> int:
    """Load the newest snapshot that is whole, of a run that is this job's; nothing on the disk changes."""
    found = job.folder.snapshots()
    if not found:
        raise RunError(f"{job.folder.path} has no snapshot to resume from; start it without resume.")
    check_resumable(job)
    for number in reversed(found):
        try:
            job.stateful().load(job.folder.snapshot(number))
        except SnapshotError as error:
            torn = error
            print(f"{job.folder.path.name}: the snapshot of step {number} is passed over. {error}", flush=True)
        else:
            return number
    raise RunError(f"{job.folder.path} has no whole snapshot to resume from; start it without resume.") from torn


def resume_at(job: Job, step: int) -> None:
    """Go on after `step` of the folder's run; what a killed process did after its last snapshot is superseded."""
    job.folder.clear_scratch()
    job.steps = job.folder.steps()
    turned = [row["step"] for row in standing(job.folder.ledger()) if row["knob"] != "rollback"]
    reached = max([step, *turned, *(s.number for s in job.steps), *job.folder.snapshots()])
    if reached > step:
        print(_undone(job, step, reached), flush=True)
        _supersede(job, reached, step, by="resume", why=f"resumed from the snapshot of step {step}")
    asked = job.schedule.knobs.to_json() if isinstance(job.schedule, Dial) and not job.begun else {}  # of a job built anew
    _stand(job, step)
    begun = job.folder.manifest["settings"].get("knobs", {})
    if other := [f"{name} = {value:g}" for name, value in asked.items() if name in begun and begun[name] != value]:
        print(f"{job.folder.path.name} goes on with the knobs of its record, not with {', '.join(other)}; turn them where they should hold.", flush=True)


def _undone(job: Job, step: int, reached: int) -> str:
    """A line for whoever resumes: which steps are done again, and which turns of theirs hold no more."""
    turns = [r for r in standing(job.folder.ledger()) if r["knob"] != "rollback" and r["step"] > step]
    lost = [f"{r['knob']} = {r['new']:g} at step {r['step']}" for r in turns if r["outcome"] != "refused" and r["by"] == "hand"]
    again = f"{job.folder.path.name} goes on from the snapshot of step {step}; what came after it, up to step {reached}, is done again."
    return f"{again} Turned by hand meanwhile, and no longer so: {', '.join(lost)}; turn it again where it should hold." if lost else again


def refuse_waiting(job: Job) -> None:
    """Every request is a line of the ledger, also one for which no further step came."""
    if job.dial:
        with contextlib.suppress(LabError):  # a full disk, or a folder that is another's by now, must not hide why the job ended
            job.dial.refuse_waiting(job.steps[-1].number if job.steps else 0, "the job ended before its next step")


def branch_off(job: Job, name: str, step: int | None = None) -> StageFolder:
    """Go on in `<stage>@<name>`, from here or from the snapshot of an earlier `step`; the trunk keeps all that it has.

    A trunk under way is closed as stopped here, with the result that it has here; one that has ended stays as it is.
    """
    trunk = job.folder
    new = StageFolder(trunk.path.with_name(f"{trunk.path.name.split('@')[0]}@{name}"))
    _check_fork(job, step)
    with claimed(job, new):
        if new.status != "missing":
            raise RunError(f"There is a branch {new.path.name} already; choose another name.")
        try:
            number = _begin_branch(job, new, step)
            if job.alive and job.finish:
                job.finish(trunk)
            if step is not None:
                job.stateful().load(new.snapshot(step))
        except BaseException:  # half a branch is none; the job goes on where it was
            shutil.rmtree(new.path, ignore_errors=True)
            raise
        with _whole_or_the_end():
            if job.alive:
                trunk.finish("stopped", steps=len(job.steps), branched_into=new.path.name)
            job.folder, job.begun = new, new.manifest["started"]
            job.branches.append(new)
            if step is not None:
                job.steps = [s for s in job.steps if s.number <= number]
                _stand(job, number)
    return new


def _check_fork(job: Job, step: int | None) -> None:
    """The end of a run may change its state (the best epoch's weights, a centred head), so a branch of it begins at a snapshot."""
    if step is not None:
        _check_snapshot(job, step)
    elif not job.alive:
        raise RunError(
            f"{job.folder.path.name} has ended, so a branch needs the step of a snapshot to begin at; there are: {_listed(job)}."
        )


def _check_snapshot(job: Job, step: int) -> None:
    if step not in job.folder.snapshots():
        raise RunError(f"There is no snapshot of step {step} in {job.folder.path.name}; there are: {_listed(job)}.")


def _listed(job: Job) -> str:
    return ", ".join(map(str, job.folder.snapshots())) or "none"


def _begin_branch(job: Job, new: StageFolder, step: int | None) -> int:
    """The folder of a branch: its first snapshot, and the steps, requests and evaluations that are its past; returns the fork's number."""
    trunk, number = job.folder, job.stateful().step if step is None else step
    new.begin(
        settings=trunk.manifest["settings"], seed=job.seed, parents={**job.parents, "branch_of": trunk.path.name}
    )
    if step is None:
        job.stateful().save(new.snapshot(number))
    else:
        shutil.copytree(trunk.snapshot(number), new.snapshot(number))
    new.keep(number)
    write_jsonl(new.path / "metrics.jsonl", [s.to_json() for s in job.steps if s.number <= number])
    rows = trunk.ledger()
    if step is not None:
        rows = [row for row in standing(rows) if (row["new"] if row["knob"] == "rollback" else row["step"]) <= number]
    if rows:
        write_jsonl(new.path / "ledger.jsonl", rows)
    measured = [row for row in trunk.evaluations() if row["step"] <= number]
    if measured:
        write_jsonl(new.path / "evaluations.jsonl", measured)
    return number


def _supersede(job: Job, now: int, step: int, **who: str) -> None:
    """Steps, snapshots and requests after `step` no longer count; the ledger says so, and nothing is lost of the steps.

    First the snapshots, the newest before the others: from then on whoever resumes this run begins at `step`.
    """
    gone = [_put_aside(job, n) for n in reversed(job.folder.snapshots()) if n > step]
    row = {"time": time.time(), "knob": "rollback", "asked": step, **who, "step": now, "old": now, "new": step}
    job.folder.append_ledger({**row, "outcome": "applied", "reason": ""})
    for late in [s for s in job.steps if s.number > step]:
        append_jsonl(job.folder.path / "superseded.jsonl", late.to_json())
    job.steps = [s for s in job.steps if s.number <= step]
    write_jsonl(job.folder.path / "metrics.jsonl", [s.to_json() for s in job.steps])
    for folder in filter(None, gone):
        shutil.rmtree(folder, ignore_errors=True)


def _put_aside(job: Job, number: int) -> Path | None:
    """A superseded snapshot is neither offered nor resumed from; returns where it lies now, if nobody asked to keep it."""
    folder, kept = job.folder.snapshot(number), number in job.folder.kept()
    aside = folder.with_name(f"superseded-{folder.name}-{time.time_ns() // 1_000_000}")
    folder.rename(aside)
    return None if kept else aside


def _stand(job: Job, step: int) -> None:
    """Put the schedule back to what it was after `step`: the knobs, who holds β, and the rows of the ledger that hold."""
    if isinstance(job.schedule, Replay):
        job.schedule.rewind(step)
    if isinstance(job.schedule, Dial):
        start = job.folder.manifest["settings"]
        knobs = type(job.schedule.knobs)(**(job.stateful().knobs or start["knobs"]))
        rows = [row for row in standing(job.folder.ledger()) if row["knob"] != "rollback"]
        held = [bool(row["new"]) for row in rows if row["knob"] == "auto"]
        auto = held[-1] if held else bool(start.get("auto"))
        job.schedule.rewind(knobs, auto=auto, ledger=rows, newest=job.steps[-1] if job.steps else None)
