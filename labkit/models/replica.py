"""A copy of a model for CUDA graphs: it shares the weights, and keeps its half-precision copies of them at fixed addresses.

Autocast makes such copies of the matrices and frees them when it ends; a graph that outlives it would go on reading freed
memory. A replica keeps its own, and brings them up to date when told that the weights may have changed.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from labkit.models.fusing import ExactHead

__all__ = ["Replica"]


class Replica:
    """`module` computes what `model` computes under the autocast that is open now. It has no gradients.

    All weights and buffers are shared with the model, so what an optimiser does is seen at once; the half-precision copies
    of matrices follow after `refresh`. Good as long as `still_of` says so. A model that is moved to another device
    keeps its old memory as long as a replica of it lives.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
        self.module = copy.deepcopy(model, memo=shared | {id(b): b for b in model.buffers()}).train(model.training)
        for module in self.module.modules():  # another thread may be in a backward pass of the model
            if getattr(module, "gradient_checkpointing", False):
                module.gradient_checkpointing = False
        self._drawn_from = _signature(model, device)
        self._halves: list[torch.Tensor] = []
        self._wholes: list[torch.Tensor] = []
        if torch.is_autocast_enabled(device.type):
            self._keep_halves(torch.get_autocast_dtype(device.type))

    def _keep_halves(self, dtype: torch.dtype) -> None:
        for module in self.module.modules():
            if isinstance(module, (nn.Linear, Conv1D)) and not isinstance(module, ExactHead):  # that one autocast leaves alone
                for name, weight in list(module.named_parameters(recurse=False)):
                    if weight.dtype == dtype:
                        continue
                    half = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
                    setattr(module, name, half)
                    self._halves.append(half)
                    self._wholes.append(weight)

    def refresh(self) -> None:
        if self._halves:
            torch._foreach_copy_(self._halves, self._wholes)

    def still_of(self, model: nn.Module, device: torch.device) -> bool:
        """Whether the model's weights and buffers lie where they lay, with the same hooks on it, and autocast is what it was."""
        return self._drawn_from == _signature(model, device)


def _signature(model: nn.Module, device: torch.device) -> tuple:
    half = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if half else None
    hooks = [tuple(m._forward_pre_hooks) + tuple(m._forward_hooks) for m in model.modules()]
    held = [(x.data_ptr(), x.dtype, x.shape) for x in (*model.parameters(), *model.buffers())]
    return model.training, dtype, torch.is_inference_mode_enabled(), hooks, held
