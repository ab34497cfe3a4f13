"""Scores of several responses to one prompt, with the prompt read once.

K completions of a prompt share its tokens. Under a causal model the prompt's hidden states do not depend on what
follows, so each prompt lies once in the packed row and its K responses behind it; only the attention product, for which
tokens are moved anyway (`labkit.models.layout`), sees the prompt once per response. The numbers are those of one
separate pass per completion, for less than half of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from labkit.models.last_layer import only_needed
from labkit.models.layout import Layout
from labkit.models.packed import LAB_ATTENTION, packed_logits
from labkit.models.scoring import one_each

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PrefixLayout", "completion_scores", "completion_states"]

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class PrefixLayout:
    """A `Layout` of rows prompt + response in which the T packed tokens hold each prompt once."""

    apart: Layout  # as if each of the rows had the prompt for itself: S tokens end to end
    where: torch.Tensor  # (S,) the packed token at each place of these rows; a prompt's stands in several
    first: torch.Tensor  # (T,) the place from which each packed token takes its result; a prompt's, in its first row

    @classmethod
    def of(cls, prompts: Sequence[int], responses: Rows, device: torch.device) -> PrefixLayout:
        """The layout of prompts of these lengths, each followed by responses of these lengths."""
        lengths = [p + r for p, rs in zip(prompts, responses, strict=True) for r in rs]
        return cls(Layout.of(lengths, device), *(places.to(device) for places in _joined(prompts, responses)))

    @cached_property
    def places(self) -> tuple[tuple[tuple[int, int], ...], torch.Tensor, torch.Tensor]:
        """Of grids: their (rows, longest), the packed token at each place, the place that each packed token is taken from."""
        grids = self.apart.places
        if grids.where is None:
            return grids.grids, self.where, self.first
        return grids.grids, self.where[grids.where], grids.slots[self.first]

    def separate(self, packed: torch.Tensor) -> torch.Tensor:
        """(1, H, T, d) packed -> (1, H, S, d), each row with its own prompt."""
        return packed.index_select(2, self.where)

    def join(self, rows: torch.Tensor) -> torch.Tensor:
        """(1, S, H, d) -> (1, T, H, d) packed."""
        return rows.index_select(1, self.first)

    def spread(self, packed: torch.Tensor) -> list[torch.Tensor]:
        """(1, H, T, d) packed -> for each grid (rows, H, longest, d)."""
        sizes, where, _ = self.places
        flat = packed[0].transpose(0, 1).index_select(0, where)  # (G, H, d)
        parts = flat.split([rows * longest for rows, longest in sizes])
        return [p.view(*grid, *p.shape[1:]).transpose(1, 2) for p, grid in zip(parts, sizes, strict=True)]

    def gather(self, grids: Sequence[torch.Tensor]) -> torch.Tensor:
        """For each grid (rows, H, longest, d) -> (1, T, H, d) packed."""
        flat = torch.cat([g.transpose(1, 2).reshape(-1, g.shape[1], g.shape[3]) for g in grids])
        return flat.index_select(0, self.places[2]).unsqueeze(0)


def _joined(prompts: Sequence[int], responses: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """From rows that have the prompt each to a row that has it once: each token's new place, each new place's token."""
    shared, first, start, row = [], [], 0, 0
    for prompt, lengths in zip(prompts, responses, strict=True):
        first.append(torch.arange(row, row + prompt))
        place = start + prompt
        for length in lengths:
            shared += [torch.arange(start, start + prompt), torch.arange(place, place + length)]
            first.append(torch.arange(row + prompt, row + prompt + length))
            row, place = row + prompt + length, place + length
        start = place
    return torch.cat(shared), torch.cat(first)


def completion_scores(model: PreTrainedModel, prompts: Rows, responses: Sequence[Rows]) -> torch.Tensor:
    """(N,) scores of responses[i][k] to prompts[i], in order, with gradients if they are on.

    prompts: token ids of each prompt. responses: for each prompt, the token ids of its responses.
    """
    if model.config._attn_implementation == LAB_ATTENTION:
        return one_each(model, _shared_pass(model, prompts, responses))
    rows = [[*p, *r] for p, rs in zip(prompts, responses, strict=True) for r in rs]
    device = model.get_input_embeddings().weight.device
    return one_each(model, packed_logits(model, rows, keep=(torch.tensor([len(row) for row in rows]).cumsum(0) - 1).to(device)))


def completion_states(model: PreTrainedModel, prompts: Rows, responses: Sequence[Rows]) -> torch.Tensor:
    """(T, d) last hidden states of each prompt once, its responses behind it; only for models with the lab's attention."""
    passed, _ = _shared_inputs(model, prompts, responses)
    return model.base_model(**passed).last_hidden_state[0]


def _shared_pass(model: PreTrainedModel, prompts: Rows, responses: Sequence[Rows]) -> torch.Tensor:
    passed, keep = _shared_inputs(model, prompts, responses)
    with only_needed(model, keep):
        values = model(**passed).logits
    return values[0, keep].squeeze(-1)


def _shared_inputs(
    model: PreTrainedModel, prompts: Rows, responses: Sequence[Rows]
) -> tuple[dict[str, Any], torch.Tensor]:
    """What a pass over prompts and their responses is called with, and where each response's last token lies."""
    device = model.get_input_embeddings().weight.device
    ids, positions, last = [], [], []
    for prompt, group in zip(prompts, responses, strict=True):
        ids += prompt
        positions += range(len(prompt))
        for response in group:
            ids += response
            positions += range(len(prompt), len(prompt) + len(response))
            last.append(len(ids) - 1)
    passed = {
        "input_ids": torch.tensor(ids, device=device)[None],  # (1, T)
        "position_ids": torch.tensor(positions, device=device)[None],  # (1, T)
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),  # prepared: the library builds none
        "layout": PrefixLayout.of([len(p) for p in prompts], [[len(r) for r in rs] for rs in responses], device),
        "use_cache": False,
    }
    return passed, torch.tensor(last, device=device)
