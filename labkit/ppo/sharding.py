"""Weights that are spread over processes: how to run, read and write them as if they were whole.

Under FSDP (version 2) a parameter is a DTensor of which each process holds a shard. On one process, and under plain
data parallelism, everything here does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils import broadcast_object_list
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from labkit.errors import SettingsError

__all__ = [
    "accelerator_on",
    "agreed",
    "copy_whole",
    "dot",
    "is_sharded",
    "summed",
    "total_norm",
    "use_device",
    "whole",
    "whole_weights",
]


def accelerator_on(device: torch.device) -> Accelerator:
    """Accelerate as its launcher was told. FSDP means version 2; version 1 keeps its weights in another form.

    Where processes run on CPUs accelerate leaves FSDP out, whatever its configuration says. Here it is put back, from
    that configuration, so that a sharded run can be tried before GPUs are paid for.
    """
    accelerator = Accelerator(cpu=device.type == "cpu")
    accelerator.native_amp = False  # `State.forward_precision` alone decides, whatever a Trainer before this one has set
    wanted = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if wanted and accelerator.distributed_type == DistributedType.MULTI_CPU:
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise SettingsError("Weights are sharded by FSDP version 2 only; launch with --fsdp_version 2.")
    return accelerator


def use_device(accelerator: Accelerator) -> None:
    """Let this thread work on this process's GPU: every new thread begins on the first one, and a job's loop has its own.

    Without a launcher accelerate says "cuda" and no index, which is the GPU that the thread is on already.
    """
    if accelerator.device.type == "cuda" and accelerator.device.index is not None:
        torch.cuda.set_device(accelerator.device)


def agreed(accelerator: Accelerator, value: Any) -> Any:
    """What the first process says, on all of them."""
    return value if accelerator.num_processes == 1 else broadcast_object_list([value])[0]


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
