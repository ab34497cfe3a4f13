"""The same functions in fewer kernels: what transformers spells out in many steps and PyTorch has one for."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import NewGELUActivation

from labkit.models.products import pays, product, quicker

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ExactHead", "fused"]


class ExactHead(nn.Linear):
    """A head that autocast leaves alone: log-probabilities are fp32, and in bf16 a logit of 100 is off by up to a quarter."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.weight.dtype)
            multiply = product if pays(hidden, self.weight) else F.linear
            return multiply(hidden, self.weight, self.bias)


def fused(model: PreTrainedModel) -> PreTrainedModel:
    """Let one kernel compute GPT-2's GELU, and on CUDA a root mean square norm; keep the head in fp32.

    The same functions; returns the model.
    """
    head = model.get_output_embeddings() or getattr(model, "score", None) or getattr(model, "classifier", None)
    if type(head) is nn.Linear:
        head.__class__ = ExactHead
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))
            elif type(child).__name__.endswith("RMSNorm") and not isinstance(child, _OneKernelNorm) and _is_plain_norm(child):
                child.__class__ = _in_one_kernel(type(child))
    for module in model.modules():
        quicker(module)
    return model


@torch.no_grad()
def _is_plain_norm(norm: nn.Module) -> bool:
    """Whether x / sqrt(mean(x²) + ε) · weight is what it computes: some add 1 to the weight, or have a gate."""
    weight = getattr(norm, "weight", None)
    if not hasattr(norm, "variance_epsilon") or weight is None or weight.is_meta:
        return False
    generator = torch.Generator().manual_seed(0)
    x, other = torch.randn(5, *weight.shape, generator=generator), torch.randn(weight.shape, generator=generator)
    try:
        trial = copy.deepcopy(norm).float().cpu()
        trial.weight.copy_(other)
        return torch.allclose(trial(x), F.rms_norm(x, weight.shape, other, norm.variance_epsilon), atol=1e-5)
    except Exception:  # it wants more than x, or other shapes: some class that is not known here, and stays as it is
        return False


class _OneKernelNorm:
    """Mixed into a norm's class: on CUDA its forward pass is one kernel, where the input is of the dtype of the weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_cuda and x.dtype == self.weight.dtype:
            return F.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)
        return super().forward(x)

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Pickled as what it was made of: the class itself has no place where pickle could find it."""
        return _again_in_one_kernel, (type(self).__mro__[2],), self.__dict__


def _again_in_one_kernel(norm: type[nn.Module]) -> nn.Module:
    kind = _in_one_kernel(norm)
    return kind.__new__(kind)


@cache
def _in_one_kernel(norm: type[nn.Module]) -> type[nn.Module]:
    return type(norm.__name__, (_OneKernelNorm, norm), {})
