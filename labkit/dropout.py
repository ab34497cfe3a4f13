"""Dropout, switched by effect: residual dropout for SFT on any architecture, and none anywhere else.

The paper trains SFT with residual dropout 0.2; policy, reference, value and reward models run without dropout, or
the probability ratio would not be 1 at the first minibatch. Architectures differ (Llama has no residual dropout at
all), so it is applied by hooks on the outputs of the attention and feed-forward blocks: what is added to the
residual stream is dropped, as in GPT.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn

from labkit.errors import ModelError

__all__ = ["no_dropout", "residual_blocks", "residual_dropout"]

_CONFIG_NAMES = (
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "attention_dropout",
    "hidden_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "activation_dropout",
    "dropout",
    "classifier_dropout",
    "summary_first_dropout",
)
_BLOCK_NAMES = ("attn", "attention", "mlp", "ffn", "feed_forward", "fc")


def no_dropout(model: nn.Module) -> nn.Module:
    """Switch every dropout of `model` off, in its modules and in its config (a saved copy has none); returns it."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    for name in _CONFIG_NAMES:
        if isinstance(getattr(getattr(model, "config", None), name, None), (int, float)):
            setattr(model.config, name, 0.0)
    return model


def residual_blocks(model: nn.Module) -> list[nn.Module]:
    """The attention and feed-forward blocks of each layer, whose outputs are added to the residual stream."""
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m)]
    layers = max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()), default=())
    return [
        child
        for layer in layers
        for name, child in layer.named_children()
        if any(part in name.lower() for part in _BLOCK_NAMES) and not _is_part(name.lower(), child)
    ]


def _is_part(name: str, child: nn.Module) -> bool:
    """Beside the blocks stand a layer's norms, its own dropouts, and where it has no block of its own the way in (OPT's fc1)."""
    return "norm" in name or isinstance(child, nn.Dropout) or name == "fc1"


@contextlib.contextmanager
def residual_dropout(model: nn.Module, p: float) -> Iterator[None]:
    """Inside, `model` trains with residual dropout `p` and no other; outside, with none at all."""
    no_dropout(model)
    blocks = residual_blocks(model) if p else []
    if p and not blocks:
        raise ModelError(
            f"dropout is {p}, but no attention or feed-forward blocks were found in {type(model).__name__}; "
            "set dropout to 0."
        )
    hooks = [block.register_forward_hook(_drop(p)) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _drop(p: float):
    """A forward hook that drops a share `p` of a block's output, in training mode only."""

    def hook(module: nn.Module, inputs, output):
        if not module.training:
            return output
        if isinstance(output, tuple):
            return (F.dropout(output[0], p), *output[1:])
        return F.dropout(output, p) if isinstance(output, torch.Tensor) else output

    return hook
