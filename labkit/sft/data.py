"""Demonstrations and pretraining text as token rows, and their batches.

Prompt and response are tokenised apart and joined as ids, exactly as in sampling and in PPO; the loss is on the
response and its end token. Pretraining text is cut into pieces of equal length, with the loss on every token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from labkit.errors import DataError
from labkit.models import encode_prompt, encode_response
from labkit.models.packed import Layout, PackedRows
from labkit.types import Demonstration, listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from labkit.sft.settings import SFTSettings

__all__ = ["Pieces", "check_pieces", "collate_packed", "encode_demonstrations", "mix", "mixed_in", "pretraining_pieces"]

IGNORED = -100  # label of a token that takes no part in the loss


@dataclass(frozen=True)
class Pieces:
    """Token rows of demonstrations: prompt and response ids side by side, and how many demonstrations were dropped."""

    prompts: list[list[int]]
    responses: list[list[int]]
    dropped: int = 0

    def rows(self) -> list[dict[str, list[int]]]:
        """Rows as `SFTTrainer` takes them: `input_ids`, and `labels` that ignore the prompt."""
        return [
            {"input_ids": [*p, *r], "labels": [IGNORED] * len(p) + list(r)}
            for p, r in zip(self.prompts, self.responses, strict=True)
        ]


def encode_demonstrations(
    tokenizer: PreTrainedTokenizerBase,
    demonstrations: Sequence[Demonstration],
    *,
    context: int,
    max_prompt_tokens: int | None = None,
    max_response_tokens: int | None = None,
) -> Pieces:
    """Tokenise; prompts over the limit are dropped and responses cut to theirs, as in the paper (1k and 1k of 2k).

    Raises DataError when there is nothing, or when every prompt is too long or has no token.
    """
    demonstrations = listed(demonstrations, Demonstration, "demonstrations")
    if not demonstrations:
        raise DataError("There are no demonstrations to train on; give at least one (demonstrations.jsonl is empty?).")
    longest, cut = max_prompt_tokens or context // 2, max_response_tokens or context // 2
    if longest + cut > context:
        raise DataError(
            f"max_prompt_tokens {longest} and max_response_tokens {cut} exceed the model's context of {context}; "
            "lower one of them."
        )
    prompts = [encode_prompt(tokenizer, d.prompt.text) for d in demonstrations]
    kept = [i for i, p in enumerate(prompts) if 0 < len(p) <= longest]
    if not kept:
        raise DataError(_none_fits(prompts, longest))
    responses = [encode_response(tokenizer, demonstrations[i].text)[:cut] for i in kept]
    return Pieces([prompts[i] for i in kept], responses, dropped=len(prompts) - len(kept))


def _none_fits(prompts: Sequence[Sequence[int]], longest: int) -> str:
    """Why no prompt can be used."""
    sizes = [len(p) for p in prompts if p]
    empty = len(prompts) - len(sizes)
    if not sizes:
        return (
            f"None of the {empty} prompts has a token: the tokenizer knows none of their words, or they are empty. "
            "Use the model's own tokenizer, or give them a text."
        )
    besides = f", but for {empty} without a token," if empty else ""
    return (
        f"All {len(prompts)} prompts{besides} are longer than {longest} tokens (the shortest has {min(sizes)}); "
        "raise max_prompt_tokens, use a model with a longer context, or shorten the prompts."
    )


def pretraining_pieces(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], length: int, count: int
) -> list[list[int]]:
    """The first `count` pieces of `length` tokens of the texts, which end tokens join.

    Raises DataError when the texts hold fewer.
    """
    if isinstance(texts, str):
        raise DataError(f"The pretraining text is one text of {len(texts)} letters; give a list of texts, as [text].")
    stream: list[int] = []
    for text in texts:
        stream += encode_response(tokenizer, text)
        if len(stream) >= length * count:
            break
    pieces = [stream[i * length : (i + 1) * length] for i in range(min(count, len(stream) // length))]
    if len(pieces) < count:
        raise DataError(
            f"The pretraining text gives {len(pieces)} pieces of {length} tokens, but the mix needs {count}; "
            "give more text, or lower pretrain_share or pretrain_tokens."
        )
    return pieces


def check_pieces(settings: SFTSettings, context: int) -> None:
    """A piece of pretraining text is read as one text, so it must fit the model's context."""
    if settings.pretrain_share and settings.pretrain_tokens > context:
        raise DataError(
            f"Pieces of pretraining text of {settings.pretrain_tokens} tokens (pretrain_tokens) do not fit the model's context of {context}; "
            "use a model with a longer context, or lower pretrain_tokens."
        )


def mixed_in(demonstrations: int, share: float) -> int:
    """How many pretraining examples make up `share` of all when there are so many demonstrations."""
    return max(1, round(demonstrations * share / (1.0 - share))) if share else 0


def mix(
    tokenizer: PreTrainedTokenizerBase, pieces: Pieces, texts: Iterable[str], settings: SFTSettings
) -> list[dict[str, list[int]]]:
    """Demonstration rows plus so many pretraining rows that these make up `pretrain_share` of all examples."""
    rows = pieces.rows()
    count = mixed_in(len(rows), settings.pretrain_share)
    extra = pretraining_pieces(tokenizer, texts, settings.pretrain_tokens, count) if count else []
    return rows + [{"input_ids": ids, "labels": [IGNORED, *ids[1:]]} for ids in extra]  # nothing precedes the first token


def collate_packed(examples: list[dict[str, Any]], device: torch.device) -> dict[str, Any]:
    """Lay a batch end to end for the padding-free pass; the first token of a row is no target (nothing precedes it)."""
    rows = PackedRows.of([e["input_ids"] for e in examples], torch.device("cpu"))
    labels = [token for e in examples for token in [IGNORED, *e["labels"][1:]]]
    return {
        "input_ids": rows.ids[None],  # (1, T)
        "labels": torch.tensor(labels)[None],  # (1, T)
        "position_ids": rows.positions[None],  # (1, T)
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool),  # prepared: the library builds none
        "layout": Layout.of(rows.layout.lengths, device),
    }
