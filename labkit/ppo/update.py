"""The gradients of one minibatch: clipped policy loss, value loss and, for PPO-ptx, the pretraining loss.

Losses are sums over this process's tokens divided by the minibatch's tokens on all processes, so neither micro-batches
nor the number of processes changes a gradient.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from labkit.models.packed import PackedRows
from labkit.ppo.checks import check_finite, check_first_minibatch
from labkit.ppo.graphed import replayed_episodes, replayed_pretraining
from labkit.ppo.passes import TALLIED, episodes_backward, pretraining_backward
from labkit.ppo.sharding import whole

if TYPE_CHECKING:
    from accelerate import Accelerator

    from labkit.knobs import PPOKnobs
    from labkit.ppo.minibatches import Minibatch
    from labkit.ppo.settings import PPOSettings
    from labkit.ppo.state import State

__all__ = ["Tally", "apply_gradients", "ppo_gradients", "ptx_gradients"]


class Tally:
    """Sums over tokens, for means over minibatches, epochs and processes. The device is asked for them when they are read."""

    def __init__(self) -> None:
        self.tokens = 0
        self._added: dict[str, list[torch.Tensor]] = defaultdict(list)
        self._peaks: dict[str, list[torch.Tensor]] = defaultdict(list)

    def add(self, count: int, **sums: torch.Tensor) -> None:
        self.tokens += count
        for name, value in sums.items():
            self._added[name].append(value.detach())

    def peak(self, **values: torch.Tensor) -> None:
        for name, value in values.items():
            self._peaks[name].append(value.detach())

    def so_far(self, *names: str) -> dict[str, torch.Tensor]:
        """Sums of what was added, on the device: what is not finite makes them so."""
        return {name: torch.stack(self._added[name]).sum() for name in names}

    def sums(self) -> dict[str, float]:
        return {name: sum(torch.stack(added).tolist()) for name, added in self._added.items()}

    def most(self, name: str) -> float:
        return max(torch.stack(self._peaks[name]).tolist())


def ppo_gradients(state: State, minibatch: Minibatch, knobs: PPOKnobs, tally: Tally, *, first: int | None) -> None:
    """Backward passes of the policy and the value model on a minibatch.

    first: the iteration's number on its first minibatch, where ratio = 1 is checked; None on the others.
    """
    scale = state.accelerator.num_processes / minibatch.tokens
    for place, part in enumerate(minibatch.parts):
        with _backward_scope(state, last=place + 1 == len(minibatch.parts)):
            if state.graphs is not None:
                sums = replayed_episodes(state, part, knobs, scale)
            else:
                sums = episodes_backward(state, part, knobs, scale, watch=first is not None)
        if first is not None:
            check_first_minibatch(float(sums["gap"]), float(sums["spread"]), first, state.dtype)
        tally.peak(ratio_max=sums["ratio_max"])
        tally.add(len(part), **{name: sums[name] for name in TALLIED})


def ptx_gradients(state: State, pretraining: torch.Tensor, knobs: PPOKnobs, settings: PPOSettings, *, backward: bool = True) -> float:
    """γ times the mean token loss on packed pretraining rows (n, L), added to the gradients; returns the unweighted mean loss.

    The mean over tokens is our reduction: the paper does not say which one gives γ = 27.8 its scale.
    """
    accelerator = state.accelerator
    length = pretraining.shape[1]
    total = pretraining.shape[0] * (length - 1)
    loss_sum = torch.zeros((), device=accelerator.device)
    factor = knobs.ptx_coef * accelerator.num_processes / total
    parts = _pretraining_parts(pretraining, accelerator, max(1, settings.micro_tokens // length))
    for place, part in enumerate(parts):
        part = part.to(accelerator.device)
        keep = (torch.arange(part.shape[0])[:, None] * length + torch.arange(length - 1)).flatten()
        scope = _backward_scope(state, last=place + 1 == len(parts), models="policy") if backward else torch.no_grad()
        with scope:
            if state.graphs is not None and backward:
                loss_sum += replayed_pretraining(state, part, keep, factor)
            else:
                rows = PackedRows.of(part, part.device)
                loss_sum += pretraining_backward(state, rows, part[:, 1:], keep.to(part.device), factor if backward else None)
    return accelerator.reduce(loss_sum, "sum").item() / total


def apply_gradients(
    state: State, settings: PPOSettings, number: int, losses: Mapping[str, torch.Tensor], ptx_loss: Mapping[str, float]
) -> tuple[float, float]:
    """One optimiser step of each model on the gradients accumulated so far; returns their norms, before they were limited.

    Where a loss or a norm is not finite, iteration `number` ends with an InvariantError before any weight changes.
    """
    limit = settings.max_grad_norm or math.inf
    watched = dict(losses)
    for name, model in (("policy", state.policy), ("value", state.value)):
        watched[f"grad_norm_{name}"] = whole(state.accelerator.clip_grad_norm_(model.parameters(), limit))
    found = dict(zip(watched, torch.stack(list(watched.values())).tolist(), strict=True))  # the device is asked once
    check_finite(found | ptx_loss, number)
    for optimizer in (state.policy_optimizer, state.value_optimizer):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return found["grad_norm_policy"], found["grad_norm_value"]


def policy_gradient(state: State) -> list[torch.Tensor]:
    """The policy's gradient so far, copied, by parameter."""
    return [p.grad.detach().clone() for p in state.trained() if p.grad is not None]


def _pretraining_parts(pretraining: torch.Tensor, accelerator: Accelerator, most: int) -> Sequence[torch.Tensor]:
    """This process's rows, at most so many at once, in as many parts on every process: sharded models run in step.

    Processes may differ by one row. Where that leaves one of them too few rows for a part each, some part holds one more.
    """
    processes = accelerator.num_processes
    mine = pretraining[accelerator.process_index :: processes]
    if processes == 1:
        return mine.split(most)
    fewest, largest = len(pretraining) // processes, math.ceil(len(pretraining) / processes)
    return mine.tensor_split(min(fewest, math.ceil(largest / most)))


@contextlib.contextmanager
def _backward_scope(state: State, *, last: bool, models: str = "both"):
    """Processes exchange gradients at the last backward pass of an accumulation only."""
    with contextlib.ExitStack() as stack:
        if not last and state.accelerator.num_processes > 1:
            stack.enter_context(state.accelerator.no_sync(state.policy))
            if models == "both":
                stack.enter_context(state.accelerator.no_sync(state.value))
        yield
