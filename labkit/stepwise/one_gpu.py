"""One process trains on one GPU, however many the machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainingArguments

__all__ = ["on_one_gpu"]


def on_one_gpu(arguments: TrainingArguments) -> TrainingArguments:
    """Keep a Trainer from `nn.DataParallel`, in which it wraps a model wherever it counts several GPUs; returns the arguments.

    The wrapper has no config, cuts packed batches apart, and multiplies the batch by the number of GPUs. The count is
    read before it is set: reading it is what makes the Trainer's arguments look for devices.
    """
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
