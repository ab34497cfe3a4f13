"""Several jobs of one process step at once, and one that begins does so alone."""

import threading
import time

import pytest

from labkit.jobs.turns import in_turns, turn


def test_a_job_that_begins_has_the_process_to_itself() -> None:
    """Others step on before and after, never meanwhile: accelerate's state is taken apart while a Trainer is built."""
    seen, going = [], threading.Event()

    def step(name: str, first: bool, seconds: float) -> None:
        with turn(first):
            seen.append(f"{name} in")
            going.set()
            time.sleep(seconds)
            seen.append(f"{name} out")

    steps = [threading.Thread(target=step, args=("step", False, 0.2)) for _ in range(2)]
    for thread in steps:
        thread.start()
    going.wait()
    begin = threading.Thread(target=step, args=("begin", True, 0.2))
    begin.start()
    late = threading.Thread(target=step, args=("late", False, 0.0))
    while not begin.is_alive() or seen.count("step in") < 2:
        time.sleep(0.001)
    time.sleep(0.05)
    late.start()
    for thread in (*steps, begin, late):
        thread.join()
    assert seen[:2] == ["step in"] * 2, "steps of different jobs overlap"
    assert seen[2:] == ["step out", "step out", "begin in", "begin out", "late in", "late out"]


def test_steps_that_no_job_makes_begin_alone_too() -> None:
    """As when the ranking board trains a reward model while a job is in the middle of a step."""
    begun, free = threading.Event(), threading.Event()

    def made():
        begun.set()
        yield 1
        yield 2

    def of_a_job() -> None:
        with turn(False):
            inside.set()
            free.wait(5)

    inside, found = threading.Event(), []
    job = threading.Thread(target=of_a_job)
    job.start()
    inside.wait(5)
    board = threading.Thread(target=lambda: found.extend(in_turns(made())))
    board.start()
    assert not begun.wait(0.1), "nothing is built while a job is in a step"
    free.set()
    for thread in (job, board):
        thread.join(5)
    assert found == [1, 2]


def test_an_error_of_such_steps_leaves_the_turn_to_others() -> None:
    def broken():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(in_turns(broken()))
    with turn(True):
        pass
