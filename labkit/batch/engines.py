"""Where the points of a sweep run: processes on this machine, or tasks of a Ray cluster.

Both take the same tasks and return the same outcomes. A task whose process or kernel was killed runs once more; one
that raised an error does not, because it would raise it again.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from labkit.batch.notebooks import Outcome, execute
from labkit.batch.records import record_of
from labkit.errors import LabError, SettingsError
from labkit.runs import Run

__all__ = ["cores", "gpus", "local_engine", "ray_engine", "unhurried"]

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of processor time, in each period of so many
Task = tuple[Path, Run, Mapping[str, Any]]
Say = Callable[[str], None]


def cores() -> int:
    """Cores that this process may use: a container may see many and be allowed the time of few."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such limit here, or "max"
        quota, period = QUOTA.read_text().split()
        return max(1, min(there, -(-int(quota) // int(period))))
    return there


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [g for g in named.split(",") if g.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(i) for i in range(sum(line.startswith("GPU") for line in listed.stdout.splitlines()))]


def local_engine(tasks: Sequence[Task], jobs: int | None, say: Say) -> dict[str, Outcome]:
    """Run the tasks as processes, `jobs` at once; each gets its share of the cores and one GPU where there are any."""
    devices = gpus()
    count = min(_positive(jobs) or len(devices) or cores(), len(tasks))
    threads = max(1, cores() // count)
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(count):
        slots.put(slot)
    halt, live = threading.Event(), set()

    def begun(process: subprocess.Popen) -> None:
        live.add(process)
        if halt.is_set():  # it was about to start when the others were ended
            process.terminate()

    def work(task: Task) -> Outcome:
        slot = slots.get()
        environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
        try:
            return _twice(task, environment, halt, begun, say)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(count) as pool:
        waiting = {pool.submit(work, task): task[1].name for task in tasks}
        try:
            return _collect(waiting, say)
        except BaseException:  # Ctrl-C: end what runs, start nothing more
            with unhurried():
                halt.set()
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(live):
                    process.terminate()
                pool.shutdown()  # each closes its record
            raise


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """A second Ctrl-C waits until what the first one began is over: it takes a moment, and records would stay open."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ray_engine(tasks: Sequence[Task], jobs: int | None, say: Say) -> dict[str, Outcome]:
    """Run the tasks on a Ray cluster (RAY_ADDRESS, else one on this machine) that shares the folder of runs."""
    try:
        import ray
    except ModuleNotFoundError:
        raise SettingsError("Ray is not installed; pip install 'labkit[cluster]', or leave --ray out.") from None
    own = not ray.is_initialized()
    if own:
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": _positive(jobs) or cores()}
        ray.init(**local, include_dashboard=False, log_to_driver=False, logging_level="error")
    share = {"num_cpus": 1, "num_gpus": 1 if ray.cluster_resources().get("GPU") else 0, "max_retries": 0}
    remote = ray.remote(**share)(_once)
    ended: dict[str, Outcome] = {}
    lost: set[str] = set()
    try:
        flying = {remote.remote(task): task for task in tasks}
        while flying:
            (ready, *_), _ = ray.wait(list(flying))
            task = flying.pop(ready)
            outcome = _fetch(ray, ready, task)
            if outcome.killed and task[1].name not in lost:
                lost.add(task[1].name)
                say(f"{task[1].name} was killed; once more.")
                flying[remote.remote(task)] = task
                continue
            ended[task[1].name] = outcome
            say(_line(task[1].name, outcome, len(ended), len(tasks)))
        return ended
    finally:
        if own:
            ray.shutdown()


def _fetch(ray: Any, ready: Any, task: Task) -> Outcome:
    """The outcome of a Ray task; where its worker was lost, the record is closed as killed."""
    try:
        return ray.get(ready)
    except ray.exceptions.RayError as error:
        notebook, run, _ = task
        said = f"{notebook.stem} failed: its Ray worker was lost ({type(error).__name__})."
        record = record_of(run, notebook.stem)
        if record.status in ("running", "dead"):
            record.finish("failed", error=said, killed=True)
        return Outcome(notebook.stem, "failed", 0.0, said, killed=True)


def _once(
    task: Task,
    environment: Mapping[str, str] | None = None,
    started: Callable[[subprocess.Popen], None] | None = None,
    halted: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run one task; an error of the lab before it started is an outcome too, so that the other points go on."""
    notebook, run, given = task
    try:
        return execute(notebook, run, given, environment=environment, started=started, halted=halted)
    except LabError as error:
        return Outcome(notebook.stem, "failed", 0.0, str(error))


def _twice(
    task: Task,
    environment: Mapping[str, str],
    halt: threading.Event,
    started: Callable[[subprocess.Popen], None],
    say: Say,
) -> Outcome:
    outcome = _once(task, environment, started, halt.is_set)
    if not outcome.killed or halt.is_set():
        return outcome
    say(f"{task[1].name} was killed; once more.")
    return _once(task, environment, started, halt.is_set)


def _collect(waiting: Mapping[Future, str], say: Say) -> dict[str, Outcome]:
    ended: dict[str, Outcome] = {}
    for future in as_completed(waiting):
        name = waiting[future]
        ended[name] = future.result()
        say(_line(name, ended[name], len(ended), len(waiting)))
    return ended


def _line(name: str, outcome: Outcome, done: int, total: int) -> str:
    tail = f": {outcome.error}" if outcome.error else ""
    return f"[{done}/{total}] {name} {outcome.status} after {outcome.seconds:.0f} s{tail}"


def _positive(jobs: int | None) -> int | None:
    if jobs is not None and jobs < 1:
        raise SettingsError(f"--jobs is {jobs}; it must be at least 1.")
    return jobs
