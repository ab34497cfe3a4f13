"""Sampling from any causal LM of `transformers`, or from an engine of its own kind: one door for the whole lab.

Token t of request i is chosen by a uniform number drawn from (seeds[i], t) alone, so a completion does not depend on
which others share its batch, nor on how often the host asks. No top-k, no top-p (paper: the policy's own distribution).
Models with the lab's attention are sampled by `steps.py`, on CUDA by `replayed.py`, others through `generate` (`plain.py`),
servers by `remote.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from labkit.errors import DataError, ModelError, SettingsError
from labkit.models import context_of, decode
from labkit.models.graphs import graphs_pay
from labkit.models.lean import lean
from labkit.models.packed import LAB_ATTENTION
from labkit.models.precision import chosen_precision
from labkit.sampling.choice import Sampled
from labkit.sampling.plain import sample_by_generate
from labkit.sampling.replayed import rows_at_most, sample_replayed
from labkit.sampling.request import SamplingRequest
from labkit.sampling.steps import sample_cached
from labkit.sampling.stops import Stops
from labkit.seeds import checked_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Engine", "sample"]

ROWS, CACHE_BYTES = 512, 8 * 2**30  # rows sampled together, and the memory that their cache may take
SHOWN = 8  # ids of a prompt that an error names


@runtime_checkable
class Engine(Protocol):
    """What samples in place of a model: a server, or another library. It keeps the stop rules; its noise is its own.

    Any object with these three parts is one. name: stands as the completions' model. context: the most tokens of prompt and
    response together, None where it is unknown. draw: one `Sampled` for each of `asked.prompts`, in order.
    """

    name: str
    context: int | None  # the most tokens of prompt and response together; None: unknown

    def draw(self, asked: SamplingRequest) -> list[Sampled]:
        """One response to each prompt, in order, of at most `asked.max_new_tokens` tokens, cut where `asked.stops` says."""


@torch.no_grad()
def sample(
    model: PreTrainedModel | Engine,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int,
    seeds: Sequence[int],
    temperature: float = 1.0,
    stop: Sequence[Sequence[int] | str] = (),
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_rows: int | None = None,
) -> list[Sampled]:
    """Sample one response per prompt (lists of token ids); temperature 0 takes the likeliest token.

    seeds: one per prompt. Repeat a prompt, with different seeds, for several responses: it is read only once.
    stop: what ends a response besides `eos_id`, lists of token ids or strings (these need the tokenizer). The response
    ends with the token that completes a stop, and holds it.
    max_rows: most rows at a time; None: 512, or fewer where their cache would exceed 8 GiB.
    Log-probabilities are of the distribution sampled from (logits / temperature, fp32), or at temperature 0 of the model's own.
    """
    stops = Stops.of(eos_id, stop, partial(decode, tokenizer) if tokenizer is not None else None)
    check_model(model)
    prompts, seeds = _rows(model, prompts), _seeds(seeds)
    _check(prompts, seeds)
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, Integral) or max_new_tokens < 1:
        raise SettingsError(f"max_new_tokens is {max_new_tokens}; a response has at least one token, so give 1 or more.")
    if not isinstance(temperature, Real) or not 0 <= temperature < math.inf:
        raise SettingsError(f"temperature is {temperature}; give 0 (always the likeliest token) or a number above it (1 samples as the model says).")
    check_context(context_of_model(model), prompts, max_new_tokens)
    asked = SamplingRequest(prompts, seeds, max_new_tokens, stops, temperature)
    if isinstance(model, Engine):
        return _drawn(model, asked)
    engine = _way(model)
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), tuple(prompts[i])))
    out: list[Sampled | None] = [None] * len(prompts)
    at_once = max_rows or _rows_at_once(model, max(asked.lengths) + max_new_tokens)
    at_once = rows_at_most(at_once) if engine is sample_replayed else at_once
    with lean(model), chosen_precision(model.get_input_embeddings().weight.device):
        for start in range(0, len(order), at_once):
            rows = order[start : start + at_once]
            for i, sampled in zip(rows, engine(model, asked.only(rows)), strict=True):
                out[i] = sampled
    return out  # type: ignore[return-value]


def _way(model: PreTrainedModel) -> Callable[[PreTrainedModel, SamplingRequest], list[Sampled]]:
    """The function that samples from this model: `generate`, cached steps, or steps that CUDA replays."""
    if model.config._attn_implementation != LAB_ATTENTION:
        return sample_by_generate
    sharded = any(kind.__name__ == "FSDPModule" for kind in type(model).__mro__)  # its weights come and go
    plain = not sharded and all(type(p) is torch.nn.Parameter for p in model.parameters())  # none is quantised, say
    return sample_replayed if plain and graphs_pay(model.get_input_embeddings().weight.device) else sample_cached


def check_model(model: PreTrainedModel | Engine) -> None:
    """Raises ModelError where this can be sampled from neither as a language model nor as an engine."""
    if isinstance(model, Engine):
        return
    if not hasattr(model, "get_output_embeddings"):
        raise ModelError(f"{model!r:.60} cannot be sampled from; give a model (load_policy), or an engine: an object with name, context and draw(asked).")
    if model.get_output_embeddings() is None:
        raise ModelError(f"{type(model).__name__} is no language model: it has no head over the vocabulary. Give a policy, as load_policy(path) loads it.")


def _rows(model: PreTrainedModel | Engine, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The prompts as lists of ids, also from tensors and arrays; raises DataError where one is no ids of this model."""
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in prompts]
    most = math.inf if isinstance(model, Engine) else len(model.get_input_embeddings().weight)
    for i, row in enumerate(rows):
        if isinstance(row, str) or not isinstance(row, Sequence) or not all(isinstance(t, Integral) for t in row):
            raise DataError(f"Prompt {i} is {row!r:.60}; give each prompt's token ids, as labkit.models.encode_prompt(tokenizer, text) makes them.")
        if row and not 0 <= min(row) <= max(row) < most:
            wrong = max(row) if min(row) >= 0 else min(row)
            raise DataError(f"Prompt {i} holds the id {wrong}, beyond the model's vocabulary of {most}; use the model's own tokenizer.")
    return rows


