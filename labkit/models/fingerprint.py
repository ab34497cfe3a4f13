"""Which weights wrote a completion: a hash of all of them, taken again only after they have changed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["model_hash"]

SAMPLED = 16  # numbers of each tensor that are compared: they notice what the version counter does not
_known: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()


def model_hash(model: PreTrainedModel) -> str:
    """Twelve hex digits that name these very weights: the provenance of a completion.

    Every call of `complete` asks, and reading gigabytes each time would cost more than the sampling; so the hash is kept
    with the model until a tensor of it has been written to, or replaced.
    """
    stamp = _stamp(model)
    known = _known.get(model)
    if known is None or known[0] != stamp:
        known = _known[model] = (stamp, _digest(model))
    return known[1]


def _stamp(model: PreTrainedModel) -> tuple[Any, ...]:
    """What cannot stay the same when weights change: torch counts writes into a tensor; `.data` passes the counter by."""
    tensors = [t.detach() for t in model.state_dict().values()]
    places = tuple((t.data_ptr(), 0 if t.is_inference() else t._version, t.shape, t.dtype) for t in tensors)
    spread = [t.reshape(-1)[:: max(1, t.numel() // SAMPLED)].to(torch.float32) for t in tensors]
    return places, torch.cat(spread).cpu().numpy().tobytes() if spread else b""


def _digest(model: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()[:12]
