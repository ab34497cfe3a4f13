"""From prompts to completions with their provenance, and the best of n by a score."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from labkit.errors import DataError
from labkit.models import decode, encode_prompt, model_hash
from labkit.sampling.engine import Engine, check_context, check_model, context_of_model, sample
from labkit.sampling.stops import Stops
from labkit.seeds import derive_seed
from labkit.types import Completion, Prompt, listed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["best_of_n", "complete"]


def complete(
    model: PreTrainedModel | Engine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    n: int = 1,
    max_new_tokens: int = 32,
    temperature: float = 1.0,
    seed: int = 0,
    name: str = "",
    stop: Sequence[str | Sequence[int]] = (),
) -> list[list[Completion]]:
    """Sample n completions for each prompt, each with model, sampling parameters, seed and token ids.

    name: shown as the completion's model; the weights' hash by default, which `sampling` holds in any case.
    stop: strings or lists of token ids that end a response besides the end token. The ids go on to the token that
    completes the stop; the text ends right before a stop string.
    """
    check_model(model)
    prompts = listed(prompts, Prompt, "prompts")
    # a name says which stage, the hash which weights: a stage may be trained again
    weights = model.name if isinstance(model, Engine) else model_hash(model)
    name = name or weights
    seeds = [derive_seed(seed, "complete", p.id, i) for p in prompts for i in range(n)]
    ids = [encode_prompt(tokenizer, p.text) for p in prompts]
    check_context(context_of_model(model), ids, max_new_tokens, [p.text for p in prompts])
    stops = Stops.of(tokenizer.eos_token_id, stop, partial(decode, tokenizer))
    drawn = sample(
        model,
        [row for row in ids for _ in range(n)],
        max_new_tokens=max_new_tokens,
        eos_id=tokenizer.eos_token_id,
        temperature=temperature,
        seeds=seeds,
        stop=stop,
        tokenizer=tokenizer,
    )
    sampling = {"temperature": temperature, "max_new_tokens": max_new_tokens, "weights": weights}
    if stop:
        sampling["stop"] = [s if isinstance(s, str) else list(s) for s in stop]
    flat = [
        Completion(
            id=f"{name}-{prompts[k // n].id}-{k % n}",
            prompt_id=prompts[k // n].id,
            text=stops.shown(decode(tokenizer, s.ids)),
            token_ids=tuple(s.ids),
            finished=s.finished,
            model=name,
            sampling=sampling,
            seed=seeds[k],
        )
        for k, s in enumerate(drawn)
    ]
    return [flat[i : i + n] for i in range(0, len(flat), n)]


def best_of_n(
    completions: Sequence[Sequence[Completion]], score: Callable[[Sequence[Completion]], torch.Tensor]
) -> list[Completion]:
    """For each prompt's completions the one with the highest score; `score` maps a flat list to (N,) scores."""
    flat = [c for group in completions for c in group]
    for i, group in enumerate(completions):
        if not group:
            raise DataError(f"Group {i} has no completion, so it has no best one; sample at least one for each prompt.")
    found = score(flat)
    scores = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(scores, list) or len(scores) != len(flat) or not all(isinstance(s, (int, float)) and math.isfinite(s) for s in scores):
        raise DataError(f"The best of n needs one finite score for each of {len(flat)} completions; the score function gave {found!r:.60}.")
    best, start = [], 0
    for group in completions:
        ranked = scores[start : start + len(group)]
        best.append(group[max(range(len(group)), key=ranked.__getitem__)])
        start += len(group)
    return best
