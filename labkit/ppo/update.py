"""The gradients of one minibatch: clipped policy loss, value loss and, for PPO-ptx, the pretraining loss.

Losses are sums over this process's tokens divided by the minibatch's tokens on all processes, so neither micro-batches
nor the number of processes changes a gradient.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from labkit import rl
from labkit.models import batches_by_tokens, packed_logits
from labkit.models.layout import Ends
from labkit.models.packed import PackedRows
from labkit.models.scoring import response_positions
from labkit.ppo.checks import check_finite, check_first_minibatch
from labkit.ppo.graphed import rounded
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

    def newest(self, *names: str) -> dict[str, torch.Tensor]:
        """What was added last."""
        return {name: self._added[name][-1] for name in names}

    def sums(self) -> dict[str, float]:
        return {name: sum(torch.stack(added).tolist()) for name, added in self._added.items()}

    def most(self, name: str) -> float:
        return max(torch.stack(self._peaks[name]).tolist())


def ppo_gradients(
    state: State, rollout: Rollout, rows: list[int], knobs: PPOKnobs, settings: PPOSettings, tally: Tally, *, first: int | None
) -> None:
    """Backward passes of the policy and the value model on episodes `rows` of the batch.

    first: the iteration's number on its first minibatch, where ratio = 1 is checked; None on the others.
    """
    accelerator = state.accelerator
    total = summed(accelerator, rollout.mask[rows].sum()).item()
    scale = accelerator.num_processes / total
    lengths = [len(rollout.prompt_ids[i]) + len(rollout.response_ids[i]) for i in rows]
    batches = [[rows[i] for i in batch] for batch in _micro_batches(state, lengths, settings.micro_tokens)]
    for place, batch in enumerate(batches):
        device = accelerator.device if state.graphs is None else torch.device("cpu")  # replayed ones are padded there
        episodes = _Episodes.of(rollout, batch, device)
        with _backward_scope(state, last=place + 1 == len(batches)):
            if state.graphs is not None:
                sums = _replayed(state, episodes, knobs, scale)
            else:
                sums = _episodes_backward(state, episodes, knobs, scale, watch=first is not None)
        if first is not None:
            check_first_minibatch(float(sums["gap"]), float(sums["spread"]), first, state.dtype)
        tally.peak(ratio_max=sums["ratio_max"])
        tally.add(len(episodes.targets), **{name: sums[name] for name in TALLIED})


STRETCH = 128  # the longest row counts in these: flash attention works on as many tokens at a time
TALLIED = ("policy_loss", "value_loss", "ratio_mean", "clip_fraction", "approx_kl", "entropy")


@dataclass(frozen=True)
class _Episodes:
    """Episodes as a backward pass reads them: T packed tokens of prompts and responses, of which N are predicted."""

    rows: PackedRows
    keep: torch.Tensor  # (N,) the place before each response token
    targets: torch.Tensor  # (N,) the response tokens
    old: torch.Tensor  # (N,) their log-probabilities under π_old
    advantages: torch.Tensor  # (N,)
    old_values: torch.Tensor  # (N,)
    returns: torch.Tensor  # (N,)
    weights: torch.Tensor | None = None  # (N,) 1 on tokens, 0 on padding; None: there is none

    @classmethod
    def of(cls, rollout: Rollout, batch: list[int], device: torch.device) -> _Episodes:
        prompts, responses = [rollout.prompt_ids[i] for i in batch], [rollout.response_ids[i] for i in batch]
        mask = rollout.mask[batch]
        grids = rollout.logprobs, rollout.advantages, rollout.values, rollout.returns
        return cls(
            PackedRows.of([[*p, *r] for p, r in zip(prompts, responses, strict=True)], device),
            response_positions(prompts, responses, device),
            torch.tensor([t for r in responses for t in r], device=device),
            *(grid[batch][mask].to(device) for grid in grids),
        )


def _episodes_backward(
    state: State, episodes: _Episodes, knobs: PPOKnobs | SimpleNamespace, scale: float | torch.Tensor, *, watch: bool
) -> dict[str, torch.Tensor]:
    """Add the gradients of both losses; returns sums over the N tokens.

    watch: also the largest |log ratio| and the largest distance between two logits of a token.
    """
    with state.forward_precision():
        logits = packed_logits(state.policy, episodes.rows, keep=episodes.keep).float() / knobs.temperature  # (N, V)
        values = packed_logits(state.value, episodes.rows, keep=episodes.keep).float()  # (N,)
    everything = logits.log_softmax(-1)  # (N, V)
    logprobs = everything.gather(1, episodes.targets[:, None]).squeeze(1)
    policy_losses, ratio, clipped = rl.policy_loss(logprobs, episodes.old, episodes.advantages, knobs.clip)
    value_losses = rl.value_loss(values, episodes.old_values, episodes.returns, knobs.value_clip)
    real = episodes.weights

    def total(x: torch.Tensor) -> torch.Tensor:
        return x.sum() if real is None else (x * real).sum()

    state.accelerator.backward(total(policy_losses) * scale)
    state.accelerator.backward(total(value_losses) * scale)
    with torch.no_grad():
        entropy = -(everything.exp() * everything).sum(-1)
        k3 = rl.kl_estimates(episodes.old, logprobs)[2]
        values_of = policy_losses, value_losses, ratio, clipped, k3, entropy
        sums = {name: total(x.detach()) for name, x in zip(TALLIED, values_of, strict=True)}
        sums["ratio_max"] = (ratio if real is None else ratio * real).detach().max()
        if watch:
            gaps = (logprobs - episodes.old).abs()
            sums["gap"] = (gaps if real is None else gaps * real).max()
            sums["spread"] = (logits.amax(-1) - logits.amin(-1)).max()
    return sums


def _replayed(state: State, episodes: _Episodes, knobs: PPOKnobs, scale: float) -> dict[str, torch.Tensor]:
    """The same, padded to a size that comes again: at the end of the packed row, and of what is predicted, with weight 0."""
    rows, taken = episodes.rows, len(episodes.rows.ids)
    tokens, predicted = rounded(taken + 1), rounded(len(episodes.keep), sizes=2)
    longest = -(-rows.layout.longest // STRETCH) * STRETCH
    padding = range(taken, tokens, longest)  # lies in rows of its own
    ends = [0, *accumulate(rows.layout.lengths), *padding[1:]]
    ends += [tokens] * (1 + rounded(len(rows.layout.lengths)) + -(-tokens // (4 * longest)) + 1 - len(ends))
    inputs = {name: getattr(episodes, name) for name in ("targets", "old", "advantages", "old_values", "returns")}
    inputs["weights"] = torch.ones_like(episodes.old)
    inputs = {name: F.pad(x, (0, predicted - len(x))) for name, x in inputs.items()}
    inputs["keep"] = F.pad(episodes.keep, (0, predicted - len(episodes.keep)), value=tokens - 1)
    inputs |= {name: F.pad(x, (0, tokens - len(x))) for name, x in (("ids", rows.ids), ("positions", rows.positions))}
    inputs["ends"] = torch.tensor(ends, dtype=torch.int32)
    inputs["scalars"] = torch.tensor([scale, knobs.temperature, knobs.clip, knobs.value_clip])

    def backward(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        given = dict(given)
        scale, temperature, clip, value_clip = given.pop("scalars").unbind()
        rows = PackedRows(given.pop("ids"), given.pop("positions"), Ends(given.pop("ends"), longest))
        told = SimpleNamespace(temperature=temperature, clip=clip, value_clip=value_clip)
        return _episodes_backward(state, _Episodes(rows, **given), told, scale, watch=True)

    return state.graphs.run(("episodes", longest), backward, inputs)


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
                loss_sum += _ptx_replayed(state, part, keep, factor)
            else:
                rows = PackedRows.of(part, part.device)
                loss_sum += _ptx_backward(state, rows, part[:, 1:], keep.to(part.device), factor if backward else None)
    return accelerator.reduce(loss_sum, "sum").item() / total


def _ptx_backward(
    state: State, rows: PackedRows, targets: torch.Tensor, keep: torch.Tensor, factor: float | torch.Tensor | None
) -> torch.Tensor:
    """Add `factor` times the gradient of the summed loss, unless it is None; returns that sum."""
    with state.forward_precision():
        logits = packed_logits(state.policy, rows, keep=keep).float()  # (n(L - 1), V)
    loss = F.cross_entropy(logits, targets.flatten(), reduction="sum")
    if factor is not None:
        state.accelerator.backward(loss * factor)
    return loss.detach()


def _ptx_replayed(state: State, part: torch.Tensor, keep: torch.Tensor, factor: float) -> torch.Tensor:
    """The same; rows of one length need no padding."""
    count, length = part.shape
    inputs = {"part": part, "keep": keep, "factor": torch.tensor(factor), "positions": torch.arange(length).repeat(count)}
    inputs["ends"] = length * torch.arange(count + 1, dtype=torch.int32)

    def backward(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        rows = PackedRows(given["part"].flatten(), given["positions"], Ends(given["ends"], length))
        return {"loss": _ptx_backward(state, rows, given["part"][:, 1:], given["keep"], given["factor"])}

    return state.graphs.run("pretraining", backward, inputs)["loss"]


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
