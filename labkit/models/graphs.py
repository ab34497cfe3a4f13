"""CUDA graphs: work that is recorded once and replayed, so that the GPU does not wait for Python between its kernels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import torch

__all__ = ["graphs_pay", "recorded"]

#: While work is recorded this thread may not wait or allocate. Torch's default forbids it to all threads, and the one
#: that makes PPO's pretraining rows ready pins memory at any time.
FORBIDDEN_HERE = "thread_local"


def graphs_pay(device: torch.device) -> bool:
    """The one place that decides whether sampling steps and backward passes are recorded: on CUDA, unless LABKIT_CUDA_GRAPHS=0."""
    return device.type == "cuda" and os.environ.get("LABKIT_CUDA_GRAPHS") != "0"


def recorded(work: Callable[[], object], device: torch.device, pool: object = None) -> Callable[[], object]:
    """`work` as a CUDA graph; itself, with a warning, where it cannot be recorded, and on other devices.

    Recording runs nothing. `work` must have run before, must leave every tensor at its address, and may not ask the
    device for anything. pool: memory that several graphs share, none of which needs what another left there.
    Autocast's casts of the weights, where an open context made them before, must live as long as the graph does.
    """
    if device.type != "cuda":
        return work
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize(device)
    try:
        # not `torch.cuda.graph`, which gives all unused memory back to the driver, to be asked for again at once
        with torch.cuda.stream(torch.cuda.Stream(device)):
            graph.capture_begin(*([] if pool is None else [pool]), capture_error_mode=FORBIDDEN_HERE)
            try:
                work()
            finally:
                graph.capture_end()
    except RuntimeError as error:
        warnings.warn(
            f"This model's passes cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); they run kernel by "
            "kernel, which is slower. With LABKIT_CUDA_GRAPHS=0 nothing is recorded.",
            stacklevel=2,
        )
        torch.cuda.synchronize(device)
        return work
    return graph.replay
