"""What each trick of the rollout gave: the same work with one trick taken away at a time, in turns, in one process.

The ways without a trick are plain reference implementations that live here; the lab has no switches for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch

from labkit.models import fused, packed_logits, response_logprobs, response_values, score
from labkit.models.packed import LAB_ATTENTION
from labkit.models.scoring import response_positions
from labkit.sampling import Sampled, sample, steps
from tests.benchmarks.peers.lab_ppo import scalar_model
from tests.benchmarks.referee import spread
from tests.benchmarks.workload import END, PAD, Workload, make_policy, make_prompts

__all__ = ["logprobs_full_head", "logprobs_padded", "sample_without_dropping", "tricks", "values_padded"]

Rows = Sequence[Sequence[int]]
GRID_TOKENS = 16384  # of a padded batch, as many as the lab's own scoring batches have


def sample_without_dropping(policy: Any, prompts: Rows, **options: Any) -> list[Sampled]:
    """Every row takes part in every step, also when it has long ended."""
    with mock.patch.object(steps, "ASK_EVERY", {"cpu": 10**9}):
        return sample(policy, prompts, **options)


def padded_batches(prompts: Rows, responses: Rows):
    """Rows in the order they came, right-padded: (ids, mask of real tokens, where the response's predictions are)."""
    rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    longest = max(map(len, rows))
    at_once = max(1, GRID_TOKENS // longest)
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        ids = torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in part])
        mask = torch.arange(longest) < torch.tensor([len(row) for row in part])[:, None]
        first = torch.tensor([len(p) - 1 for p in prompts[start : start + at_once]])[:, None]
        last = torch.tensor([len(row) - 1 for row in part])[:, None]
        yield ids, mask, (torch.arange(longest) >= first) & (torch.arange(longest) < last)


def chosen_logprobs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return logits.float().log_softmax(-1).gather(1, ids[:, None]).squeeze(1)


@torch.no_grad()
def logprobs_padded(policy: Any, prompts: Rows, responses: Rows) -> torch.Tensor:
    """(N,) log-probabilities of response tokens by passes over padded rows; the head on response positions only."""
    parts = []
    for ids, mask, where in padded_batches(prompts, responses):
        hidden = policy.base_model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state[where]
        parts.append(chosen_logprobs(policy.get_output_embeddings()(hidden), ids.roll(-1, 1)[where]))
    return torch.cat(parts)


@torch.no_grad()
def values_padded(model: Any, prompts: Rows, responses: Rows) -> torch.Tensor:
    """(N,) values at the states of response tokens by passes over padded rows."""
    parts = []
    for ids, mask, where in padded_batches(prompts, responses):
        parts.append(model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits[..., 0][where])
    return torch.cat(parts)


@torch.no_grad()
def logprobs_full_head(policy: Any, prompts: Rows, responses: Rows) -> torch.Tensor:
    """(N,) log-probabilities by packed passes whose head runs on prompts too, in batches of about the same size."""
    parts, at_once = [], max(1, GRID_TOKENS // max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True)))
    for start in range(0, len(prompts), at_once):
        asked, given = prompts[start : start + at_once], responses[start : start + at_once]
        logits = packed_logits(policy, [[*p, *r] for p, r in zip(asked, given, strict=True)])
        parts.append(
            chosen_logprobs(logits[response_positions(asked, given)], torch.tensor([t for r in given for t in r]))
        )
    return torch.cat(parts)


def tricks(work: Workload, *, rounds: int) -> dict[str, Any]:
    """Times with a trick missing over times with all of them, of the trick's own part and of the whole rollout (CPU)."""
    torch.set_num_threads(work.threads)
    parts = _parts(work)
    seconds = [{name: _seconds(run) for name, run in parts.items()} for _ in range(rounds + 1)][1:]
    return {"work": vars(work), "rounds": seconds, "tricks": {name: _gain(seconds, *row) for name, row in ROWS.items()}}


#: trick -> (the part that it speeds up, as parts of `_parts`; the same without it)
ROWS = {
    "finished rows are dropped": (("sampling",), ("sampling without dropping",)),
    "log-probabilities are recorded while sampling": (("sampling",), ("sampling", "logprobs")),
    "rows are packed, not padded": (("logprobs", "values", "scores"), ("padded logprobs", "padded values", "padded values")),
    "the head runs on response positions only": (("logprobs", "values", "scores"), ("full head", "values", "scores")),
}  # fmt: skip
WHOLE = ("sampling", "logprobs", "values", "scores")  # generation, then reference, value and reward model


def _parts(work: Workload) -> dict[str, Callable[[], Any]]:
    policy, plain = fused(make_policy(work, attn_implementation=LAB_ATTENTION)), fused(make_policy(work))
    scalar = scalar_model(policy, work)
    prompts = make_prompts(work, work.batch)
    options = {"max_new_tokens": work.max_response, "eos_id": END, "seeds": range(work.batch)}
    responses = [s.ids for s in sample(policy, prompts, **options)]
    return {
        "sampling": lambda: sample(policy, prompts, **options),
        "sampling without dropping": lambda: sample_without_dropping(policy, prompts, **options),
        "logprobs": lambda: response_logprobs(policy, prompts, responses),
        "values": lambda: response_values(scalar, prompts, responses),
        "scores": lambda: score(scalar, prompts, responses),
        "padded logprobs": lambda: logprobs_padded(plain, prompts, responses),
        "padded values": lambda: values_padded(scalar, prompts, responses),
        "full head": lambda: logprobs_full_head(policy, prompts, responses),
    }


def _gain(seconds: list[dict[str, float]], having: Sequence[str], lacking: Sequence[str]) -> dict[str, Any]:
    """By round: the part without the trick over the part with it, and the same for the whole rollout."""
    part, whole = [], []
    for found in seconds:
        little, much = sum(found[name] for name in having), sum(found[name] for name in lacking)
        total = sum(found[name] for name in WHOLE)
        part.append(much / little)
        whole.append((total - little + much) / total)
    return {"part": spread(part), "whole": spread(whole)}


def _seconds(run: Callable[[], Any]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started
