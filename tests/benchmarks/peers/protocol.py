"""How a contestant talks to the referee: a JSON line per round on its standard output, a line on its input to go on.

Only the standard library, so that every environment can run it. Anything else that is printed goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

__all__ = ["Contestant", "dtypes_of"]

PACKAGES = ("torch", "transformers", "trl", "accelerate", "tokenizers", "datasets")


class Contestant:
    """Answers each `go` of the referee with the cost of one round."""

    def __init__(self) -> None:
        self._replies = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.phases: dict[str, float] = {}
        self.optimizer_steps = 0
        self._started = (0.0, 0.0)

    def ready(self, **facts: Any) -> None:
        """Say that the work may begin, and what does it: versions and threads as they are in this very process."""
        torch = sys.modules["torch"]
        installed = {d.name for d in importlib.metadata.distributions()}
        versions = {name: importlib.metadata.version(name) for name in PACKAGES if name in installed}  # the first on the path
        self.send(ready=True, versions=versions, threads=torch.get_num_threads(), **facts)

    def count_steps(self, optimizer: Any) -> None:
        """Count the steps that this torch optimiser really takes; each report says how many its round had."""

        def count(*_: Any) -> None:
            self.optimizer_steps += 1

        optimizer.register_step_post_hook(count)

    def await_go(self) -> bool:
        """Wait for the referee; False when it wants no further round. The clock starts when this returns."""
        if sys.stdin.readline().strip() != "go":
            return False
        self.phases, self.optimizer_steps = {}, 0
        self._started = (time.perf_counter(), time.process_time())
        return True

    def report(self, rest: str = "", **facts: Any) -> None:
        """End the round: wall and CPU seconds since `go`, seconds of each phase, peak memory, and `facts`.

        rest: the phase that everything belongs to which was not timed as another.
        """
        wall, cpu = time.perf_counter() - self._started[0], time.process_time() - self._started[1]
        if rest:
            self.phases[rest] = (wall if on_gpu() else cpu) - sum(self.phases.values())
        self.send(wall=wall, cpu=cpu, phases=self.phases, peak_mib=peak_mib(),
                  optimizer_steps=self.optimizer_steps, **facts)  # fmt: skip

    def send(self, **facts: Any) -> None:
        self._replies.write(json.dumps(facts) + "\n")

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Seconds of a phase: of the CPU, or of the wall where a GPU works and the CPU only waits."""
        clock = time.perf_counter if on_gpu() else time.process_time
        started = clock()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + clock() - started


def on_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_available()


def peak_mib() -> float:
    """Peak memory of this process so far: of the GPU where one is used (what torch took of it), else resident, in MiB."""
    if on_gpu():
        return sys.modules["torch"].cuda.max_memory_reserved() / 2**20  # what graphs keep for replays is not "allocated"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def dtypes_of(**models: Any) -> dict[str, str]:
    """The dtypes of the weights of each model, by name."""
    return {
        name: ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()}))
        for name, model in models.items()
    }
