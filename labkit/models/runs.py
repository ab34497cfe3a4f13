"""Attention of rows sorted by length, on a CPU: run after run of rows of one length, each read where it lies in the packed row.

A training pass has many short runs. As one function with a gradient of its own they are one step to autograd, and every
gradient is written to where it belongs. The kernel is the one that PyTorch's scaled dot product takes for such tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["by_runs", "reads_runs"]

Runs = Sequence[tuple[int, int, int]]  # (rows, length, first place of a row at which a result is wanted) of each


def reads_runs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> bool:
    """Whether the CPU's fused kernel takes these (1, H, T, d) as they are."""
    alike = q.shape == k.shape == v.shape and q.dtype == k.dtype == v.dtype == torch.float32
    return alike and q.device.type == "cpu" and q.stride(3) == k.stride(3) == v.stride(3) == 1


def by_runs(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, runs: Runs, scale: float | None) -> torch.Tensor:
    """(1, H, T, d) packed -> (1, T, H, d): causal attention within each row; zero where no result is wanted."""
    return _ByRuns.apply(q, k, v, runs, scale)


class _ByRuns(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, runs, scale):
        out = q.new_zeros(1, q.shape[2], q.shape[1], q.shape[3])
        sums = []  # log-sums of the softmax, of which its gradient is made
        for q_, k_, v_, out_, (_, length, first) in _each(runs, q, k, v, out.transpose(1, 2)):
            out_[:, :, first:], found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q_[:, :, first:], k_, v_, scale=scale, **_seen(length, first)
            )
            sums.append(found)
        ctx.save_for_backward(q, k, v, out, *sums)
        ctx.runs, ctx.scale = runs, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, k, v, out, *sums = ctx.saved_tensors
        for_q, for_k, for_v = torch.zeros_like(q), torch.empty_like(k), torch.empty_like(v)
        packed = q, k, v, out.transpose(1, 2), grad.transpose(1, 2), for_q, for_k, for_v
        for log_sums, (q_, k_, v_, out_, grad_, *targets, (_, length, first)) in zip(sums, _each(ctx.runs, *packed), strict=True):
            asked, *read = targets
            asked[:, :, first:], *found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad_[:, :, first:], q_[:, :, first:], k_, v_, out_[:, :, first:], log_sums, 0.0, first == 0,
                attn_mask=_seen(length, first).get("attn_mask"), scale=ctx.scale,
            )  # fmt: skip
            for target, part in zip(read, found, strict=True):
                target.copy_(part)
        return for_q, for_k, for_v, None, None


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
