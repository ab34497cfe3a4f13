"""Carry out a plan: what is done is skipped, the rest runs in order of need, several at once in processes of their own.

    runs/<name>/<cell>/pieces/<piece>.json     when a piece was finished, how long it took by the clock and of the
                                               processor, on what, with which versions
    runs/<name>/<cell>/pieces/<piece>.log      what it printed

The same command resumes: a piece counts as done by its record alone, which is written last. A piece whose worker was
killed runs once more; one that raised an error is reported, and what needs it is left out.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from labkit.batch.engines import cores, gpus, unhurried
from labkit.disk import write_json
from labkit.errors import LabError, RunError
from labkit.findings.plan import Plan, Task
from labkit.processes import lock_file

__all__ = ["carry_out", "done_records", "is_done", "wall_seconds"]

Say = Callable[[str], None]
Work = Callable[[Plan, Path, Task], str]  # returns what went wrong, or an empty text


def record_of(home: Path, task: Task) -> Path:
    """The record of a finished piece."""
    return home / task.run / "pieces" / f"{task.key.split('/', 1)[1]}.json"


def is_done(home: Path, task: Task) -> bool:
    """True where the piece was finished, in this or an earlier run of the command."""
    return record_of(home, task).exists()


def done_records(home: Path, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """What the finished ones of these pieces say of themselves."""
    return [json.loads(record_of(home, t).read_text(encoding="utf-8")) for t in tasks if is_done(home, t)]


def wall_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds during which at least one of these pieces was at work: pauses between resumed commands do not count."""
    total, until = 0.0, -math.inf
    for start, end in sorted((row["ended"] - row["seconds"], row["ended"]) for row in rows if "ended" in row):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def carry_out(
    plan: Plan, home: Path, *, jobs: int | None = None, say: Say = print, work: Work | None = None
) -> dict[str, str]:
    """Do every task of the plan that is not done; returns the error of each that failed or could not begin, by key.

    Raises RunError where another command is at work on the same set: each would meet the other's half-made pieces.

    jobs: how many at once; by default one per core, or per GPU where there are any. With 1 all happens in this process.
    work: what does one task, by default `work_on`.
    """
    tasks = {t.key: t for t in plan.tasks()}
    todo = {key: t for key, t in tasks.items() if not is_done(home, t)}
    say(f"{home}: {len(tasks)} pieces, {len(tasks) - len(todo)} done, {len(todo)} to do.")
    count = min(jobs or len(gpus()) or cores(), max(1, len(todo)))
    with lock_file(home / ".writer.lock", wait=False) as mine:
        if not mine:
            raise RunError(f"{home} is being made by another labkit findings; wait for it, or give another name.")
        if count == 1:
            return _one_by_one(plan, home, todo, say, work or work_on)
        return _Crew(plan, home, todo, count, say, work or work_on).work()


def _one_by_one(plan: Plan, home: Path, todo: dict[str, Task], say: Say, work: Work) -> dict[str, str]:
    errors: dict[str, str] = {}
    waiting = dict(todo)
    while waiting:
        key = next((k for k, t in waiting.items() if not set(t.needs) & set(waiting)), None)
        if key is None:
            raise AssertionError("the plan has a circle")
        task = waiting.pop(key)
        lost = [n for n in task.needs if n in errors]
        if lost:
            errors[key] = f"needs {lost[0]}, which failed"
            continue
        error = work(plan, home, task)
        if error:
            errors[key] = error
        say(_line(key, error, len(todo) - len(waiting), len(todo)))
    return errors


