"""The minibatches of one batch of episodes, laid out for backward passes; on CUDA by a thread while the device works."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from labkit.models import batches_by_tokens
from labkit.ppo.graphed import Padded
from labkit.ppo.passes import Episodes
from labkit.ppo.sharding import summed

if TYPE_CHECKING:
    from labkit.ppo.rollout import Rollout
    from labkit.ppo.settings import PPOSettings
    from labkit.ppo.state import State

__all__ = ["Minibatch", "minibatches"]


@dataclass(frozen=True)
class Minibatch:
    """Episodes that share an optimiser step."""

    tokens: int  # of responses, on all processes
    parts: list[Episodes] | list[Padded]  # micro-batches; padded ones where backward passes are replayed

    @classmethod
    def of(cls, state: State, rollout: Rollout, rows: list[int], settings: PPOSettings) -> Minibatch:
        """Episodes `rows` of the batch, in as few parts as `micro_tokens` allows."""
        tokens = int(summed(state.accelerator, rollout.mask[rows].sum()))
        lengths = [len(rollout.prompt_ids[i]) + len(rollout.response_ids[i]) for i in rows]
        parts = [[rows[i] for i in part] for part in _micro_batches(state, lengths, settings.micro_tokens)]
        if state.graphs is None:
            return cls(tokens, [Episodes.of(rollout, part, state.accelerator.device) for part in parts])
        host = torch.device("cpu")  # they are padded there
        return cls(tokens, [Padded.of(Episodes.of(rollout, part, host), state.graphs) for part in parts])


def minibatches(state: State, rollout: Rollout, settings: PPOSettings) -> Iterator[Minibatch]:
    """The batch in stretches. Its prompts come in random order already, so nothing needs shuffling."""
    count = settings.batch // settings.minibatch
    size = len(rollout) // count
    stretches = [list(range(i * size, (i + 1) * size)) for i in range(count)]
    if state.graphs is None:
        for rows in stretches:  # one after another: several processes must ask each other in step
            yield Minibatch.of(state, rollout, rows, settings)
    else:
        with ThreadPoolExecutor(1, thread_name_prefix="minibatches") as thread:
            yield from thread.map(lambda rows: Minibatch.of(state, rollout, rows, settings), stretches)


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
