"""One batch of episodes: sample, score, and turn scores into advantages.

An episode is one prompt and one sampled response (a bandit with a KL penalty, paper section 3.5).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from labkit import rl
from labkit.errors import DataError
from labkit.models import decode, encode_prompt, response_logprobs, response_values
from labkit.ppo.rewards import Reward, answer_of, scores_of
from labkit.ppo.sharding import summed
from labkit.sampling import sample
from labkit.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from labkit.knobs import PPOKnobs
    from labkit.ppo.settings import PPOSettings
    from labkit.ppo.state import State
    from labkit.types import Prompt

__all__ = ["Rollout", "addressed_rows", "encoded", "generate", "reward_episodes", "score_episodes"]


@dataclass
class Rollout:
    """A batch of B episodes with R response slots; everything lies on the CPU or the training device as noted."""

    prompts: list[Prompt]
    prompt_ids: list[list[int]]
    response_ids: list[list[int]]
    text_of: Callable[[list[int]], str]
    finished: torch.Tensor  # (B,) bool: ended by the end token
    mask: torch.Tensor  # (B, R) bool: True on real response tokens
    logprobs: torch.Tensor  # (B, R) log π_old of the sampled tokens
    ref_logprobs: torch.Tensor | None = None  # (B, R) log π_ref
    values: torch.Tensor | None = None  # (B, R) V(s_t) before the update
    scores: torch.Tensor | None = None  # (B,) of the reward, with the penalty for a missing end token
    kl: torch.Tensor | None = None  # (B, R) k1 = log π/π_ref
    advantages: torch.Tensor | None = None  # (B, R) whitened
    returns: torch.Tensor | None = None  # (B, R)
    gold: torch.Tensor | None = None  # (B,) gold utility, where a judge is given
    seeds: list[int] | None = None  # (B,) from which each response was drawn

    def __len__(self) -> int:
        return len(self.prompts)

    def texts(self, count: int | None = None) -> list[str]:
        """What the first `count` responses say, or all; read from their ids when somebody asks."""
        return [self.text_of(ids) for ids in self.response_ids[:count]]

    def grid(self, flat: torch.Tensor) -> torch.Tensor:
        """(N,) values over all response tokens in row order -> (B, R), zero on padding."""
        out = torch.zeros(self.mask.shape, dtype=flat.dtype)
        out[self.mask] = flat.cpu()
        return out


def addressed_rows(total: int, start: int, count: int, seed: int, purpose: str) -> list[int]:
    """`count` indices below `total` from place `start` of an endless stream of permutations drawn from (seed, epoch, purpose)."""
    rows: list[int] = []
    while len(rows) < count:
        epoch, offset = divmod(start + len(rows), total)
        generator = torch.Generator().manual_seed(derive_seed(seed, epoch, purpose))
        rows += torch.randperm(total, generator=generator)[offset : offset + count - len(rows)].tolist()
    return rows


def encoded(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[array[int]]:
    """The token ids of each prompt, for `generate`: once, as 512 of them take a few hundredths of a second."""
    return [array("i", encode_prompt(tokenizer, p.text)) for p in prompts]


def generate(
    state: State, prompts: Sequence[Prompt], asked: Sequence[Sequence[int]], knobs: PPOKnobs, settings: PPOSettings, number: int
) -> Rollout:
    """Sample one response to each prompt of iteration `number`: this process's share of the batch.

    asked: what `encoded` made of the prompts.
    """
    rank, world = state.accelerator.process_index, state.accelerator.num_processes
    order = addressed_rows(len(prompts), (number - 1) * settings.batch, settings.batch, settings.seed, "prompts")
    mine = range(rank, settings.batch, world)
    prompt_ids = [list(asked[order[i]]) for i in mine]
    seeds = [derive_seed(settings.seed, number, "sampling", i) for i in mine]
    with state.whole(), state.forward_precision():
        drawn = sample(
            state.plain_policy,
            prompt_ids,
            max_new_tokens=settings.max_new_tokens,
            eos_id=state.tokenizer.eos_token_id,
            seeds=seeds,
            temperature=knobs.temperature,
        )
    lengths = torch.tensor([len(s.ids) for s in drawn])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    rollout = Rollout(
        prompts=[prompts[order[i]] for i in mine],
        prompt_ids=prompt_ids,
        response_ids=[s.ids for s in drawn],
        text_of=partial(decode, state.tokenizer),
        finished=torch.tensor([s.finished for s in drawn]),
        mask=mask,
        logprobs=torch.empty(0),
        seeds=seeds,
    )
    rollout.logprobs = rollout.grid(torch.tensor([x for s in drawn for x in s.logprobs]))
    return rollout


def score_episodes(
    state: State,
    rollout: Rollout,
    reward: Reward,
    knobs: PPOKnobs,
    settings: PPOSettings,
    gold: Callable[[Sequence[Prompt], Sequence[str], Sequence[bool]], Sequence[float]] | None = None,
) -> None:
    """Fill in reference log-probabilities, values, scores and, where a judge is given, gold utility."""
    rows = rollout.prompt_ids, rollout.response_ids
    limits = {"max_tokens": settings.score_tokens}
    logprobs = None
    with state.whole(), state.forward_precision():
        recompute = (
            settings.recompute_logprobs if settings.recompute_logprobs is not None else state.dtype != torch.float32
        )
        if recompute:
            logprobs = response_logprobs(state.plain_policy, *rows, temperature=knobs.temperature, **limits)
        with state.as_reference() as reference:
            ref_logprobs = response_logprobs(reference, *rows, temperature=knobs.temperature, **limits)
        values = response_values(state.plain_value, *rows, **limits)
        scores = scores_of(reward, *rows)  # the first time that anybody waits for the device
    if logprobs is not None:
        rollout.logprobs = rollout.grid(logprobs)
    rollout.ref_logprobs, rollout.values = rollout.grid(ref_logprobs), rollout.grid(values)
    rollout.scores = scores - settings.missing_end_penalty * (~rollout.finished)
    if gold is not None:
        rollout.gold = answer_of(gold, rollout.prompts, rollout.texts(), rollout.finished.tolist(), what="gold")
        if rollout.gold.shape != (len(rollout),):
            name, shape = getattr(gold, "__qualname__", type(gold).__name__), tuple(rollout.gold.shape)
            raise DataError(f"The gold function {name} returned shape {shape} for {len(rollout)} episodes; it must return one utility each.")


def reward_episodes(state: State, rollout: Rollout, knobs: PPOKnobs, settings: PPOSettings) -> None:
    """Per-token rewards -> advantages and returns. β is the one in force now and stays so until the batch is used up."""
    rollout.kl, _, _ = rl.kl_estimates(rollout.logprobs, rollout.ref_logprobs)
    rewards = rl.token_rewards(rollout.scores, rollout.kl, rollout.mask, knobs.kl_coef)
    if settings.whiten_rewards:
        mean, variance = _moments(state, rewards, rollout.mask)
        rewards = ((rewards - mean) * torch.rsqrt(variance + 1e-8) + mean) * rollout.mask
    rollout.advantages, rollout.returns = rl.gae(rewards, rollout.values, rollout.mask, knobs.gae_lambda)
    if settings.whiten_advantages:
        rollout.advantages = rl.whiten(
            rollout.advantages, rollout.mask, _moments(state, rollout.advantages, rollout.mask)
        )


def _moments(state: State, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance over the tokens of all processes."""
    real = x[mask].cpu().double()
    sums = torch.stack([torch.tensor(len(real)).double(), real.sum(), real.square().sum()])
    count, total, squares = summed(state.accelerator, sums)
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp(min=0.0).float()
