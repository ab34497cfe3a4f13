"""Sampling steps that CUDA replays, recorded once for all calls of the sampler that a model may still see.

A GPU waits for Python between the many small kernels of a step, and recording a step costs as much as two or three of
them. So rows are continued in tensors that stay (a `Bench`): the next call fills them anew and finds the steps recorded.
When enough rows have ended, the living ones move to the front and steps of fewer rows go on.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

import torch

from labkit.models.graphs import recorded, rounded
from labkit.models.replica import Replica
from labkit.sampling.choice import Sampled
from labkit.sampling.fixed import FixedCache
from labkit.sampling.request import SamplingRequest
from labkit.sampling.steps import Rows, ask_every, read_prompts, sample_cached

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["rows_at_most", "sample_replayed"]

SIZES = 2  # numbers of rows an octave for which steps are recorded: 512, 384, 256, 192, ...
KEEP_SHARE, KEEP_BYTES = 16, 2 * 2**30  # of a GPU's memory, what a model's caches may hold between two calls (halves come on top)
KEEP = 8  # benches of a model at most
RECORD_FOR = 6  # steps that must be to come for recording one in the first call: on an H200 it took as long as two or three plain ones
SHRINK_FOR = 24  # steps that must be to come for recording one of fewer rows in the first call
WARM = 1  # plain steps of a number of rows before one is recorded
NOBODY = -1  # the prompt of a row that has none
ANY = "any"  # temperature but 0 and 1
_REFUSED: WeakSet[PreTrainedModel] = WeakSet()  # models whose steps could not be recorded: nobody tries again


def sample_replayed(model: PreTrainedModel, asked: SamplingRequest) -> list[Sampled]:
    """One response per prompt, by steps that a CUDA graph may replay; on a CPU the same steps, not recorded."""
    if model in _REFUSED:
        return sample_cached(model, asked)
    bench = _bench(model, asked)
    bench.begin(asked)
    every = ask_every(bench.device)
    for t in range(1, asked.max_new_tokens):
        if t % every == 0:
            living = bench.look()
            if living == 0:
                break
            bench.shrink_to(living, to_come=asked.max_new_tokens - t)
        bench.go_on(to_come=asked.max_new_tokens - t)
    found = bench.cut()
    _keep(model, bench)
    return found


def rows_at_most(rows: int) -> int:
    """The largest number of rows for which steps are recorded that is no larger than this one."""
    step = max(1, 2 ** (rows.bit_length() - 1) // SIZES)
    return rows // step * step


class Bench(Rows):
    """Tensors for up to `rows` rows with prompts of up to `longest` tokens, and the steps recorded on them."""

    def __init__(self, replica: Replica, rows: int, longest: int, asked: SamplingRequest) -> None:
        self.replica, self.model = replica, replica.module
        self.device = device = self.model.get_input_embeddings().weight.device
        self.max_new_tokens, self.ends, self.heat = _recorded_of(asked)
        self.temperature = torch.ones((), device=device) if self.heat == ANY else asked.temperature
        self.longest, self.detect = longest, asked.stops.detector(device)
        self.cache = FixedCache(self.model.config, rows, longest, asked.max_new_tokens, device)
        self.place = torch.zeros(1, dtype=torch.long, device=device)
        self.whole = {  # all rows; the attributes of these names are the first rows of them
            "noise": torch.zeros(rows, asked.max_new_tokens, device=device),
            "ids": torch.zeros(rows, asked.max_new_tokens, dtype=torch.long, device=device),
            "logprobs": torch.zeros(rows, asked.max_new_tokens, device=device),
            "positions": torch.zeros(rows, 1, dtype=torch.long, device=device),
            "ended": torch.zeros(rows, dtype=torch.bool, device=device),
        }
        self.steps: dict[int, Callable[[], object]] = {}  # recorded ones, by the number of rows
        self.ran: Counter[int] = Counter()  # plain ones
        self.calls, self.refused = 0, False

    def fits(self, asked: SamplingRequest) -> bool:
        """Whether there is room for it, and not far too much, and its steps are the recorded ones."""
        same = (self.max_new_tokens, self.ends, self.heat) == _recorded_of(asked)
        rows, longest = len(asked), max(asked.lengths)
        return same and rows <= len(self.whole["ids"]) < 2 * rows and longest <= self.longest < 2 * longest + 16

    def begin(self, asked: SamplingRequest) -> None:
        """Read the prompts and choose the first token of each response. Rows without a prompt have ended."""
        count = len(asked)
        self.calls += 1
        if self.heat == ANY:
            self.temperature.fill_(asked.temperature)
        self.replica.refresh()
        logits, read = read_prompts(self.model, asked.prompts, 0, self.device)
        self.expect(asked)
        self.whole["noise"][:count].copy_(asked.noise(), non_blocking=True)
        self.whole["positions"][:count].copy_(torch.tensor(asked.lengths)[:, None], non_blocking=True)
        self.whole["ended"].zero_()
        self.place.zero_()
        self.cache.take(read, rows=count)
        self._show(count)
        self.append(logits)
        self.whole["positions"][count:] = 1
        self.whole["ended"][count:] = True
        self._show(len(self.whole["ids"]))
        self.prompt_of = torch.full((len(self),), NOBODY)
        self.prompt_of[:count] = torch.arange(count)

    def shrink_to(self, living: int, to_come: int) -> None:
        """Let go of rows that have ended, where steps of fewer rows are recorded or recording them will pay."""
        fewer = rounded(living, SIZES)
        if fewer < len(self) and (fewer in self.steps or self.calls > 1 or to_come > SHRINK_FOR):
            self.write_back()
            sources = fewer + (~self.gone[fewer:]).nonzero().squeeze(1)
            targets = self.gone[:fewer].nonzero().squeeze(1)[: len(sources)]
            self.prompt_of[targets] = self.prompt_of[sources]
            self.prompt_of = self.prompt_of[:fewer]
            sources, targets = sources.to(self.device), targets.to(self.device)
            self.cache.move(sources, targets)
            for tensor in self.whole.values():
                tensor.index_copy_(0, targets, tensor.index_select(0, sources))
            self._show(fewer)

    def go_on(self, to_come: int) -> None:
        """One more token for each row, by a recorded step where there is one or recording it pays."""
        rows = len(self)
        pays = to_come >= RECORD_FOR or self.calls > 1
        if rows not in self.steps and self.ran[rows] >= WARM and pays and not self.refused:
            step = recorded(self.step, self.device)
            if step is None:
                self.refused = True
            else:
                self.steps[rows] = step
        if rows in self.steps:
            self.steps[rows]()
        else:
            self.ran[rows] += 1
            self.step()

    def write_back(self) -> None:
        used = self.prompt_of != NOBODY
        prompts = self.prompt_of[used]
        self.all_ids[prompts], self.all_logprobs[prompts] = self.ids.cpu()[used], self.logprobs.cpu()[used]

    def _show(self, rows: int) -> None:
        """Only the first so many rows go on."""
        self.cache.show(rows)
        for name, tensor in self.whole.items():
            setattr(self, name, tensor[:rows])


class _Benches(threading.local):
    """Of one thread, since what it records shares memory that no other may use meanwhile."""

    def __init__(self) -> None:
        self.of: WeakKeyDictionary[PreTrainedModel, list[Bench]] = WeakKeyDictionary()  # those used last come last


_BENCHES = _Benches()


def _bench(model: PreTrainedModel, asked: SamplingRequest) -> Bench:
    """One that is there already, where it has room and the model is as it was; else a new one."""
    device = model.get_input_embeddings().weight.device
    kept = [b for b in _BENCHES.of.pop(model, []) if b.replica.still_of(model, device)]
    if kept:
        _BENCHES.of[model] = kept
    for bench in kept:
        if bench.fits(asked):
            return bench
    replica = kept[0].replica if kept else Replica(model, device)
    return Bench(replica, rounded(len(asked), SIZES), rounded(max(16, *asked.lengths)), asked)


def _keep(model: PreTrainedModel, bench: Bench) -> None:
    """For the next call; the ones used longest ago go where there are too many, and one that is too large goes alone.

    Adapters may be off next time: none is kept. Nor is any of a model whose steps could not be recorded.
    """
    if bench.refused:
        _REFUSED.add(model)
        _BENCHES.of.pop(model, None)
    adapters = hasattr(model, "disable_adapter") or getattr(model, "_hf_peft_config_loaded", False)
    if bench.refused or adapters or bench.cache.bytes > (most := _keep_bytes(bench.device)):
        return
    kept = [*(b for b in _BENCHES.of.get(model, []) if b is not bench), bench][-KEEP:]
    while sum(b.cache.bytes for b in kept) > most:
        del kept[0]
    _BENCHES.of[model] = kept


def _keep_bytes(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory // KEEP_SHARE if device.type == "cuda" else KEEP_BYTES


def _recorded_of(asked: SamplingRequest) -> tuple[int, tuple[int, tuple[tuple[int, ...], ...]], float | str]:
    """What of a request is part of a recorded step: its length, what `detect` looks for, and its temperature: 0, 1 or any other."""
    heat = asked.temperature if asked.temperature in (0, 1) else ANY
    return asked.max_new_tokens, (asked.stops.eos_id, asked.stops.sequences), heat
