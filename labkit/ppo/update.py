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
import torch.nn.functional as F

from labkit import rl
from labkit.models import batches_by_tokens, packed_logits, response_logits
from labkit.models.scoring import response_positions
from labkit.ppo.checks import check_finite, check_first_minibatch
from labkit.ppo.sharding import summed, whole

if TYPE_CHECKING:
    from accelerate import Accelerator

    from labkit.knobs import PPOKnobs
    from labkit.ppo.rollout import Rollout
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

    def total(self, name: str) -> float:
        return sum(torch.stack(self._added[name]).tolist())

    def sums(self) -> dict[str, float]:
        return {name: self.total(name) for name in self._added}

    def most(self, name: str) -> float:
        return max(torch.stack(self._peaks[name]).tolist())


def ppo_gradients(
    state: State, rollout: Rollout, rows: list[int], knobs: PPOKnobs, settings: PPOSettings, tally: Tally, *, first: int | None
) -> None:
    """Backward passes of the policy and the value model on episodes `rows` of the batch.

    first: the iteration's number on its first minibatch, where ratio = 1 is checked; None on the others.
    """
    device, accelerator = state.accelerator.device, state.accelerator
    total = summed(accelerator, rollout.mask[rows].sum()).item()
    scale = accelerator.num_processes / total
    lengths = [len(rollout.prompt_ids[i]) + len(rollout.response_ids[i]) for i in rows]
    batches = [[rows[i] for i in batch] for batch in _micro_batches(state, lengths, settings.micro_tokens)]
    for place, batch in enumerate(batches):
        mask = rollout.mask[batch]
        old, advantages, old_values, returns = (
            grid[batch][mask].to(device) for grid in (rollout.logprobs, rollout.advantages, rollout.values, rollout.returns)
        )  # (N,) each, tokens of the rows in order
        prompts, responses = [rollout.prompt_ids[i] for i in batch], [rollout.response_ids[i] for i in batch]
        with _backward_scope(state, last=place + 1 == len(batches)):
            with state.forward_precision():
                logits = response_logits(state.policy, prompts, responses) / knobs.temperature  # (N, V)
                values = packed_logits(
                    state.value, [[*p, *r] for p, r in zip(prompts, responses, strict=True)], keep=response_positions(prompts, responses, device)
                ).float()  # (N,)
            targets = torch.tensor([t for r in responses for t in r], device=device)
            everything = logits.log_softmax(-1)  # (N, V)
            logprobs = everything.gather(1, targets[:, None]).squeeze(1)
            if first is not None:
                check_first_minibatch((logprobs - old).detach(), logits.detach(), first, state.dtype)
            policy_losses, ratio, clipped = rl.policy_loss(logprobs, old, advantages, knobs.clip)
            value_losses = rl.value_loss(values, old_values, returns, knobs.value_clip)
            accelerator.backward(policy_losses.sum() * scale)
            accelerator.backward(value_losses.sum() * scale)
        with torch.no_grad():
            entropy = -(everything.exp() * everything).sum(-1)
            k3 = rl.kl_estimates(old, logprobs.detach())[2]
            tally.add(
                len(old), policy_loss=policy_losses.sum(), value_loss=value_losses.sum(), ratio_mean=ratio.sum(),
                clip_fraction=clipped.sum(), approx_kl=k3.sum(), entropy=entropy.sum(),
            )  # fmt: skip
            tally.peak(ratio_max=ratio.max())


def ptx_gradients(state: State, pretraining: torch.Tensor, knobs: PPOKnobs, settings: PPOSettings, *, backward: bool = True) -> float:
    """γ times the mean token loss on packed pretraining rows (n, L), added to the gradients; returns the unweighted mean loss.

    The mean over tokens is our reduction: the paper does not say which one gives γ = 27.8 its scale.
    """
    accelerator = state.accelerator
    length = pretraining.shape[1]
    total = pretraining.shape[0] * (length - 1)
    loss_sum = torch.zeros((), device=accelerator.device)
    parts = _pretraining_parts(pretraining, accelerator, max(1, settings.micro_tokens // length))
    for place, part in enumerate(parts):
        keep = (torch.arange(part.shape[0])[:, None] * length + torch.arange(length - 1)).flatten().to(accelerator.device)
        scope = _backward_scope(state, last=place + 1 == len(parts), models="policy") if backward else torch.no_grad()
        with scope:
            with state.forward_precision():
                logits = packed_logits(state.policy, part, keep=keep).float()  # (n(L - 1), V)
            loss = F.cross_entropy(logits, part[:, 1:].flatten().to(logits.device), reduction="sum")
            if backward:
                accelerator.backward(loss * (knobs.ptx_coef * accelerator.num_processes / total))
        loss_sum += loss.detach()
    return accelerator.reduce(loss_sum, "sum").item() / total


def apply_gradients(state: State, settings: PPOSettings, number: int, losses: Mapping[str, float]) -> float:
    """One optimiser step of each model on the gradients accumulated so far; returns the norm of the value model's.

    Where a loss or a norm is not finite, iteration `number` ends with an InvariantError before any weight changes.
    """
    limit = settings.max_grad_norm or math.inf
    norms = [
        float(whole(state.accelerator.clip_grad_norm_(model.parameters(), limit)))
        for model in (state.policy, state.value)
    ]
    check_finite({**losses, "grad_norm_policy": norms[0], "grad_norm_value": norms[1]}, number)
    for optimizer in (state.policy_optimizer, state.value_optimizer):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norms[1]


def policy_gradient(state: State) -> list[torch.Tensor]:
    """The policy's gradient so far, copied, by parameter."""
    return [p.grad.detach().clone() for p in state.trained() if p.grad is not None]


def _micro_batches(state: State, lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Rows by `batches_by_tokens`, in as many batches on every process: sharded models run in step."""
    batches = list(batches_by_tokens(lengths, max_tokens))
    if state.accelerator.num_processes > 1:
        most = int(state.accelerator.gather(torch.tensor([len(batches)], device=state.accelerator.device)).max())
        while len(batches) < most:
            largest = max(batches, key=len)
            batches[batches.index(largest)] = largest[: len(largest) // 2]
            batches.append(largest[len(largest) // 2 :])
    return batches


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
