"""How many of the processor's threads a job's tensors use: jobs side by side take a share each, as long as one of them runs.

torch keeps one number for all threads to come, and its matrix library one for the whole process; so the number is set
when the first such job begins, and put back when the last has ended. Numbers depend on it in their last digits: it is
fixed for a whole job, whatever ends beside it, and a replay takes that of its record.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

__all__ = ["number_of_threads", "sharing"]

_lock = threading.Lock()
_inside = 0
_before = 0


@contextlib.contextmanager
def sharing(threads: int | None) -> Iterator[None]:
    """Inside, the calling thread and those that it starts compute with this many threads; None changes nothing."""
    global _inside, _before
    if threads is None:
        yield
        return
    import torch

    with _lock:
        if not _inside:
            _before = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                torch.set_num_threads(_before)


def number_of_threads() -> int | None:
    """How many threads torch computes with here; None where nothing has imported torch."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None
