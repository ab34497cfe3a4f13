"""CUDA graphs: work that is recorded once and replayed, so that the GPU does not wait for Python between its kernels."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["graphs_pay", "recorded", "rounded"]

#: While work is recorded this thread may not wait or allocate. Torch's default forbids it to all threads, and the one
#: that makes PPO's pretraining rows ready pins memory at any time.
FORBIDDEN_HERE = "thread_local"


def graphs_pay(device: torch.device) -> bool:
    """The one place that decides whether sampling steps and backward passes are recorded: on CUDA, unless LABKIT_CUDA_GRAPHS=0."""
    return device.type == "cuda" and os.environ.get("LABKIT_CUDA_GRAPHS") != "0"


def recorded(work: Callable[[], object], device: torch.device) -> Callable[[], object] | None:
    """`work` as a CUDA graph; itself on other devices; None, with a warning, where it cannot be recorded.

    Recording runs nothing. `work` must have run before, must leave every tensor at its address, and may not ask the
    device for anything, nor for chance. All that a thread records shares the memory of what is at work in between, so nothing may need
    what another graph left there. Autocast's casts of the weights, where an open context made them before, must live as
    long as the graph does.
    """
    if device.type != "cuda":
        return work
    try:
        return _capture(work, device)
    except torch.OutOfMemoryError:  # while recording torch gives none of its unused memory back by itself
        torch.cuda.empty_cache()
    except RuntimeError as error:
        return _refused(error)
    try:
        return _capture(work, device)
    except RuntimeError as error:
        return _refused(error)


def rounded(count: int, sizes: int = 4) -> int:
    """The next of so many sizes an octave (a power of two): with four at most a quarter more than `count`."""
    step = max(1, 2 ** (count.bit_length() - 1) // sizes)
    return -(-count // step) * step


@dataclass(frozen=True)
class _Place:
    """Where one thread records: memory is used again on the same stream alone, and a pool lives as long as a graph in it."""

    stream: torch.cuda.Stream
    pool: tuple[int, int]
    keeper: torch.cuda.CUDAGraph


class _Places(threading.local):
    def __init__(self) -> None:
        self.of: dict[torch.device, _Place] = {}


_PLACES = _Places()
_ONE_AT_A_TIME = threading.Lock()  # of all threads: none may wait for the whole device while another one records


def _place(device: torch.device) -> _Place:
    if device not in _PLACES.of:
        place = _Place(torch.cuda.Stream(device), torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph())
        counter = torch.zeros(1, device=device)
        torch.cuda.current_stream(device).synchronize()
        _record(lambda: counter.add_(1), place.keeper, place)
        _PLACES.of[device] = place
    return _PLACES.of[device]


def _capture(work: Callable[[], object], device: torch.device) -> Callable[[], object]:
    with _ONE_AT_A_TIME:
        place, graph = _place(device), torch.cuda.CUDAGraph()
        torch.cuda.current_stream(device).synchronize()
        try:
            _record(work, graph, place)
        except RuntimeError:
            with contextlib.suppress(Exception):  # an end that fails leaves the allocator in the state of recording
                torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), place.pool)
            with contextlib.suppress(RuntimeError):  # says once more what is known
                torch.cuda.current_stream(device).synchronize()
            raise
        return graph.replay


def _record(work: Callable[[], object], graph: torch.cuda.CUDAGraph, place: _Place) -> None:
    """Not by `torch.cuda.graph`, which first gives all unused memory back to the driver, to be asked for again at once."""
    with torch.cuda.stream(place.stream):
        graph.capture_begin(place.pool, capture_error_mode=FORBIDDEN_HERE)
        try:
            work()
        finally:
            graph.capture_end()


def _refused(error: RuntimeError) -> None:
    warnings.warn(
        f"This model's passes cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); they run kernel by kernel, "
        "which is slower. With LABKIT_CUDA_GRAPHS=0 nothing is recorded.",
        stacklevel=3,
    )
