"""Muon (Jordan et al. 2024) in fp32, for the weight matrices of small models on any CPU.

`torch.optim.Muon` orthogonalises in bf16, which a CPU without bf16 units multiplies thirty times slower than fp32: on one
such machine the optimiser took more than half of pretraining. The update is the same, its size matched to AdamW's.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

__all__ = ["Muon"]

#: Newton-Schulz polynomial of the original, which drives all singular values towards 1 in five rounds.
A, B, C, ROUNDS = 3.4445, -4.7750, 2.0315, 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, then each matrix's update made orthogonal and scaled to 0.2 √max(rows, columns)."""

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, *, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonal(p.grad.lerp(average, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * max(p.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """(m, n) -> the nearest matrix with singular values of about 1."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = A * x + (B * square + C * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
