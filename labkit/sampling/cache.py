"""The key/value cache of the sampling engine: preallocated, right-aligned, and able to drop rows.

All prompts end at the same slot, so every row of a step writes to one and the same slot and attention reads one
contiguous stretch; shorter prompts are masked on their left. Where nothing may change its shape or address (CUDA
graphs), what the prompts left goes on in a cache that stays (`fixed.py`).
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
        self.reading: tuple[Sequence[int], torch.Tensor] | None = None  # rows whose packed prompts the next update brings

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        shape = (len(self.lengths), key_states.shape[1], self.slots)
        self.keys = key_states.new_empty((*shape, key_states.shape[3]))
        self.values = value_states.new_empty((*shape, value_states.shape[3]))
        self.is_initialized = True

    def update(self, key_states, value_states, *args, **kwargs):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self.reading is not None:
            self._store_prompts(self.keys, key_states)
            self._store_prompts(self.values, value_states)
            self.filled, self.reading = self.longest, None
            return key_states, value_states
        self.keys[:, :, self.filled] = key_states[:, :, 0]
        self.values[:, :, self.filled] = value_states[:, :, 0]
        self.filled += 1
        return self.keys[:, :, : self.filled], self.values[:, :, : self.filled]

    def _store_prompts(self, cached: torch.Tensor, states: torch.Tensor) -> None:
        """Packed (1, H, T, d) states -> each prompt at the right end of its row's first `longest` slots."""
        rows, places = self.reading
        _, heads, tokens, width = states.shape
        flat = states[0].transpose(0, 1).reshape(tokens, heads * width)
        grid = flat.index_select(0, places).view(len(rows), self.longest, heads, width).transpose(1, 2)
        first, last = min(rows), max(rows) + 1
        if list(rows) == list(range(first, last)):  # sorted prompts lie side by side
            cached[first:last, :, : self.longest] = grid
        else:
            cached[torch.tensor(rows, device=cached.device), :, : self.longest] = grid

    def repeat(self, rows: torch.Tensor) -> None:
        """Row i becomes a copy of what row rows[i] was."""
        if self.is_initialized:  # a layer that reads another's keys (Gemma 3n) never is
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)

    def move(self, sources: torch.Tensor, targets: torch.Tensor, rows: int) -> None:
        """Copy rows `sources` over rows `targets`, then forget all but the first `rows`; nothing else is touched."""
        if not self.is_initialized:
            return
        if len(targets):
            for cached in (self.keys, self.values):
                used = cached[:, :, : self.filled]
                used.index_copy_(0, targets, used.index_select(0, sources))
        self.keys, self.values = self.keys[:rows], self.values[:rows]

    def get_seq_length(self) -> int:
        return self.filled

    def get_max_length(self) -> int:
        return self.slots

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.filled + query_length, 0


class RightAlignedCache(Cache):
    """A `transformers` cache for prompts of these lengths and up to `new_slots` further tokens each.

    Masked slots hold the row's own first token, never garbage: a weight of zero times NaN would still be NaN.
    """

    def __init__(self, config, lengths: Sequence[int], new_slots: int) -> None:
        count = config.get_text_config(decoder=True).num_hidden_layers
        super().__init__(layers=[_Layer(lengths, new_slots) for _ in range(count)])
        self.lengths, self.longest = lengths, max(lengths)
        slots = torch.arange(self.longest + new_slots)
        real = slots >= self.longest - torch.tensor(lengths)[:, None]  # (rows, slots), True on real tokens
        self.mask = torch.zeros(real.shape).masked_fill(~real, float("-inf"))  # what is added to attention scores

    def read_next(self, rows: Sequence[int], device: torch.device) -> None:
        """The next forward pass brings the packed prompts of these rows."""
        lengths = torch.tensor([self.lengths[i] for i in rows])[:, None]
        starts = lengths.cumsum(0) - lengths
        within = (torch.arange(self.longest) - (self.longest - lengths)).clamp(min=0)
        places = (starts + within).flatten().to(device)  # of each slot, the token of the packed row
        for layer in self.layers:
            layer.reading = (rows, places)

    def start_steps(self, rows: torch.Tensor | None) -> None:
        """After the prompts were read: repeat them as `rows` says (None: one row each) and move the mask to the device."""
        self.mask = self.mask.to(self.layers[0].keys)
        if rows is not None:
            self.mask = self.mask.index_select(0, rows)
            for layer in self.layers:
                layer.repeat(rows)

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Row i becomes row rows[i], and the rest is forgotten. Cheap where most rows stay in place."""
        targets = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
        sources = rows[targets]
        self.mask = self.mask.index_select(0, rows)
        for layer in self.layers:
            layer.move(sources, targets, len(rows))

    def step_mask(self) -> torch.Tensor:
        """(rows, 1, 1, slots) of 0 and -inf: what the next token may look at."""
        return self.mask[:, None, None, : self.layers[0].filled + 1]

    def stepped(self) -> None:
        """After a forward pass of one token each: nothing to do here."""
