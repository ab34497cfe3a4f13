"""How far two passes over the same text may lie apart before it is more than rounding: by dtype, and by how far the outputs spread."""

from __future__ import annotations

import torch

__all__ = ["allowed_gap"]

ROUNDING = {torch.float32: (1e-3, 1e-5)}  # shares of the spread of the outputs, and of the largest of them
HALF = (0.05, 1 / 256)  # bf16 and fp16 round hidden states differently from batch to batch


def allowed_gap(outputs: torch.Tensor, dtype: torch.dtype, size: float = 0.0) -> float:
    """The largest difference from `outputs`, scores or log-probabilities of any shape, that counts as rounding.

    dtype: of the passes. size: the largest number that entered, where it is none of the outputs.
    """
    share, floor = ROUNDING.get(dtype, HALF)
    return share * float(outputs.max() - outputs.min()) + floor * max(size, float(outputs.abs().max())) + 1e-7
