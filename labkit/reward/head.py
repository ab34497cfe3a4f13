"""The new head, settled before the body moves: a linear fit to the rankings with the body at rest.

A random head sends its own noise through the body in the first steps and bends features out of shape that were worth
keeping (Kumar et al. 2022, who call the remedy LP-FT). Not in the paper. With the body fixed the ranking loss is convex
in the head, so a few rounds of L-BFGS find the one best head, and nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.models import batches_by_tokens, completion_scores
from labkit.models.loading import scalar_head
from labkit.reward.checks import check_finite_states, check_settled
from labkit.reward.data import Ranked
from labkit.reward.loss import kwise_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["settle_head"]

RIDGE = 1e-3  # weight of the squared head weights, on features of unit variance
ROUNDS = 100


def settle_head(model: PreTrainedModel, rows: Sequence[Ranked], *, max_tokens: int = 16384) -> float:
    """Fit the head's weights to the rankings, body fixed, bias left alone; returns the ranking loss that is reached.

    Raises InvariantError where the body's states, or the weights that fit them, are no finite numbers; the head is as it was then.
    """
    head = scalar_head(model)
    features = last_states(model, rows, max_tokens)  # (N, d)
    check_finite_states(features, rows)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    features = (features - mean) / spread
    check_settled(features)
    starts = torch.tensor([0, *(len(r.responses) for r in rows)]).cumsum(0).tolist()
    pairs = torch.tensor([(s + a, s + b) for r, s in zip(rows, starts, strict=False) for a, b in r.pairs])
    weights = torch.tensor([r.weight for r in rows for _ in r.pairs])
    found = torch.zeros(features.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([found], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = kwise_loss(features @ found, pairs, weights, len(rows)) + RIDGE * found.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    check_settled(found)
    with torch.no_grad():
        head.weight.copy_((found / spread)[None])
        return kwise_loss(features @ found, pairs, weights, len(rows)).item()


def last_states(model: PreTrainedModel, rows: Sequence[Ranked], max_tokens: int) -> torch.Tensor:
    """(N, d) fp32 inputs of the head at the last token of each completion, on the CPU, without gradients."""
    states: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    seen: list[torch.Tensor] = []
    watch = scalar_head(model).register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches_by_tokens([_tokens(row) for row in rows], max_tokens):
                completion_scores(model, [rows[i].prompt for i in batch], [rows[i].responses for i in batch])
                ends = _at_ends(seen.pop().float().cpu(), [rows[i] for i in batch])
                for i, found in zip(batch, ends.split([len(rows[i].responses) for i in batch]), strict=True):
                    states[i] = found
    finally:
        watch.remove()
    return torch.cat(states)


def _tokens(row: Ranked) -> int:
    return len(row.prompt) + sum(map(len, row.responses))


def _at_ends(hidden: torch.Tensor, rows: Sequence[Ranked]) -> torch.Tensor:
    """(N, d) states at the last tokens, from how `completion_scores` lays rows out."""
    if len(hidden) == 1:  # (1, T, d): each prompt once, its responses behind it
        sizes = [len(r) + (len(row.prompt) if k == 0 else 0) for row in rows for k, r in enumerate(row.responses)]
        return hidden[0, torch.tensor(sizes).cumsum(0) - 1]
    lengths = torch.tensor([len(row.prompt) + len(r) for row in rows for r in row.responses])
    return hidden[
        torch.arange(len(lengths)), lengths - 1
    ]  # (B, L, d): padded on the right, without the lab's attention
