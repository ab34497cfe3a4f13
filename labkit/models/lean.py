"""Cheaper kernels of the same functions, where no gradient is wanted: outputs change by rounding alone.

PyTorch's kernel of GELU's tanh form takes twice as long on a CPU as the same function written with a sigmoid, since
0.5 (1 + tanh z) = sigmoid(2 z) and the sigmoid's kernel is fast. Training keeps the one kernel: it has a gradient.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["lean"]

TWICE = 2 * math.sqrt(2 / math.pi)  # gelu(x) = x sigmoid(TWICE (x + 0.044715 x^3))


class _GELUBySigmoid(nn.GELU):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32:
            return super().forward(x)
        return x.square().mul_(TWICE * 0.044715).add_(TWICE).mul_(x).sigmoid_().mul_(x)


@contextlib.contextmanager
def lean(model: nn.Module) -> Iterator[None]:
    """Inside, a model on a CPU computes GELU's tanh form the cheaper way, where no gradient is recorded."""
    found = [m for m in model.modules() if type(m) is nn.GELU and m.approximate == "tanh"]
    on_cpu = next(model.parameters()).device.type == "cpu"
    for module in found if on_cpu else ():
        module.__class__ = _GELUBySigmoid
    try:
        yield
    finally:
        for module in found:
            module.__class__ = nn.GELU
