"""Log-probabilities of responses under a policy, values of their prefixes, scores of whole texts; in batches without padding.

Flat results run over the response tokens of row 0, then of row 1, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from labkit.errors import ModelError
from labkit.models.packed import end_to_end, packed_logits
from labkit.models.precision import chosen_precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "batches_by_tokens",
    "response_logits",
    "response_logprobs",
    "response_values",
    "score",
    "text_values",
]

Rows = Sequence[Sequence[int]]


def batches_by_tokens(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Row indices, shortest rows first, in batches whose padded grid (rows x longest) stays within `max_tokens`."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[i] > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def response_positions(prompts: Rows, responses: Rows, device: torch.device | None = None) -> torch.Tensor:
    """(N,) places in the packed prompt+response rows whose outputs predict the response tokens: each one before its token."""
    asked, given = (np.array([len(row) for row in rows]) for rows in (prompts, responses))
    return torch.from_numpy(np.arange(given.sum()) + np.repeat(asked.cumsum() - 1, given)).to(device)


def response_logits(policy: PreTrainedModel, prompts: Rows, responses: Rows) -> torch.Tensor:
    """(N, V) fp32 logits for each response token, with gradients if they are on; the head runs on these positions only."""
    rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    return packed_logits(policy, rows, keep=response_positions(prompts, responses, _device(policy))).float()


def response_logprobs(
    policy: PreTrainedModel, prompts: Rows, responses: Rows, *, temperature: float = 1.0, max_tokens: int = 16384
) -> torch.Tensor:
    """(N,) fp32 log-probabilities of the response tokens at this temperature, without gradients."""

    def logprobs(p: Rows, r: Rows) -> torch.Tensor:
        logits = response_logits(policy, p, r)
        if temperature != 1:
            logits = logits / temperature
        targets = end_to_end(r, logits.device)
        return -F.cross_entropy(logits, targets, reduction="none")

    return _in_batches(policy, logprobs, (prompts, responses), [len(r) for r in responses], max_tokens)


def response_values(model: PreTrainedModel, prompts: Rows, responses: Rows, *, max_tokens: int = 16384) -> torch.Tensor:
    """(N,) fp32 values V(s_t) of the states in which each response token is chosen, without gradients."""

    def values(p: Rows, r: Rows) -> torch.Tensor:
        rows = [[*a, *b] for a, b in zip(p, r, strict=True)]
        return one_each(model, packed_logits(model, rows, keep=response_positions(p, r, _device(model)))).float()

    return _in_batches(model, values, (prompts, responses), [len(r) for r in responses], max_tokens)


def score(model: PreTrainedModel, prompts: Rows, responses: Rows, *, max_tokens: int = 16384) -> torch.Tensor:
    """(B,) fp32 reward-model scores: the value at the last real token of prompt + response, without gradients."""

    def last_values(p: Rows, r: Rows) -> torch.Tensor:
        rows = [[*a, *b] for a, b in zip(p, r, strict=True)]
        ends = torch.tensor([len(row) for row in rows]).cumsum(0) - 1
        return one_each(model, packed_logits(model, rows, keep=ends.to(_device(model)))).float()

    return _in_batches(model, last_values, (prompts, responses), [1] * len(prompts), max_tokens)


def text_values(model: PreTrainedModel, rows: Rows, *, max_tokens: int = 16384) -> list[torch.Tensor]:
    """For each row of token ids, the (length,) fp32 scores of its prefixes, without gradients."""
    if not rows:
        return []
    lengths = [len(row) for row in rows]
    flat = _in_batches(model, lambda r: one_each(model, packed_logits(model, r)).float(), (rows,), lengths, max_tokens)
    return list(flat.split(lengths))


def one_each(model: PreTrainedModel, found: torch.Tensor) -> torch.Tensor:
    """(N,) values of a reward or value model, as it gave them; raises ModelError where the model has a whole vocabulary to say."""
    if found.dim() != 1:
        raise ModelError(
            f"{type(model).__name__} gives {found.shape[-1]} numbers for a token, where a reward or value model gives one; "
            "give one made by load_reward_model or new_reward_model."
        )
    return found


def _in_batches(
    model: PreTrainedModel,
    compute: Callable[..., torch.Tensor],
    columns: Sequence[Rows],
    counts: Sequence[int],
    max_tokens: int,
) -> torch.Tensor:
    """Row by row the counts[i] results of `model` that `compute` gives for row i, end to end, without gradients.

    columns: what lies end to end in a row, such as all prompts and all responses; `compute` is given some rows of each.
    """
    lengths = [sum(map(len, row)) for row in zip(*columns, strict=True)]
    order: list[int] = []
    parts: list[torch.Tensor] = []
    with torch.no_grad(), chosen_precision(_device(model)):
        for batch in batches_by_tokens(lengths, max_tokens):
            parts.append(compute(*([column[i] for i in batch] for column in columns)))
            order += batch
    if not parts:
        return torch.empty(0)
    return torch.cat(parts).index_select(0, _places(order, counts).to(_device(model)))


def _places(order: Sequence[int], counts: Sequence[int]) -> torch.Tensor:
    """(N,) for the results of row 0, then of row 1, and so on: their places where rows stand in this order."""
    here = np.array(counts)[np.array(order)]  # results of each row, as they stand
    starts = np.empty(len(order), dtype=np.int64)
    starts[np.array(order)] = here.cumsum() - here
    within = np.arange(here.sum()) - np.repeat(np.cumsum(counts) - np.array(counts), counts)
    return torch.from_numpy(np.repeat(starts, counts) + within)


def _device(model: torch.nn.Module) -> torch.device:
    return getattr(model, "module", model).get_input_embeddings().weight.device
