"""The ranking loss (equation 1): pure arithmetic on scores, apart from the loop.

loss = mean over prompts of  -1 / C(K,2) * sum over (w, l) of log sigmoid(r_w - r_l)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["kwise_loss"]


def kwise_loss(
    scores: torch.Tensor, pairs: torch.Tensor, weights: torch.Tensor, prompts: int | torch.Tensor
) -> torch.Tensor:
    """Ranking loss, a scalar.

    scores: (N,) of all completions of the batch. pairs: (P, 2) indices into scores, the preferred one first.
    weights: (P,) one over the number of pairs of the pair's prompt. prompts: how many prompts to average over.
    """
    better, worse = scores[pairs[:, 0]].float(), scores[pairs[:, 1]].float()
    return -(weights * F.logsigmoid(better - worse)).sum() / prompts
