"""The last layer, run for the positions whose outputs are wanted: only they need its feed-forward block, and queries in its attention.

Other positions matter through their keys and values alone: after the last attention no position sees another.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn

from labkit.models.layout import Layout

__all__ = ["only_needed"]

_FEED_FORWARD = ("mlp", "feed_forward", "ffn")
_FOUND: WeakKeyDictionary[nn.Module, list[ref[nn.Module]]] = WeakKeyDictionary()  # weak: sharded parts hold the model, so strong ones would keep it alive


@contextlib.contextmanager
def only_needed(model: nn.Module, keep: torch.Tensor | None) -> Iterator[None]:
    """Inside, the last layer's feed-forward block runs on positions `keep` (N,) of the packed row alone.

    Elsewhere it adds zero. Attention over runs of rows on a CPU (`cpu_attention.py`) is told of them too. No effect where no such
    block is found. Under gradient checkpointing the last layer keeps what it computed: its backward pass comes first, so
    little is saved by computing it again, and these hooks are gone by then.
    Another thread may be using the same model meanwhile; its passes go through these hooks untouched.
    """
    layer, block = (None, None) if keep is None else _last_feed_forward(model)
    if block is None:
        yield
        return

    places, mine = 0, threading.get_ident()  # T, known once the block is reached

    def ask_less(module, inputs, named):  # of attention, where it reads runs of rows on a CPU
        layout = named.get("layout")
        if threading.get_ident() != mine or not isinstance(layout, Layout) or layout.device.type != "cpu":
            return None
        return inputs, named | {"layout": replace(layout, keep=keep)}

    def narrow(module, inputs):  # (1, T, d) -> (1, N, d)
        nonlocal places
        if threading.get_ident() != mine:
            return None
        places = inputs[0].shape[1]
        return (inputs[0].index_select(1, keep), *inputs[1:])

    def widen(module, inputs, output):  # (1, N, d) -> (1, T, d)
        if threading.get_ident() != mine:
            return None
        return output.new_zeros(1, places, output.shape[2]).index_copy(1, keep, output)

    hooks = [
        layer.register_forward_pre_hook(ask_less, with_kwargs=True),
        block.register_forward_pre_hook(narrow),
        block.register_forward_hook(widen),
    ]
    checkpoints = getattr(layer, "gradient_checkpointing", False)
    if checkpoints:
        layer.gradient_checkpointing = False
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        if checkpoints:
            layer.gradient_checkpointing = True


def _last_feed_forward(model: nn.Module) -> tuple[nn.Module | None, nn.Module | None]:
    """The last decoder layer and its feed-forward block, by the name that `transformers` gives it; looked for once."""
    if model not in _FOUND:
        _FOUND[model] = [ref(part) for part in _look_for_last(model) if part is not None]
    layer, block = [*(found() for found in _FOUND[model]), None, None][:2]
    return layer, block


def _look_for_last(model: nn.Module) -> tuple[nn.Module | None, nn.Module | None]:
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m)]
    layers = max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()), default=None)
    if layers is None:
        return None, None
    return layers[-1], next((child for name, child in layers[-1].named_children() if name in _FEED_FORWARD), None)
