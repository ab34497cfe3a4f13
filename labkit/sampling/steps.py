"""The cached engine: prompts in one padding-free pass, then one pass of one token per living row and step.

A row that ends leaves the batch, and the last row takes its place. On an accelerator ids, log-probabilities and who has
ended stay there, and the host asks only every few tokens: asking means waiting until all queued work is done. Steps that
CUDA replays are in `replayed.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.models.last_layer import only_needed
from labkit.models.packed import PackedRows
from labkit.models.scoring import batches_by_tokens
from labkit.sampling.cache import RightAlignedCache
from labkit.sampling.choice import Sampled, choose, cut
from labkit.sampling.request import SamplingRequest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.sampling.fixed import FixedCache

__all__ = ["Rows", "ask_every", "read_prompts", "sample_cached"]

ASK_EVERY = {"cpu": 1}  # tokens between two looks at who has ended; on a CPU a look costs nothing,
SELDOM = 8  # on an accelerator it waits for all queued work
PROMPT_TOKENS = 4096  # of prompts, in one pass: more is slower on a CPU, whose caches it outgrows
MANY_TOKENS = 2**16  # the same on CUDA


def ask_every(device: torch.device) -> int:
    """Tokens between two looks at who has ended."""
    return ASK_EVERY.get(device.type, SELDOM)


def sample_cached(model: PreTrainedModel, asked: SamplingRequest) -> list[Sampled]:
    """One response per prompt, rows dropped as soon as they are known to have ended."""
    batch = _Batch(model, asked)
    every = ask_every(batch.device)
    for t in range(1, asked.max_new_tokens):
        if t % every == 0:
            living = batch.look()
            if living == 0:
                break
            if living < len(batch):
                batch.drop()
        batch.step()
    return batch.cut()


class Rows:
    """Rows that are being continued: what a step does with them, and what the host is told of it.

    Whoever makes them fills in: `model`, `temperature`, `device`; `cache`, with the prompts in it; on the device
    `noise`, `ids`, `logprobs` (B, R), `positions` (B, 1) of the next token, `ended` (B,), `place` (1,) of the newest token
    in its response, `detect`; on the host `prompt_of` (B,), which prompt each row continues.
    """

    model: PreTrainedModel
    cache: RightAlignedCache | FixedCache
    temperature: float | torch.Tensor

    def __len__(self) -> int:
        return len(self.ended)

    def expect(self, asked: SamplingRequest) -> None:
        """Its responses will be written to the host."""
        self.stops, shape = asked.stops, (len(asked), asked.max_new_tokens)
        self.all_ids, self.all_logprobs = torch.full(shape, self.stops.eos_id), torch.zeros(shape)
        self.looked = 0  # tokens in which stop strings were looked for

    def step(self) -> None:
        """One more token for each row; the host is not asked."""
        logits = self.model(
            input_ids=self.ids.index_select(1, self.place),
            position_ids=self.positions,
            attention_mask=self.cache.step_mask(),
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        self.cache.stepped()
        self.positions.add_(1)
        self.place.add_(1)
        self.append(logits)

    def append(self, logits: torch.Tensor) -> None:
        """(B, V) logits -> a token for each row."""
        tokens, chosen = choose(logits, self.noise.index_select(1, self.place).squeeze(1), self.temperature)
        self.ids.index_copy_(1, self.place, tokens[:, None])
        self.logprobs.index_copy_(1, self.place, chosen[:, None])
        self.ended.logical_or_(self.detect(self.ids, self.place))

    def look(self) -> int:
        """Ask who has ended; returns how many rows have not."""
        self.gone = self.ended.cpu()
        if self.stops.strings:
            count = int(self.place) + 1
            rows = zip(self.ids[:, :count].tolist(), self.gone.tolist(), strict=True)
            by_text = torch.tensor([not over and self.stops.by_text(row, since=self.looked) for row, over in rows])
            self.gone, self.looked = self.gone | by_text, count
            self.ended.logical_or_(by_text.to(self.device))
        return len(self) - int(self.gone.sum())

    def write_back(self) -> None:
        """Copy what was drawn to the host, each row to its prompt."""
        self.all_ids[self.prompt_of], self.all_logprobs[self.prompt_of] = self.ids.cpu(), self.logprobs.cpu()

    def cut(self) -> list[Sampled]:
        """The responses, each to where it ended."""
        self.write_back()
        return cut(self.all_ids.tolist(), self.all_logprobs.tolist(), self.stops)


class _Batch(Rows):
    """Rows whose tensors are made anew whenever some of them are dropped."""

    def __init__(self, model: PreTrainedModel, asked: SamplingRequest) -> None:
        self.model, self.temperature = model, asked.temperature
        self.device = device = model.get_input_embeddings().weight.device
        logits, self.cache = read_prompts(model, asked.prompts, asked.max_new_tokens, device)
        self.expect(asked)
        self.prompt_of = torch.arange(len(asked))
        self.noise = asked.noise().to(device)
        self.ids, self.logprobs = (torch.zeros_like(x, device=device) for x in (self.all_ids, self.all_logprobs))
        self.positions = torch.tensor(asked.lengths, device=device)[:, None]
        self.ended = torch.zeros(len(asked), dtype=torch.bool, device=device)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.detect = self.stops.detector(device)
        self.append(logits)

    def drop(self) -> None:
        """Let go of the rows that the last look found ended."""
        self.write_back()
        keep = _fill_gaps(self.gone)
        self.prompt_of, keep = self.prompt_of[keep], keep.to(self.device)
        self.cache.keep_rows(keep)
        for name in ("noise", "ids", "logprobs", "positions", "ended"):
            setattr(self, name, getattr(self, name).index_select(0, keep))


def _fill_gaps(ended: torch.Tensor) -> torch.Tensor:
    """(B,) which rows ended -> the living rows, the last of them standing in the places of those that ended."""
    living = int((~ended).sum())
    keep = torch.arange(living)
    keep[ended[:living]] = living + (~ended[living:]).nonzero().squeeze(1)
    return keep


def read_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], new_slots: int, device: torch.device
) -> tuple[torch.Tensor, RightAlignedCache]:
    """Packed passes over the distinct prompts: (B, V) logits after each prompt, and the filled cache, with room for `new_slots`."""
    distinct = {tuple(p): None for p in prompts}
    place = {p: i for i, p in enumerate(distinct)}
    texts, lengths = list(distinct), [len(p) for p in distinct]
    cache = RightAlignedCache(model.config, lengths, new_slots)
    order, parts = [], []
    for batch in batches_by_tokens(lengths, MANY_TOKENS if device.type == "cuda" else PROMPT_TOKENS):
        cache.read_next(batch, device)
        parts.append(_read_batch(model, [texts[i] for i in batch], cache, device))
        order += batch
    rows = torch.tensor([place[tuple(p)] for p in prompts])
    cache.start_steps(None if len(distinct) == len(prompts) else rows.to(device))
    return torch.cat(parts)[torch.tensor(order).argsort()[rows].to(device)], cache


def _read_batch(model, prompts, cache, device) -> torch.Tensor:
    """One packed pass into the cache: (rows, V) logits after each prompt."""
    rows = PackedRows.of(prompts, device)
    last = (torch.tensor(rows.layout.lengths).cumsum(0) - 1).to(device)
    with only_needed(model, last):
        return model(
            input_ids=rows.ids[None],
            position_ids=rows.positions[None],
            attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
            layout=rows.layout,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last,
        ).logits[0]