def _seeds(seeds: Sequence[int]) -> list[int]:
    seeds = seeds.tolist() if hasattr(seeds, "tolist") else seeds
    if not isinstance(seeds, Iterable):
        raise SettingsError(f"seeds is {seeds!r:.60}; give a list of whole numbers, one per prompt.")
    return [checked_seed(seed, f"seeds[{i}]") for i, seed in enumerate(seeds)]


def _drawn(engine: Engine, asked: SamplingRequest) -> list[Sampled]:
    """What the engine answers; raises ModelError where that is not one whole response to each prompt."""
    found = engine.draw(asked)
    found = list(found) if isinstance(found, Iterable) else found
    if not isinstance(found, list) or len(found) != len(asked) or not all(isinstance(s, Sampled) for s in found):
        shown = f"{len(found)} answers" if isinstance(found, list) else repr(found)
        raise ModelError(f"The engine {engine.name} gave {shown} to {len(asked)} prompts; draw must return one Sampled(ids, logprobs, finished) for each.")
    for i, s in enumerate(found):
        if not 1 <= len(s.ids) <= asked.max_new_tokens or len(s.logprobs) != len(s.ids):
            raise ModelError(
                f"The engine {engine.name} answered prompt {i} with {len(s.ids)} tokens and {len(s.logprobs)} log-probabilities; a response has "
                f"1 to max_new_tokens ({asked.max_new_tokens}) tokens and a log-probability of each."
            )
    return found


def _check(prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> None:
    if not prompts or not all(len(p) for p in prompts):
        raise DataError(
            "There is nothing to sample from: the list of prompts is empty or holds an empty prompt. Give each at least one token."
        )
    if len(seeds) != len(prompts):
        raise DataError(f"{len(prompts)} prompts came with {len(seeds)} seeds; give one seed per prompt.")


def context_of_model(model: PreTrainedModel | Engine) -> int | None:
    """How many tokens prompt and response may have together; None: no limit is known."""
    return model.context if isinstance(model, Engine) else context_of(model)


def check_context(
    limit: int | None, prompts: Sequence[Sequence[int]], max_new_tokens: int, texts: Sequence[str] | None = None
) -> None:
    """Raises DataError naming the first prompt that is too long: by its first words where there are texts, else its first ids."""
    room = (limit or 0) - max_new_tokens
    i = next((i for i, p in enumerate(prompts) if limit is not None and len(p) > room), None)
    if i is None:
        return
    ids = " ".join(map(str, prompts[i][:SHOWN]))
    begins = f'"{" ".join(texts[i].split()[:SHOWN])} ..."' if texts else f"ids {ids} ..."
    many = sum(len(p) > room for p in prompts) - 1
    others = f" ({many} more are too long)" if many else ""
    remedy = f"shorten the prompt to {room}, or drop it" if room > 0 else "sample fewer tokens"
    raise DataError(
        f"Prompt {i} ({begins}) has {len(prompts[i])} tokens{others}: with {max_new_tokens} new ones they do not fit the context of "
        f"{limit}; {remedy}, or lower max_new_tokens."
    )


def _rows_at_once(model: PreTrainedModel, slots: int) -> int:
    """As many rows as pay, or as their keys and values leave room for."""
    text = model.config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", 0)
    if not heads:
        return ROWS  # no keys and values: a recurrent model's state does not grow
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_row = 2 * text.num_hidden_layers * heads * width * slots * model.dtype.itemsize
    return max(1, min(ROWS, CACHE_BYTES // per_row))
