"""Packed rows of token ids from the corpus: for pretraining, for the pretraining mix of SFT and for PPO-ptx.

Every row begins with a new document, since prompts begin at position 0 too; documents are joined by the end token and
the last one is cut at the row's end, so that there is no padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

from labkit.errors import ModelError
from labkit.seeds import derive_seed
from labkit.world.corpus import documents
from labkit.world.facts import World

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["corpus_stream", "packed_rows"]


def packed_rows(
    world: World, tokenizer: PreTrainedTokenizerBase, rows: int, length: int = 256, seed: int = 0, split: str = "train"
) -> torch.Tensor:
    """Return (rows, length) int64 token ids of fresh corpus documents; the same arguments give the same rows."""
    import torch

    if tokenizer.eos_token_id is None:
        raise ModelError("The tokenizer has no end token, so documents cannot be joined; set tokenizer.eos_token.")
    stream = _encoded(world, tokenizer, seed, split)
    packed = torch.empty(rows, length, dtype=torch.int64)  # (N, T)
    for i in range(rows):
        row: list[int] = []
        while len(row) < length:
            row += next(stream)
        packed[i] = torch.tensor(row[:length])
    return packed


def corpus_stream(
    world: World, tokenizer: PreTrainedTokenizerBase, rows: int, length: int = 256, seed: int = 0
) -> Iterator[torch.Tensor]:
    """Yield batches of (rows, length) token ids without end; batch i depends on (seed, i) only."""
    for i in count():
        yield packed_rows(world, tokenizer, rows, length, derive_seed(seed, "corpus stream", i))


def _encoded(
    world: World, tokenizer: PreTrainedTokenizerBase, seed: int, split: str, chunk: int = 64
) -> Iterator[list[int]]:
    """Documents as token ids, each closed by the end token; encoded in chunks for speed."""
    texts = documents(world, seed, split=split)
    while True:
        batch = [next(texts) for _ in range(chunk)]
        for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]:
            yield [*ids, tokenizer.eos_token_id]
