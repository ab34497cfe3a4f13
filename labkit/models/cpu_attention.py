"""Attention of rows sorted by length, on a CPU: run after run of rows of one length, each read where it lies in the packed row.

Only without gradients, since results are written in place. Of each run only the queries from the first wanted position on
are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["by_runs", "reads_runs"]

Runs = Sequence[tuple[int, int, int]]  # (rows, length, first place of a row at which a result is wanted) of each


def reads_runs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> bool:
    """Whether these (1, H, T, d) are for the CPU's fused kernel as they are, without gradients."""
    alike = q.shape == k.shape == v.shape and q.dtype == k.dtype == v.dtype == torch.float32
    return alike and not torch.is_grad_enabled() and q.device.type == "cpu" and q.stride(3) == k.stride(3) == v.stride(3) == 1


def by_runs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, runs: Runs, scale: float | None) -> torch.Tensor:
    """(1, H, T, d) packed -> (1, T, H, d): causal attention within each row; zero where no result is wanted."""
    out = q.new_zeros(1, q.shape[2], q.shape[1], q.shape[3])
    for q_, k_, v_, out_, (_, length, first) in _each(runs, q, k, v, out.transpose(1, 2)):
        out_[:, :, first:] = F.scaled_dot_product_attention(q_[:, :, first:], k_, v_, scale=scale, **_seen(length, first))
    return out


def _seen(length: int, first: int) -> dict[str, Any]:
    """What tells the kernel that the queries of places `first` and later see their own place and those before it."""
    if first in (0, length - 1):
        return {"is_causal": first == 0}  # the last place sees all
    return {"attn_mask": torch.full((1, 1, length - first, length), float("-inf")).triu(first + 1)}


def _each(runs: Runs, *packed: torch.Tensor) -> Iterator[tuple[Any, ...]]:
    """Run by run: views (rows, H, length, d) of each of the packed (1, H, T, d), and what the run is."""
    sizes = [rows * length for rows, length, _ in runs]
    for *parts, run in zip(*(x[0].transpose(0, 1).split(sizes) for x in packed), runs, strict=True):
        yield *(part.unflatten(0, run[:2]).transpose(1, 2) for part in parts), run
