"""Several jobs of one process step at once, and one that begins does so alone."""

import threading
import time

from labkit.jobs.turns import turn


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
