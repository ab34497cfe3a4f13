"""CUDA graphs: a step that is recorded once and replayed, so that the GPU does not wait for Python between its kernels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import torch

__all__ = ["graphs_pay", "recorded"]

#: While a step is recorded this thread may not wait or allocate. Torch's default forbids it to all threads, and the one
#: that makes PPO's pretraining rows ready pins memory at any time.
FORBIDDEN_HERE = "thread_local"


def graphs_pay(device: torch.device) -> bool:
    """The one place that decides whether sampling steps are recorded: on CUDA, with LABKIT_CUDA_GRAPHS=1.

    Not the default until it has run on a GPU; `python -m tests.benchmarks.gpu` measures both ways.
    """
    return device.type == "cuda" and os.environ.get("LABKIT_CUDA_GRAPHS") == "1"


def recorded(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`step` as a CUDA graph; itself, with a warning, where it cannot be recorded, and on other devices.

    Recording runs nothing. `step` must have run a few times before, and must leave every tensor at its address.
    Autocast's casts of the weights are made by those runs and live as long as the caller's autocast context, which
    is longer than the graph does.
    """
    if device.type != "cuda":
        return step
    graph = torch.cuda.CUDAGraph()
    try:
        torch.cuda.synchronize(device)
        with torch.cuda.graph(graph, capture_error_mode=FORBIDDEN_HERE):
            step()
    except RuntimeError as error:
        warnings.warn(
            f"Sampling steps of this model cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); "
            "they run one by one, which is slower. Without LABKIT_CUDA_GRAPHS=1 nothing is recorded.",
            stacklevel=2,
        )
        torch.cuda.synchronize(device)
        return step
    return graph.replay
