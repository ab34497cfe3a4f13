"""Sampling from any causal LM of `transformers`: cached, ragged, and done with a row as soon as it ends.

Prompts are read in one padding-free pass that fills a preallocated, right-aligned cache (`cache.py`); then each step
is one forward pass of one token per living row: a row that ends leaves the batch, and the last row takes its place.
On an accelerator ids, log-probabilities and who has ended stay there, and the host asks only every few tokens: asking
means waiting until all queued work is done. Token t of request i is chosen by a uniform number drawn from (seeds[i], t)
alone, so a completion does not depend on which others share its batch, nor on how often the host asks.
No top-k, no top-p (paper: the policy's own distribution). Models without the lab's attention go through `generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from labkit.errors import DataError
from labkit.models.packed import LAB_ATTENTION, Layout
from labkit.models.scoring import batches_by_tokens
from labkit.sampling.cache import RightAlignedCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Sampled", "sample"]

ROWS, CACHE_BYTES = 512, 8 * 2**30  # rows sampled together, and the memory that their cache may take
ASK_EVERY = 8  # tokens between two looks at who has ended, on an accelerator; a CPU is asked at every token, for nothing
PROMPT_TOKENS = 4096  # of prompts, in one pass: more is slower on a CPU, whose caches it outgrows


@dataclass(frozen=True)
class Sampled:
    """One sampled response: its ids (with the end token, if it came), their log-probabilities, whether it ended by itself."""

    ids: list[int]
    logprobs: list[float]
    finished: bool


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int,
    seeds: Sequence[int],
    temperature: float = 1.0,
    max_rows: int | None = None,
) -> list[Sampled]:
    """Sample one response per prompt (lists of token ids); temperature 0 takes the likeliest token.

    seeds: one per prompt. Repeat a prompt, with different seeds, for several responses: it is read only once.
    max_rows: most rows at a time; None: 512, or fewer where their cache would exceed 8 GiB.
    Log-probabilities are of the distribution sampled from (logits / temperature, fp32), or at temperature 0 of the model's own.
    """
    if not prompts or not all(len(p) for p in prompts):
        raise DataError(
            "There is nothing to sample from: the list of prompts is empty or holds an empty prompt. Give each at least one token."
        )
    if len(seeds) != len(prompts):
        raise DataError(f"{len(prompts)} prompts came with {len(seeds)} seeds; give one seed per prompt.")
    limit = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(p) for p in prompts)
    if limit is not None and longest + max_new_tokens > limit:
        raise DataError(
            f"A prompt of {longest} tokens and {max_new_tokens} new ones do not fit the context of {limit}; "
            "drop the prompt, or lower max_new_tokens."
        )
    engine = _sample_cached if model.config._attn_implementation == LAB_ATTENTION else _sample_by_generate
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), tuple(prompts[i])))
    out: list[Sampled | None] = [None] * len(prompts)
    at_once = max_rows or _rows_at_once(model, longest + max_new_tokens)
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        noise = _noise([seeds[i] for i in rows], max_new_tokens)
        chunk = engine(model, [prompts[i] for i in rows], noise, max_new_tokens, eos_id, temperature)
        for i, sampled in zip(rows, chunk, strict=True):
            out[i] = sampled
    return out  # type: ignore[return-value]


def _rows_at_once(model: PreTrainedModel, slots: int) -> int:
    """As many rows as pay, or as their keys and values leave room for."""
    text = model.config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_row = 2 * text.num_hidden_layers * heads * width * slots * model.dtype.itemsize
    return max(1, min(ROWS, CACHE_BYTES // per_row))


def _noise(seeds: Sequence[int], steps: int) -> torch.Tensor:
    """(rows, steps) uniform numbers in [0, 1), each row from its own seed."""
    generator = torch.Generator()
    return torch.stack([torch.rand(steps, generator=generator.manual_seed(seed)) for seed in seeds])


def choose(logits: torch.Tensor, noise: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, V) logits and (B,) uniform numbers -> (B,) token ids and (B,) their log-probabilities, by inverting the CDF."""
    logits = logits.float()
    if temperature > 0:
        logprobs = torch.log_softmax(logits / temperature, dim=-1)
        cdf = logprobs.exp().cumsum(dim=-1)
        ids = torch.searchsorted(cdf, (noise.to(cdf.device) * cdf[:, -1])[:, None], right=True).squeeze(1)
        ids = ids.clamp_(max=logits.shape[-1] - 1)
    else:
        logprobs = torch.log_softmax(logits, dim=-1)
        ids = logprobs.argmax(dim=-1)
    return ids, logprobs.gather(1, ids[:, None]).squeeze(1)


def _ask_every(device: torch.device) -> int:
    return 1 if device.type == "cpu" else ASK_EVERY


