"""Rankings as token rows with their pairs, and batches of whole prompts.

A completion is read once, however many pairs it takes part in, and so is the prompt. Sampled token ids are used as they
are; text that came without ids (people's comparisons) is tokenised like a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from labkit.errors import DataError
from labkit.models import decode, encode_prompt, encode_response
from labkit.types import Completion, Ranking, listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from labkit.reward.settings import RewardSettings

__all__ = ["Ranked", "as_pairs", "collate", "elements_and_batch", "encode_rankings"]


@dataclass(frozen=True)
class Ranked:
    """One ranking as token ids: prompt, ranked responses, and the (preferred, other) pairs by response index."""

    prompt: list[int]
    responses: list[list[int]]
    pairs: list[tuple[int, int]]
    gaps: list[int]  # rank difference of each pair, 1 for neighbours
    weight: float  # of each pair in the loss
    prompt_id: str = ""
    labeler: str = ""


@dataclass
class Dropped:
    """Rankings left out, by reason."""

    all_tied: int = 0
    too_long: int = 0

    def __str__(self) -> str:
        return f"{self.all_tied} without a strict pair (all tied), {self.too_long} with a prompt over the limit"


@dataclass(frozen=True)
class RankedSet:
    """Encoded rankings and what was left out."""

    rows: list[Ranked]
    dropped: Dropped = field(default_factory=Dropped)


def encode_rankings(
    tokenizer: PreTrainedTokenizerBase, rankings: Sequence[Ranking], settings: RewardSettings, context: int, *, what: str = "rankings"
) -> RankedSet:
    """Tokenise rankings. Those with no strict pair, or with too long a prompt, are dropped and counted.

    Raises DataError, calling them `what`, when there are none, or none is left.
    """
    rankings = listed(rankings, Ranking, "rankings")
    if not rankings:
        raise DataError("There are no rankings to learn from; rank some completions first (labels/*.jsonl is empty?).")
    longest = settings.max_prompt_tokens or context // 2
    cut = settings.max_response_tokens or context // 2
    if longest + cut > context:
        raise DataError(
            f"max_prompt_tokens {longest} and max_response_tokens {cut} exceed the model's context of {context}; "
            "lower one of them."
        )
    found = RankedSet([])
    for ranking in rankings:
        prompt = encode_prompt(tokenizer, ranking.prompt.text)
        if not ranking.pairs():
            found.dropped.all_tied += 1
        elif len(prompt) > longest:
            found.dropped.too_long += 1
        else:
            found.rows.append(_ranked(tokenizer, ranking, prompt, cut, settings.normalise))
    if not found.rows:
        raise DataError(
            f"None of the {len(rankings)} {what} can be used: {found.dropped}. "
            "Rank completions apart, or raise max_prompt_tokens."
        )
    return found


def _ranked(
    tokenizer: PreTrainedTokenizerBase, ranking: Ranking, prompt: list[int], cut: int, normalise: str
) -> Ranked:
    """Token rows of the ranked completions (unranked ones take no part) and their strict pairs."""
    ranks, pairs = ranking.ranks, ranking.pairs()
    ranked = [c for c in ranking.completions if c.id in ranks]
    place = {c.id: i for i, c in enumerate(ranked)}
    everything = len(ranked) * (len(ranked) - 1) // 2  # C(K,2)
    return Ranked(
        prompt=prompt,
        responses=[response_ids(tokenizer, c)[:cut] for c in ranked],
        pairs=[(place[a], place[b]) for a, b in pairs],
        gaps=[ranks[b] - ranks[a] for a, b in pairs],
        weight=1.0 / (everything if normalise == "all_pairs" else len(pairs)),
        prompt_id=ranking.prompt.id,
        labeler=ranking.labeler,
    )


def response_ids(tokenizer: PreTrainedTokenizerBase, completion: Completion) -> list[int]:
    """The sampled ids where they are this tokenizer's; else the text's, with an end token unless it was cut short."""
    ids = completion.token_ids
    if ids and max(ids) < len(tokenizer) and decode(tokenizer, list(ids)) == completion.text:
        return list(ids)
    encoded = encode_response(tokenizer, completion.text)
    return encoded[:-1] if completion.finished is False and len(encoded) > 1 else encoded


def as_pairs(rows: Sequence[Ranked]) -> list[Ranked]:
    """Every pair as an element of its own (what the paper found to overfit); each counts alike."""
    return [
        Ranked(row.prompt, [row.responses[a], row.responses[b]], [(0, 1)], [gap], 1.0, row.prompt_id, row.labeler)
        for row in rows
        for (a, b), gap in zip(row.pairs, row.gaps, strict=True)
    ]


def elements_and_batch(rows: Sequence[Ranked], settings: RewardSettings) -> tuple[list[Ranked], int]:
    """Batch elements and how many make a step: whole prompts, or as many single pairs as these hold on average."""
    if settings.batching == "prompts":
        return list(rows), settings.batch_size
    average = sum(len(r.pairs) for r in rows) / len(rows)
    return as_pairs(rows), max(1, round(settings.batch_size * average))


def collate(rows: list[Ranked]) -> dict[str, Any]:
    """A batch of whole prompts: token ids as lists (they are packed later), pairs and weights as tensors."""
    pairs, start = [], 0
    for row in rows:
        pairs += [(start + a, start + b) for a, b in row.pairs]
        start += len(row.responses)
    return {
        "rows": Texts([row.prompt for row in rows], [row.responses for row in rows]),
        "pairs": torch.tensor(pairs),  # (P, 2) preferred, other
        "weights": torch.tensor([row.weight for row in rows for _ in row.pairs]),  # (P,)
        "prompts": torch.tensor(len(rows)),
    }


@dataclass(frozen=True)
class Texts:
    """Token ids of prompts and of each one's responses; no list, so that the Trainer does not walk through the ids."""

    prompts: list[list[int]]
    responses: list[list[list[int]]]
