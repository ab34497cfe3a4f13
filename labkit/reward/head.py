"""The new head, settled before the body moves: a linear fit to the rankings with the body at rest.

A random head sends its own noise through the body in the first steps and bends features out of shape that were worth
keeping (Kumar et al. 2022, who call the remedy LP-FT). Not in the paper. With the body fixed the ranking loss is convex
in the head, so a few rounds of L-BFGS find the one best head, and nothing is drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.models import batches_by_tokens, packed_logits
from labkit.models.loading import scalar_head
from labkit.reward.data import Ranked
from labkit.reward.loss import kwise_loss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["settle_head"]

RIDGE = 1e-3  # weight of the squared head weights, on features of unit variance
ROUNDS = 100


def settle_head(model: PreTrainedModel, rows: Sequence[Ranked], *, max_tokens: int = 16384) -> float:
    """Fit the head's weights to the rankings, body fixed, bias left alone; returns the ranking loss that is reached."""
    head = scalar_head(model)
    features = last_states(model, rows, max_tokens)  # (N, d)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    features = (features - mean) / spread
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
    with torch.no_grad():
        head.weight.copy_((found / spread)[None])
        return kwise_loss(features @ found, pairs, weights, len(rows)).item()


def last_states(model: PreTrainedModel, rows: Sequence[Ranked], max_tokens: int) -> torch.Tensor:
    """(N, d) fp32 inputs of the head at the last token of each completion, on the CPU, without gradients."""
    texts = [[*row.prompt, *response] for row in rows for response in row.responses]
    states: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    seen: list[torch.Tensor] = []
    watch = scalar_head(model).register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches_by_tokens([len(t) for t in texts], max_tokens):
                packed_logits(model, [texts[i] for i in batch])
                lengths, hidden = torch.tensor([len(texts[i]) for i in batch]), seen.pop().float().cpu()
                if len(hidden) == 1:  # (1, T, d): rows end to end
                    ends = hidden[0, lengths.cumsum(0) - 1]
                else:  # (B, L, d): padded on the right, for models without the lab's attention
                    ends = hidden[torch.arange(len(batch)), lengths - 1]
                for i, state in zip(batch, ends, strict=True):
                    states[i] = state
    finally:
        watch.remove()
    return torch.stack(states)
