"""The key/value cache of the sampling engine: preallocated, right-aligned, and able to drop rows.

All prompts end at the same slot, so every row of a step writes to one and the same slot and attention reads one
contiguous stretch; shorter prompts are masked on their left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

__all__ = ["RightAlignedCache"]


class _Layer(CacheLayerMixin):
    """Keys and values of one layer: (rows, heads, slots, head width), of which `filled` slots count."""

    is_sliding = False

    def __init__(self, lengths: Sequence[int], new_slots: int) -> None:
        super().__init__()
        self.lengths, self.longest = lengths, max(lengths)
        self.slots = self.longest + new_slots
        self.filled = 0
        self.reading: Sequence[int] = ()  # rows whose packed prompts the next update brings

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        shape = (len(self.lengths), key_states.shape[1], self.slots)
        self.keys = key_states.new_zeros(*shape, key_states.shape[3])
        self.values = value_states.new_zeros(*shape, value_states.shape[3])
        self.is_initialized = True

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.reading:
            self._store_prompts(key_states, value_states)
            return key_states, value_states
        self.keys[:, :, self.filled] = key_states[:, :, 0]
        self.values[:, :, self.filled] = value_states[:, :, 0]
        self.filled += 1
        return self.keys[:, :, : self.filled], self.values[:, :, : self.filled]

    def _store_prompts(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Packed (1, H, T, d) states -> each prompt at the right end of its row's first `longest` slots."""
        lengths = torch.tensor([self.lengths[i] for i in self.reading])
        row = torch.repeat_interleave(torch.tensor(self.reading), lengths)
        slot = torch.cat([torch.arange(self.longest - n, self.longest) for n in lengths.tolist()])
        row, slot = row.to(key_states.device), slot.to(key_states.device)
        self.keys[row, :, slot] = key_states[0].transpose(0, 1)
        self.values[row, :, slot] = value_states[0].transpose(0, 1)
        self.filled, self.reading = self.longest, ()

    def repeat(self, rows: torch.Tensor) -> None:
        """Row i becomes a copy of what row rows[i] was."""
        self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)

    def move(self, sources: torch.Tensor, targets: torch.Tensor, rows: int) -> None:
        """Copy rows `sources` over rows `targets`, then forget all but the first `rows`; nothing else is touched."""
        if len(targets):
            self.keys.index_copy_(0, targets, self.keys.index_select(0, sources))
            self.values.index_copy_(0, targets, self.values.index_select(0, sources))
        self.keys, self.values = self.keys[:rows], self.values[:rows]

    def get_seq_length(self) -> int:
        return self.filled

    def get_max_length(self) -> int:
        return self.slots

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.filled + query_length, 0


class RightAlignedCache(Cache):
    """A `transformers` cache for prompts of these lengths and up to `new_slots` further tokens each.

    Unfilled and masked slots hold zeros, never garbage: a weight of zero times NaN would still be NaN.
    """

    def __init__(self, config, lengths: Sequence[int], new_slots: int) -> None:
        count = config.get_text_config(decoder=True).num_hidden_layers
        super().__init__(layers=[_Layer(lengths, new_slots) for _ in range(count)])
        longest = max(lengths)
        slots = torch.arange(longest + new_slots)
        real = slots >= longest - torch.tensor(lengths)[:, None]  # (rows, slots), True on real tokens
        self._mask = torch.zeros(real.shape).masked_fill(~real, float("-inf"))  # what is added to attention scores

    def read_next(self, rows: Sequence[int]) -> None:
        """The next forward pass brings the packed prompts of these rows."""
        for layer in self.layers:
            layer.reading = rows

    def start_steps(self, rows: torch.Tensor | None) -> None:
        """After the prompts were read: repeat them as `rows` says (None: one row each) and move the mask to the device."""
        self._mask = self._mask.to(self.layers[0].keys)
        if rows is not None:
            self._mask = self._mask.index_select(0, rows)
            for layer in self.layers:
                layer.repeat(rows)

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Row i becomes row rows[i], and the rest is forgotten. Cheap where most rows stay in place."""
        targets = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
        sources = rows[targets]
        self._mask = self._mask.index_select(0, rows)
        for layer in self.layers:
            layer.move(sources, targets, len(rows))

    def step_mask(self) -> torch.Tensor:
        """(rows, 1, 1, filled + 1) of 0 and -inf: what the next token may look at."""
        filled = self.layers[0].filled + 1
        return self._mask[:, None, None, :filled]
