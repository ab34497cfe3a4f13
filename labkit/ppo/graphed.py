"""Backward passes that CUDA replays: on a GPU a small model waits for Python between its thousands of kernels.

A CUDA graph repeats the very same kernels on the very same addresses. So each minibatch is copied into tensors that
stay, padded up to one of a few sizes; the graph of a size is recorded after that size has come twice, and what it
computes is what the same function computes kernel by kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from labkit.models.graphs import recorded, rounded
from labkit.models.layout import Ends
from labkit.models.packed import PackedRows
from labkit.ppo.passes import Episodes, episodes_backward, pretraining_backward

if TYPE_CHECKING:
    from labkit.knobs import PPOKnobs
    from labkit.ppo.state import State

__all__ = ["GradientGraphs", "Padded", "replayed_episodes", "replayed_pretraining"]

MOST = 16  # recorded sizes that are kept, those that came last
TILE = 128  # the longest row counts in these: flash attention works on as many tokens at a time
WARM = 1  # runs kernel by kernel before one is recorded
ROOM = 1.34  # a recorded size that is so much larger will do,
OFTEN = 8  # until its own has been asked for so often: recording costs as much as several replays

Tensors = dict[str, torch.Tensor]
EPISODES, PRETRAINING = "episodes", "pretraining"  # what is replayed


class GradientGraphs:
    """Runs functions that add to gradients, and replays them where they come again in the same size.

    parameters: all that such a function may add a gradient to.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], device: torch.device) -> None:
        self.parameters, self.device = list(parameters), device
        self.refused = False  # recording failed once: everything runs kernel by kernel
        self._came: Counter[Hashable] = Counter()  # how often each size did, before it was recorded
        self._slots: dict[Hashable, _Slot] = {}  # recorded ones, the newest used last
        self._homes: list[tuple[torch.nn.Parameter, torch.Tensor]] = []  # where recorded kernels add gradients
        self._asked: Counter[tuple[int, ...]] = Counter()  # how often each size of episodes was

    def size_for(self, *size: int) -> tuple[int, ...]:
        """The size to pad episodes to: the least recorded one with room for them and not far too much, or their own."""
        self._asked[size] += 1
        recorded = {name[1:] for name, *_ in list(self._slots) if name[0] == EPISODES}
        roomy = [s for s in recorded if all(n <= m <= ROOM * n for n, m in zip(size, s, strict=True))]
        return size if self._asked[size] > OFTEN else min(roomy, default=size)

    def run(self, name: tuple[Hashable, ...], function: Callable[[Tensors], Tensors], inputs: Tensors) -> Tensors:
        """function(inputs on the device), whose results are copied; `function` may not ask the device for anything.

        inputs: on the device or on the host, from where they travel without anybody waiting.
        name: what `function` depends on besides `inputs`; with the sizes of the inputs it says what may be replayed.
        """
        self._bring_gradients_home()
        key = (name, *((k, x.shape) for k, x in inputs.items()))
        inputs = {name: pinned(x, self.device) for name, x in inputs.items()}
        if key in self._slots:
            self._slots[key] = self._slots.pop(key)
        elif self._homes and self._came[key] >= WARM and not self.refused:
            self._record(key, function, inputs)
        if key in self._slots:
            return self._slots[key].again(inputs)
        self._came[key] += 1
        results = function(self._brought(inputs))
        self._homes = self._homes or [(p, p.grad) for p in self.parameters if p.grad is not None]
        return results

    def _record(self, key: Hashable, function: Callable[[Tensors], Tensors], inputs: Tensors) -> None:
        """Into the place of the size that has not come for longest, where there are many."""
        if len(self._slots) >= MOST:
            del self._slots[next(iter(self._slots))]
        slot = _Slot({name: x.clone() for name, x in self._brought(inputs).items()})
        if slot.record(function, self.device):
            self._slots[key] = slot
        else:
            self.refused = True

    def _brought(self, inputs: Tensors) -> Tensors:
        return {name: x.to(self.device, non_blocking=True) for name, x in inputs.items()}

    def _bring_gradients_home(self) -> None:
        """Gradients lie where the recorded kernels add to them, whoever has made or forgotten them meanwhile."""
        empty = []
        for parameter, home in self._homes:
            if parameter.grad is None:
                empty.append(home)
            elif parameter.grad is not home:
                home.copy_(parameter.grad)
            parameter.grad = home
        if empty:
            torch._foreach_zero_(empty)