def work_on(plan: Plan, home: Path, task: Task) -> str:
    """Do one piece, its output in a log of its own; returns what went wrong, or an empty text."""
    from labkit.findings.pieces import do

    record, started, before = record_of(home, task), time.time(), time.process_time()
    record.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(record.with_suffix(".log"), "w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            do(plan, home, task)
        except LabError as error:
            log.write(f"{error}\n")
            return str(error)
        except Exception as error:  # the edge of a worker: the other pieces go on, the log has the traceback
            import traceback

            log.write(traceback.format_exc())
            return f"{type(error).__name__}: {error} (see {record.with_suffix('.log')})"
    from labkit.world.pretrain import circumstances

    ended, spent = time.time(), time.process_time() - before
    told = {"piece": task.key, "ended": ended, **circumstances(0.0), "seconds": ended - started, "cpu_seconds": spent}
    write_json(record, told)
    return ""


def _begin(free: Any) -> None:
    """In a fresh process, before torch: end with the command, however it ends; one GPU of those that are free, if any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the command ends its workers
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    gpu = free.get()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def _end_with_the_command() -> None:
    """A worker that outlived it would hold the stages that the same command resumes."""
    multiprocessing.parent_process().join()
    os._exit(1)


class _Crew:
    """A pool of processes and what each of them is at; broken pools are replaced."""

    def __init__(self, plan: Plan, home: Path, todo: dict[str, Task], count: int, say: Say, do: Work) -> None:
        self.plan, self.home, self.todo, self.count, self.say, self.do = plan, home, todo, count, say, do
        self.waiting = dict(todo)
        self.flying: dict[Future[str], str] = {}
        self.errors: dict[str, str] = {}
        self.suspects: list[str] = []  # what a killed worker, and those beside it, were at: once more, one at a time

    def work(self) -> dict[str, str]:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // self.count)))  # the workers inherit it
        others, pool = multiprocessing.active_children(), self._pool()
        try:
            while self.waiting or self.flying or self.suspects:
                pool = self._hand_out(pool)
                if not self.flying:
                    continue
                ended, _ = wait(self.flying, return_when=FIRST_COMPLETED)
                if self._collect(ended):
                    pool.shutdown(wait=False)
                    pool = self._pool()
        except BaseException:  # Ctrl-C: what runs ends with it, not a piece later
            with unhurried():
                pool.shutdown(wait=False, cancel_futures=True)
                for worker in multiprocessing.active_children():
                    if worker not in others:
                        worker.terminate()
                pool.shutdown()
            raise
        pool.shutdown(wait=False, cancel_futures=True)
        return self.errors

    def _pool(self) -> ProcessPoolExecutor:
        context, devices = multiprocessing.get_context("spawn"), gpus()
        free = context.SimpleQueue()
        for place in range(self.count):
            free.put(devices[place % len(devices)] if devices else None)
        return ProcessPoolExecutor(self.count, mp_context=context, initializer=_begin, initargs=(free,))

    def _hand_out(self, pool: ProcessPoolExecutor) -> ProcessPoolExecutor:
        """Submit pieces whose needs are met, no more than there are processes; a suspect by itself."""
        if self.suspects:
            if not self.flying:
                self._submit(pool, self.suspects[0])
            return pool
        open_keys = {*self.waiting, *self.flying.values()}
        for key, task in list(self.waiting.items()):
            failed = [n for n in task.needs if n in self.errors]
            if failed:
                self.errors[key] = f"needs {failed[0]}, which failed"
                del self.waiting[key]
            elif len(self.flying) < self.count and not open_keys & set(task.needs):
                self._submit(pool, key)
                del self.waiting[key]
        return pool

    def _submit(self, pool: ProcessPoolExecutor, key: str) -> None:
        self.flying[pool.submit(self.do, self.plan, self.home, self.todo[key])] = key

    def _collect(self, ended: set[Future[str]]) -> bool:
        """Take in what has ended; True where a worker was killed, which breaks the whole pool."""
        broken = any(isinstance(f.exception(), BrokenProcessPool) for f in ended)
        for future in list(self.flying) if broken else ended:
            key = self.flying.pop(future)
            if future.done() and future.exception() is None:
                error = future.result()
            elif key in self.suspects:  # it ran alone
                error = "its worker was killed twice, the second time with nothing beside it; most often memory ran out"
            else:
                self.suspects.append(key)
                self.say(f"{key}: a worker was killed; once more, by itself.")
                continue
            if key in self.suspects:
                self.suspects.remove(key)
            if error:
                self.errors[key] = error
            left = {*self.waiting, *self.flying.values(), *self.suspects}
            self.say(_line(key, error, len(self.todo) - len(left), len(self.todo)))
        return broken


def _line(key: str, error: str, done: int, total: int) -> str:
    return f"[{done}/{total}] {key} {'failed: ' + error if error else 'done'}"
