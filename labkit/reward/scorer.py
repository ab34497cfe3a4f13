"""A reward model as a function of text: what probes, attribution and the inspector's edit box call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labkit.models import encode_prompt, encode_response, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Scorer", "response_ids", "text_scorer"]

#: (prompts, responses, finished) -> one score each; finished says whether the end token follows the response.
Scorer = Callable[[Sequence[str], Sequence[str], Sequence[bool]], list[float]]


def response_ids(tokenizer: PreTrainedTokenizerBase, text: str, finished: bool = True) -> list[int]:
    """Token ids of a response, with the end token only where it ended by itself; an empty response keeps it."""
    ids = encode_response(tokenizer, text)
    return ids if finished or len(ids) == 1 else ids[:-1]


def text_scorer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int = 16384) -> Scorer:
    """`model` as a Scorer: the value at the last real token of prompt + response."""

    def scores(prompts: Sequence[str], responses: Sequence[str], finished: Sequence[bool]) -> list[float]:
        if not prompts:
            return []
        rows = [response_ids(tokenizer, r, f) for r, f in zip(responses, finished, strict=True)]
        return score(model, [encode_prompt(tokenizer, p) for p in prompts], rows, max_tokens=max_tokens).tolist()

    return scores