class _Slot:
    """One size of one function: inputs and results at addresses that stay, and the graph between them."""

    def __init__(self, inputs: Tensors) -> None:
        self.inputs, self.results = inputs, {}
        self.replay: Callable[[], object] | None = None

    def record(self, function: Callable[[Tensors], Tensors], device: torch.device) -> bool:
        """False where it cannot be recorded."""

        def work() -> None:
            self.results = function(self.inputs)

        self.replay = recorded(work, device)
        return self.replay is not None

    def again(self, inputs: Tensors) -> Tensors:
        for name, x in inputs.items():
            self.inputs[name].copy_(x, non_blocking=True)
        self.replay()
        return {name: x.clone() for name, x in self.results.items()}


@dataclass(frozen=True)
class Padded:
    """Episodes padded to a size that comes again, at the end of the packed row and of what is predicted; on the host.

    What pads the predictions has weight 0; what pads the packed row lies in rows of its own, since flash attention leaves
    tokens of no row undefined. `ends` has room for all rows and for the most that padding can take; the rest is empty rows.
    """

    predicted: int  # response tokens, without padding
    size: tuple[int, ...]  # tokens, response tokens, the longest row and rows, all with padding
    inputs: Tensors  # in pinned memory, for a device that copies from there while the host goes on

    def __len__(self) -> int:
        return self.predicted

    @classmethod
    def of(cls, episodes: Episodes, graphs: GradientGraphs) -> Padded:
        rows, taken = episodes.rows, len(episodes.rows.ids)
        longest = -(-rows.layout.longest // TILE) * TILE
        own = rounded(taken + 1), rounded(len(episodes), sizes=2), longest, rounded(len(rows.layout.lengths))
        tokens, predicted, longest, count = size = graphs.size_for(*own)
        ends = [0, *accumulate(rows.layout.lengths), *range(taken, tokens, longest)[1:]]
        most = count + -(-tokens // (2 * longest)) + 1  # less than half of the tokens is padding
        ends += [tokens] * (1 + most - len(ends))
        inputs = {name: getattr(episodes, name) for name in ("targets", "old", "advantages", "old_values", "returns")}
        inputs["weights"] = torch.ones_like(episodes.old)
        inputs = {name: F.pad(x, (0, predicted - len(x))) for name, x in inputs.items()}
        inputs["keep"] = F.pad(episodes.keep, (0, predicted - len(episodes)), value=tokens - 1)
        inputs |= {name: F.pad(x, (0, tokens - len(x))) for name, x in (("ids", rows.ids), ("positions", rows.positions))}
        inputs["ends"] = torch.tensor(ends, dtype=torch.int32)
        return cls(len(episodes), size, {name: pinned(x, graphs.device) for name, x in inputs.items()})


def pinned(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """In memory from which CUDA copies while the host goes on; as it is for other devices, and where it lies on one."""
    return x if x.is_cuda or device.type != "cuda" else x.pin_memory()


def replayed_episodes(state: State, padded: Padded, knobs: PPOKnobs, scale: float) -> dict[str, torch.Tensor]:
    """`episodes_backward`, replayed."""
    longest, scalars = padded.size[2], torch.tensor([scale, knobs.temperature, knobs.clip, knobs.value_clip])

    def backward(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        given = dict(given)
        scale, temperature, clip, value_clip = given.pop("scalars").unbind()
        rows = PackedRows(given.pop("ids"), given.pop("positions"), Ends(given.pop("ends"), longest))
        told = SimpleNamespace(temperature=temperature, clip=clip, value_clip=value_clip)
        return episodes_backward(state, Episodes(rows, **given), told, scale, watch=True)

    return state.graphs.run((EPISODES, *padded.size), backward, {**padded.inputs, "scalars": scalars})


def replayed_pretraining(state: State, part: torch.Tensor, keep: torch.Tensor, factor: float) -> torch.Tensor:
    """`pretraining_backward`, replayed; rows of one length need no padding."""
    count, length = part.shape
    inputs = {"part": part, "keep": keep, "factor": torch.tensor(factor), "positions": torch.arange(length).repeat(count)}
    inputs["ends"] = length * torch.arange(count + 1, dtype=torch.int32)

    def backward(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        rows = PackedRows(given["part"].flatten(), given["positions"], Ends(given["ends"], length))
        return {"loss": pretraining_backward(state, rows, given["part"][:, 1:], given["keep"], given["factor"])}

    return state.graphs.run((PRETRAINING,), backward, inputs)["loss"]
