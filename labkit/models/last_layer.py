"""Work not done: behind the last attention only the positions whose outputs are wanted need a feed-forward pass.

The prompt's positions matter to later ones through attention, and after the last attention no position sees another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

__all__ = ["only_needed"]

_FEED_FORWARD = ("mlp", "feed_forward", "ffn")


@contextlib.contextmanager
def only_needed(model: nn.Module, keep: torch.Tensor | None) -> Iterator[None]:
    """Inside, the last layer's feed-forward block runs on positions `keep` (N,) of the packed row alone.

    Elsewhere it adds zero.

    No effect where no such block is found, and under gradient checkpointing, which runs layers again after this ends.
    """
    block = None if keep is None or _checkpoints(model) else _last_feed_forward(model)
    if block is None:
        yield
        return

    places = 0  # T, known once the block is reached

    def narrow(module, inputs):  # (1, T, d) -> (1, N, d)
        nonlocal places
        places = inputs[0].shape[1]
        return (inputs[0].index_select(1, keep), *inputs[1:])

    def widen(module, inputs, output):  # (1, N, d) -> (1, T, d)
        return output.new_zeros(1, places, output.shape[2]).index_copy(1, keep, output)

    hooks = [block.register_forward_pre_hook(narrow), block.register_forward_hook(widen)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _checkpoints(model: nn.Module) -> bool:
    return torch.is_grad_enabled() and any(getattr(m, "gradient_checkpointing", False) for m in model.modules())


def _last_feed_forward(model: nn.Module) -> nn.Module | None:
    """The feed-forward block of the last decoder layer, by the name that `transformers` gives it."""
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m)]
    layers = max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()), default=None)
    if layers is None:
        return None
    return next((child for name, child in layers[-1].named_children() if name in _FEED_FORWARD), None)
