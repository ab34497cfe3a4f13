"""The cached engine: prompts in one padding-free pass, then one pass of one token per living row and step.

A row that ends leaves the batch, and the last row takes its place. On an accelerator ids, log-probabilities and who has
ended stay there, and the host asks only every few tokens: asking means waiting until all queued work is done. With
`graphs` nothing changes its shape or address between two looks, so that CUDA can replay a step it has recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch

from labkit.models.graphs import recorded
from labkit.models.last_layer import only_needed
from labkit.models.packed import PackedRows
from labkit.models.scoring import batches_by_tokens
from labkit.sampling.cache import RightAlignedCache
from labkit.sampling.choice import Sampled, choose, cut
from labkit.sampling.stops import Stops

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["sample_cached"]

ASK_EVERY = 8  # tokens between two looks at who has ended, on an accelerator; a CPU is asked at every token, for nothing
PROMPT_TOKENS = 4096  # of prompts, in one pass: more is slower on a CPU, whose caches it outgrows
MANY_TOKENS = 2**16  # the same on CUDA
SHRINK_AT = 1 / 2  # share of rows that must have ended before they are dropped, where that means recording a step anew
SHRINK_FOR = 24  # steps that must then be to come
RECORD_FOR = 6  # steps that must be to come for recording one: on an H200 it took as long as two or three plain ones
WARM = 1  # plain steps before one is recorded, after each change of shape
_REFUSED: WeakSet[PreTrainedModel] = WeakSet()  # models whose steps could not be recorded: nobody tries again


def ask_every(device: torch.device) -> int:
    return 1 if device.type == "cpu" else ASK_EVERY


def sample_cached(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    noise: torch.Tensor,
    max_new_tokens: int,
    stops: Stops,
    temperature: float,
    graphs: bool = False,
) -> list[Sampled]:
    """One response per prompt. graphs: steps that a CUDA graph may replay; on a CPU the same steps, not recorded."""
    graphs = graphs and model not in _REFUSED
    batch = _Batch(model, prompts, noise, max_new_tokens, stops, temperature, graphs)
    every, warm, step = ask_every(batch.device), 0, batch.step
    for t in range(1, max_new_tokens):
        if t % every == 0:
            living = batch.look(to_come=max_new_tokens - t)
            if living == 0:
                break
            if living < len(batch):
                batch.drop()
                warm, step = 0, batch.step
        if graphs and warm == WARM and max_new_tokens - t >= RECORD_FOR:
            recording = recorded(batch.step, batch.device)
            if recording is None:
                _REFUSED.add(model)
            step = recording or batch.step
        warm += 1
        step()
    batch.write_back()
    return cut(batch.all_ids.tolist(), batch.all_logprobs.tolist(), stops)


class _Batch:
    """The rows that are being continued. Tensors keep their addresses from one `drop` to the next."""

    def __init__(self, model, prompts, noise, max_new_tokens, stops, temperature, graphs) -> None:
        self.model, self.stops, self.temperature = model, stops, temperature
        self.device = device = model.get_input_embeddings().weight.device
        self.share = SHRINK_AT if graphs else 0.0
        logits, self.cache = _read_prompts(model, prompts, max_new_tokens, device, static=graphs)
        shape = (len(prompts), max_new_tokens)
        self.all_ids, self.all_logprobs = torch.full(shape, stops.eos_id), torch.zeros(shape)
        self.requests = torch.arange(len(prompts))  # (B,) which request each row is; this and the line above on the host
        self.noise = noise.to(device)
        self.ids, self.logprobs = (torch.zeros_like(x, device=device) for x in (self.all_ids, self.all_logprobs))  # (B, R)
        self.positions = torch.tensor([[len(p)] for p in prompts], device=device)  # (B, 1) of the next token
        self.ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        self.place = torch.zeros(1, dtype=torch.long, device=device)  # of the newest token in its response
        self.detect, self.looked = stops.detector(device), 0  # tokens in which stop strings were looked for
        self._append(logits)

    def __len__(self) -> int:
        return len(self.ended)

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
        self._append(logits)

    def _append(self, logits: torch.Tensor) -> None:
        tokens, chosen = choose(logits, self.noise.index_select(1, self.place).squeeze(1), self.temperature)
        self.ids.index_copy_(1, self.place, tokens[:, None])
        self.logprobs.index_copy_(1, self.place, chosen[:, None])
        self.ended.logical_or_(self.detect(self.ids, self.place))

    def look(self, to_come: int) -> int:
        """Ask who has ended: how many rows should go on. The batch as it is, as long as dropping rows would not pay."""
        self.gone = self.ended.cpu()
        if self.stops.strings:
            count = int(self.place) + 1
            rows = zip(self.ids[:, :count].tolist(), self.gone.tolist(), strict=True)
            by_text = torch.tensor([not over and self.stops.by_text(row, since=self.looked) for row, over in rows])
            self.gone, self.looked = self.gone | by_text, count
            self.ended.logical_or_(by_text.to(self.device))
        ended = int(self.gone.sum())
        pays = ended >= self.share * len(self) and (self.share == 0.0 or to_come > SHRINK_FOR)
        return len(self) - ended if ended == len(self) or pays else len(self)

    def drop(self) -> None:
        """Let go of the rows that the last look found ended."""
        self.write_back()
        keep = _fill_gaps(self.gone)
        self.requests, keep = self.requests[keep], keep.to(self.device)
        self.cache.keep_rows(keep)
        for name in ("noise", "ids", "logprobs", "positions", "ended"):
            setattr(self, name, getattr(self, name).index_select(0, keep))

    def write_back(self) -> None:
        """Copy what was drawn to the host, each row to its request."""
        self.all_ids[self.requests], self.all_logprobs[self.requests] = self.ids.cpu(), self.logprobs.cpu()


def _fill_gaps(ended: torch.Tensor) -> torch.Tensor:
    """(B,) which rows ended -> the living rows, the last of them standing in the places of those that ended."""
    living = int((~ended).sum())
    keep = torch.arange(living)
    keep[ended[:living]] = living + (~ended[living:]).nonzero().squeeze(1)
    return keep


def _read_prompts(model, prompts, max_new_tokens, device, *, static: bool) -> tuple[torch.Tensor, RightAlignedCache]:
    """Packed passes over the distinct prompts: (B, V) logits after each prompt, and the filled cache."""
    distinct = {tuple(p): None for p in prompts}
    place = {p: i for i, p in enumerate(distinct)}
    texts, lengths = list(distinct), [len(p) for p in distinct]
    cache = RightAlignedCache(model.config, lengths, max_new_tokens, static)
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
