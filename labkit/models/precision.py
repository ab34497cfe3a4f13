"""In which dtype a pass without gradients runs where nobody opened an autocast: as `choose_device` says, like training.

Weights stay fp32 everywhere. Training opens its own autocast; labeling, best-of-n, evaluation and validation only sample
and score, and without this they would run fp32 passes on a GPU that multiplies bf16 several times as fast.
"""

from __future__ import annotations

import contextlib

import torch

from labkit.models.loading import choose_device

__all__ = ["chosen_precision"]


def chosen_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Autocast to bf16 for a model on `device`, where that is the chosen kind of device and bf16 its dtype; else nothing.

    Where it says fp32 an autocast that is open already stays in force: the caller knows better.
    """
    chosen, dtype = choose_device()
    if dtype != torch.bfloat16 or device.type != chosen.type:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
