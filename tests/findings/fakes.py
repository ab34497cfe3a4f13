"""Work that does not train anything: for tests of what carries out a plan. Importable by its processes."""

import os
import time
from pathlib import Path

from labkit.disk import append_jsonl, write_json
from labkit.findings.execute import record_of
from labkit.findings.plan import Plan, Task


def note(plan: Plan, home: Path, task: Task) -> str:
    """Write down that the task was done, after making sure that what it needs was."""
    done = {t.key: t for t in plan.tasks()}
    missing = [n for n in task.needs if not record_of(home, done[n]).exists()]
    append_jsonl(home / "order.jsonl", {"key": task.key, "missing": missing})
    write_json(record_of(home, task), {"piece": task.key, "seconds": 1.0})
    return ""


def fail_at_the_judge(plan: Plan, home: Path, task: Task) -> str:
    return "the judge was ill" if task.piece == "judge" else note(plan, home, task)


def die_once(plan: Plan, home: Path, task: Task) -> str:
    """The first attempt at the cost ends its process, as a kill by the system would."""
    mark = home / "died"
    if task.piece == "cost" and not mark.exists():
        mark.touch()
        os._exit(9)
    return note(plan, home, task)


def die_at_the_cost(plan: Plan, home: Path, task: Task) -> str:
    """The cost ends its process each time; everything else takes long enough to be beside it."""
    if task.piece == "cost":
        os._exit(9)
    time.sleep(0.3)
    return note(plan, home, task)


def tell_gpu(plan: Plan, home: Path, task: Task) -> str:
    """Write down which GPUs the process may use; slowly, so that every process gets some of the work."""
    time.sleep(0.05)
    append_jsonl(home / "gpus.jsonl", {"process": os.getpid(), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")})
    return note(plan, home, task)


def wait_long(plan: Plan, home: Path, task: Task) -> str:
    """Say which process is at work, then be at it for longer than anybody waits."""
    append_jsonl(home / "at_work.jsonl", {"process": os.getpid()})
    time.sleep(300)
    return ""
