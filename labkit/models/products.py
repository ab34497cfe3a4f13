"""The products of linear layers by oneDNN, where that is faster than PyTorch's own choice: many rows, fp32, an x86 CPU.

PyTorch gives fp32 products on a CPU to MKL. oneDNN, which it brings along for what it compiles, multiplies the same
numbers in less time on some processors, and applies GPT-2's GELU on the way out. It plans each new number of rows anew,
so few rows (a step of sampling) stay where they are, and so do passes with gradients, where planning costs what it gains.
"""

from __future__ import annotations

import os
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP
from transformers.pytorch_utils import Conv1D

__all__ = ["pays", "product", "quicker"]

ROWS = 1024  # from so many on it pays: a plan takes half a millisecond
#: Plans that oneDNN and PyTorch keep. By default 1,024 each, of nearly 2 MB at a width of 128, where no number of rows comes again.
PLANS = "32"
for kept in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):  # both are read at the first product
    os.environ.setdefault(kept, PLANS)


@cache
def _is_there() -> bool:
    """Whether this processor and this PyTorch have the products: they are no public function, so they are tried before they are believed."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    x, weight, bias = (torch.arange(n, device="cpu").sin().view(shape) for n, shape in ((8, (2, 4)), (12, (3, 4)), (3, (3,))))
    plain = F.linear(x, weight, bias)
    due = {"none": plain, "gelu": F.gelu(plain, approximate="tanh")}
    try:
        return all(torch.allclose(product(x, weight, bias, then), right, atol=1e-5) for then, right in due.items())
    except (AttributeError, RuntimeError, TypeError):  # another PyTorch may call it, or its arguments, otherwise
        return False


def pays(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether x (..., in) is multiplied faster here: no gradient, and in the dtype that it would have elsewhere."""
    if torch.is_grad_enabled():
        return False
    plain = type(x) is torch.Tensor and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    many = plain and x.numel() >= ROWS * x.shape[-1]
    return many and not torch.is_autocast_enabled("cpu") and _is_there()


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, then: str = "none") -> torch.Tensor:
    """(..., in) times weight (out, in), plus a bias, without gradients; then "gelu": its tanh form."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "tanh" if then == "gelu" else "")


class _QuickLinear(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return product(x, self.weight, self.bias) if pays(x, self.weight) else super().forward(x)


class _QuickConv1D(Conv1D):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return product(x, self.weight.t(), self.bias) if pays(x, self.weight) else super().forward(x)


class _QuickMLP(GPT2MLP):
    """GPT-2's feed-forward block: its first product and GELU are one kernel."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        first = self.c_fc
        if self.training or type(first) is not _QuickConv1D or not pays(hidden, first.weight):
            return super().forward(hidden)
        return self.c_proj(product(hidden, first.weight.t(), first.bias, "gelu"))


def quicker(module: nn.Module) -> None:
    """Let a linear layer, or GPT-2's feed-forward block, multiply this way where it pays; others are left alone."""
    if type(module) is nn.Linear:
        module.__class__ = _QuickLinear
    elif type(module) is Conv1D:
        module.__class__ = _QuickConv1D
    elif type(module) is GPT2MLP and isinstance(module.act, nn.GELU) and module.act.approximate == "tanh":
        module.__class__ = _QuickMLP