def _sample_cached(model, prompts, noise, max_new_tokens, eos_id, temperature) -> list[Sampled]:
    device = model.get_input_embeddings().weight.device
    logits, cache = _read_prompts(model, prompts, max_new_tokens, device)
    rows = torch.arange(len(prompts), device=device)  # (B,) which request each row of the batch is
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)  # (B,) rows that go on only until the next look
    positions = torch.tensor([len(p) for p in prompts], device=device)
    ids = torch.full((len(prompts), max_new_tokens), eos_id, device=device)
    logprobs = torch.zeros(len(prompts), max_new_tokens, device=device)
    noise, every = noise.to(device), _ask_every(device)
    for t in range(max_new_tokens):
        tokens, chosen = choose(logits, noise[rows, t], temperature)
        ids[rows, t], logprobs[rows, t] = tokens, chosen
        ended |= tokens == eos_id
        if t + 1 == max_new_tokens:
            break
        if (t + 1) % every == 0:
            gone = ended.cpu()
            if gone.all():
                break
            if gone.any():
                keep = _fill_gaps(gone).to(device)
                cache.keep_rows(keep)
                rows, ended, tokens, positions = rows[keep], ended[keep], tokens[keep], positions[keep]
        logits = _step(model, tokens, positions, cache)
        positions = positions + 1
    return _cut(ids.cpu(), logprobs.cpu(), eos_id)


def _step(model, tokens: torch.Tensor, positions: torch.Tensor, cache: RightAlignedCache) -> torch.Tensor:
    """One more token for each row: (B, V) logits of the next."""
    return model(
        input_ids=tokens[:, None],
        position_ids=positions[:, None],
        attention_mask=cache.step_mask(),
        past_key_values=cache,
        use_cache=True,
    ).logits[:, -1]


def _cut(ids: torch.Tensor, logprobs: torch.Tensor, eos_id: int) -> list[Sampled]:
    """Each row to its first end token: what came after it, before anyone looked, never was."""
    ends = ids == eos_id
    finished = ends.any(1)
    lengths = torch.where(finished, ends.int().argmax(1) + 1, ids.shape[1])
    return [
        Sampled(ids[i, :n].tolist(), logprobs[i, :n].tolist(), done)
        for i, (n, done) in enumerate(zip(lengths.tolist(), finished.tolist(), strict=True))
    ]


def _fill_gaps(ended: torch.Tensor) -> torch.Tensor:
    """(B,) which rows ended -> the living rows, the last of them standing in the places of those that ended."""
    living = int((~ended).sum())
    keep = torch.arange(living)
    keep[ended[:living]] = living + (~ended[living:]).nonzero().squeeze(1)
    return keep


def _read_prompts(model, prompts, max_new_tokens, device) -> tuple[torch.Tensor, RightAlignedCache]:
    """Packed passes over the distinct prompts: (B, V) logits after each prompt, and the filled cache."""
    distinct = {tuple(p): None for p in prompts}
    place = {p: i for i, p in enumerate(distinct)}
    texts, lengths = list(distinct), [len(p) for p in distinct]
    cache = RightAlignedCache(model.config, lengths, max_new_tokens)
    order, parts = [], []
    for batch in batches_by_tokens(lengths, PROMPT_TOKENS):
        cache.read_next(batch)
        parts.append(_read_batch(model, [texts[i] for i in batch], cache, device))
        order += batch
    rows = torch.tensor([place[tuple(p)] for p in prompts])
    cache.start_steps(None if len(distinct) == len(prompts) else rows.to(device))
    return torch.cat(parts)[torch.tensor(order).argsort()[rows].to(device)], cache


def _read_batch(model, prompts, cache, device) -> torch.Tensor:
    """One packed pass into the cache: (rows, V) logits after each prompt."""
    lengths = [len(p) for p in prompts]
    last = torch.tensor(lengths).cumsum(0) - 1
    return model(
        input_ids=torch.tensor([t for p in prompts for t in p], device=device)[None],
        position_ids=torch.cat([torch.arange(n) for n in lengths])[None].to(device),
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        layout=Layout.of(lengths, device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last.to(device),
    ).logits[0]


class _ChooseByNoise(LogitsProcessor):
    """Makes greedy `generate` follow our own choice, token by token, and remembers its log-probabilities."""

    def __init__(self, noise: torch.Tensor, prompt_length: int, temperature: float) -> None:
        self.noise, self.prompt_length, self.temperature = noise, prompt_length, temperature
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ids, logprobs = choose(scores, self.noise[:, input_ids.shape[1] - self.prompt_length], self.temperature)
        self.logprobs.append(logprobs.cpu())
        return torch.full_like(scores, float("-inf")).scatter(1, ids[:, None], 0.0)


def _sample_by_generate(model, prompts, noise, max_new_tokens, eos_id, temperature) -> list[Sampled]:
    """The plain path through the library's own `generate`, left-padded: slower, same distribution and same noise."""
    device = model.get_input_embeddings().weight.device
    longest = max(len(p) for p in prompts)
    mask = torch.arange(longest) >= longest - torch.tensor([len(p) for p in prompts])[:, None]  # (B, L)
    ids = torch.full((len(prompts), longest), eos_id)
    ids[mask] = torch.tensor([t for p in prompts for t in p])
    chooser = _ChooseByNoise(noise, longest, temperature)
    out = model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.long().to(device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        eos_token_id=eos_id,
        pad_token_id=eos_id,
        logits_processor=LogitsProcessorList([chooser]),
    )[:, longest:].cpu()
    logprobs = torch.stack(chooser.logprobs, dim=1)
    result = []
    for row, row_logprobs in zip(out.tolist(), logprobs.tolist(), strict=True):
        n = row.index(eos_id) + 1 if eos_id in row else len(row)
        result.append(Sampled(row[:n], row_logprobs[:n], row[n - 1] == eos_id))
    return result
