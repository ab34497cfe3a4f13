"""The key/value cache of recorded steps: tensors that stay where they are from one call of the sampler to the next.

As in `cache.py` all prompts end at the same slot. But the newest slot is a tensor, attention always reads all slots, and
fewer rows are the first ones of the same tensors: a CUDA graph repeats its kernels on the addresses that it has seen.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from labkit.sampling.cache import RightAlignedCache

__all__ = ["FixedCache"]


class _Layer(CacheLayerMixin):
    """Keys and values of one layer: (rows, heads, slots, head width), of which the first `keys` and `values` are in use."""

    is_sliding = False

    def __init__(self, rows: int, slots: int) -> None:
        super().__init__()
        self.rows, self.slots = rows, slots
        self.next: torch.Tensor | None = None  # (1,) the slot of the next token

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.all_keys, self.all_values = (
            x.new_zeros(self.rows, x.shape[1], self.slots, x.shape[3]) for x in (key_states, value_states)
        )
        self.is_initialized = True

    def take(self, keys: torch.Tensor, values: torch.Tensor, end: int) -> None:
        """What prompts left, (B, H, L, d), comes to the slots up to `end`. All others are zero: what lay there could be NaN."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        for mine, read in ((self.all_keys, keys), (self.all_values, values)):
            mine.zero_()
            mine[: len(read), :, end - read.shape[2] : end] = read

    def update(self, key_states, value_states, *args, **kwargs):
        self.keys.index_copy_(2, self.next, key_states)
        self.values.index_copy_(2, self.next, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.slots

    def get_max_length(self) -> int:
        return self.slots

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.slots, 0


class FixedCache(Cache):
    """A `transformers` cache for up to `rows` prompts of at most `longest` tokens, and up to `new_slots` further ones each."""

    def __init__(self, config, rows: int, longest: int, new_slots: int, device: torch.device) -> None:
        count = config.get_text_config(decoder=True).num_hidden_layers
        super().__init__(layers=[_Layer(rows, longest + new_slots) for _ in range(count)])
        self.longest = longest
        self.next = torch.zeros(1, dtype=torch.long, device=device)
        self.all_masks: torch.Tensor | None = None  # (rows, slots) what is added to attention scores

    def take(self, read: RightAlignedCache, rows: int) -> None:
        """Go on from a cache that has read prompts, one row each. Rows without a prompt look at nothing but zeros."""
        here, there = slice(self.longest - read.longest, self.longest), slice(0, read.longest)
        for layer, other in zip(self.layers, read.layers, strict=True):
            layer.next = self.next
            if other.is_initialized:  # a layer that reads another's keys (Gemma 3n) never is
                layer.take(other.keys[:, :, there], other.values[:, :, there], self.longest)
        if self.all_masks is None:
            self.all_masks = read.mask.new_empty(self.layers[0].rows, self.layers[0].slots)
        self.all_masks.fill_(float("-inf"))
        self.all_masks[: len(read.mask), here] = read.mask[:, there]
        self.all_masks[len(read.mask) :, : self.longest] = 0.0
        self.next.fill_(self.longest)
        self.show(rows)

    def show(self, rows: int) -> None:
        """Only the first so many rows go on."""
        self.mask = self.all_masks[:rows]
        for layer in self.layers:
            if layer.is_initialized:
                layer.keys, layer.values = layer.all_keys[:rows], layer.all_values[:rows]

    def move(self, sources: torch.Tensor, targets: torch.Tensor) -> None:
        """Copy rows `sources` over rows `targets`."""
        held = [x for layer in self.layers if layer.is_initialized for x in (layer.all_keys, layer.all_values)]
        for tensor in (self.all_masks, *held):
            tensor.index_copy_(0, targets, tensor.index_select(0, sources))

    def step_mask(self) -> torch.Tensor:
        """(rows, 1, 1, slots) of 0 and -inf: what the next token may look at, its own slot now among it."""
        return self.mask.index_fill_(1, self.next, 0.0)[:, None, None]

    def stepped(self) -> None:
        """After a forward pass of one token each: on to the next slot."""
        self.next.add_(1)

    @property
    def bytes(self) -> int:
        return sum(x.nbytes for layer in self.layers if layer.is_initialized for x in (layer.all_keys, layer.all_values))
