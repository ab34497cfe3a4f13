"""Weights that are spread over processes: how to run, read and write them as if they were whole.

Under FSDP (version 2) a parameter is a DTensor of which each process holds a shard. On one process, and under plain
data parallelism, everything here does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from accelerate import Accelerator
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ["copy_whole", "dot", "is_sharded", "summed", "total_norm", "whole", "whole_weights"]


def is_sharded(model: torch.nn.Module) -> bool:
    return isinstance(model, FSDPModule)


@contextlib.contextmanager
def whole_weights(model: torch.nn.Module) -> Iterator[None]:
    """Inside, every process holds all weights, so that each may run the model as often as it likes (no gradients)."""
    shards = [m for m in model.modules() if isinstance(m, FSDPModule)]
    for module in shards:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in shards:
            module.reshard()
            module.set_reshard_after_forward(module is not model, recurse=False)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor; where it is sharded every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def copy_whole(target: torch.Tensor, source: torch.Tensor) -> None:
    """Write a whole tensor into a tensor that may be sharded."""
    if isinstance(target, DTensor):
        source = distribute_tensor(source.to(target.device, target.dtype), target.device_mesh, target.placements)
    target.copy_(source)


def summed(accelerator: Accelerator, values: torch.Tensor) -> torch.Tensor:
    """Sum over processes of a tensor that lies on the CPU. One process never moves it: Apple GPUs have no float64."""
    if accelerator.num_processes == 1:
        return values
    return accelerator.reduce(values.to(accelerator.device), "sum").cpu()


def total_norm(tensors: Iterable[torch.Tensor]) -> float:
    """Euclidean norm over all of them, on all processes that share them."""
    return float(whole(torch.nn.utils.get_total_norm(list(tensors))))


def dot(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    """Inner product of two lists of tensors of the same shapes, on all processes that share them."""
    return float(torch.stack([whole((x * y).sum()) for x, y in zip(a, b, strict=True)]).sum())
