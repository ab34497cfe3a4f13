"""Gradient checkpointing: a layer keeps its input alone and runs once more in the backward pass. Less memory, more time.

`transformers` does so in train mode only. Policy and value model stay in eval mode, because dropout would take the ratio
away from 1; so during a pass with gradients the layers themselves count as training, and nothing inside them does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from labkit.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["checkpoint_layers", "recomputing"]

ASKED = "_labkit_checkpoints"  # on a model: `checkpoint_layers` was asked for it


def checkpoint_layers(model: PreTrainedModel) -> PreTrainedModel:
    """Let every pass of `model` with gradients checkpoint its layers; returns the model."""
    setattr(model, ASKED, True)
    with contextlib.suppress(ValueError):  # the sentence below serves for that too
        model.activation_checkpointing_enable({"use_reentrant": False})
    if not _layers(model):
        raise ModelError(f"{type(model).__name__} has no layers that can be checkpointed; set gradient_checkpointing to False.")
    return model


@contextlib.contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Inside, a pass with gradients checkpoints the layers for which `checkpoint_layers` asked; else nothing changes."""
    asked = torch.is_grad_enabled() and getattr(getattr(model, "module", model), ASKED, False)
    resting = [m for m in _layers(model) if not m.training] if asked else []
    for layer in resting:
        layer.training = True  # of the layer alone: `train()` would wake the dropout inside it
    try:
        yield
    finally:
        for layer in resting:
            layer.training = False


def _layers(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer) and m.gradient_checkpointing]
