"""Promises that PPO must keep while it runs; each breach is an InvariantError that says what it means and its usual causes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from labkit.errors import DataError, InvariantError, SettingsError
from labkit.ppo.rewards import models_of
from labkit.ppo.settings import PPOSettings

if TYPE_CHECKING:
    from labkit.ppo.rewards import Reward
    from labkit.ppo.rollout import Rollout
    from labkit.ppo.state import State
    from labkit.types import Prompt

__all__ = [
    "check_finite",
    "check_first_minibatch",
    "check_kl",
    "check_pretraining",
    "check_processes",
    "check_prompts",
    "check_reading",
    "check_start",
    "check_told",
]

#: What a State makes its models and optimisers from; the loop reads the rest of the settings anew.
OF_THE_STATE = (
    "lora_rank", "lora_alpha", "lora_targets", "gradient_checkpointing", "adam_beta1", "adam_beta2", "adam_eps", "weight_decay",
)  # fmt: skip
FURTHEST_BY_CHANCE = 20.0  # nats: once in e^20 steps, or two in a thousand million
RATIO_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}


def check_prompts(prompts: Sequence[Prompt], lengths: Sequence[int], context: int | None, max_new_tokens: int) -> None:
    """Every prompt must say something and leave room for a response."""
    if not prompts:
        raise DataError(
            "There are no prompts to train on; give at least one, or look at what the filters of the preparation removed."
        )
    for prompt, length in zip(prompts, lengths, strict=True):
        if not length:
            raise DataError(f"Prompt {prompt.id!r} has no token: there is nothing to answer. Drop it, or give it a text.")
        if context is not None and length + max_new_tokens > context:
            raise DataError(
                f"Prompt {prompt.id!r} has {length} tokens; with {max_new_tokens} new ones it does not fit the model's context of {context}. "
                "Drop it (the paper drops prompts over half the context) or lower max_new_tokens."
            )


def check_told(state: State, settings: PPOSettings, reward: Reward) -> None:
    """The loop is told what its State was made with, and is not paid by the value model that it trains."""
    if not isinstance(settings, PPOSettings):
        raise SettingsError(f"The settings are {settings!r:.60}; the loop takes PPOSettings(...), those that its State was made with.")
    for name in OF_THE_STATE:
        told, made = getattr(settings, name), getattr(state.settings, name)
        if told != made:
            raise SettingsError(f"{name} is {told!r}, but the State was made with {made!r}; give both the same settings.")
    if any(model is state.plain_value for model in models_of(reward)):
        raise InvariantError(
            "The reward model is the very model that is trained as the value model, so the reward would drift with it; load it twice, "
            "once for the State and once for from_model."
        )


def check_pretraining(rows: torch.Tensor | None, settings: PPOSettings, context: int | None, vocabulary: int) -> None:
    """A packed row of pretraining text is read as one text, and as many of its tokens count as the settings say."""
    if rows is None:
        return
    if not isinstance(rows, torch.Tensor) or rows.dtype != torch.int64:
        found = f"{rows.dtype}" if isinstance(rows, torch.Tensor) else f"a {type(rows).__name__}"
        raise DataError(
            f"The pretraining rows are {found}; give a tensor (M, {settings.ptx_row}) of token ids (int64), as "
            "torch.tensor(sft.pretraining_pieces(tokenizer, texts, settings.ptx_row, M))."
        )
    if context is not None and rows.dim() == 2 and rows.shape[1] > context:
        raise DataError(
            f"Pretraining rows of {rows.shape[1]} tokens do not fit the model's context of {context}; pack them into shorter ones (ptx_row)."
        )
    if rows.dim() != 2 or rows.shape[1] != settings.ptx_row or not len(rows):
        raise DataError(
            f"The pretraining rows have shape {tuple(rows.shape)}; give (M, {settings.ptx_row}) token ids, as ptx_row = {settings.ptx_row} says."
        )
    if not 0 <= int(rows.min()) <= int(rows.max()) < vocabulary:
        raise DataError(
            f"The pretraining rows hold the ids {int(rows.min())} to {int(rows.max())}, beyond the vocabulary of {vocabulary}; encode them with "
            "the policy's tokenizer."
        )


def check_processes(settings: PPOSettings, processes: int) -> None:
    """Every process takes an equal share of each minibatch, so that no episode is left out."""
    if settings.minibatch % processes:
        raise SettingsError(
            f"A minibatch of {settings.minibatch} episodes cannot be shared evenly by {processes} processes; "
            f"choose a minibatch that is a multiple of {processes} (and a batch that is one of the minibatch), or start fewer."
        )
    if settings.ptx_rows < processes:
        raise SettingsError(
            f"{settings.ptx_rows} pretraining rows per minibatch are too few for {processes} processes, each of which needs one; "
            f"choose a ptx_row below {settings.ptx_row}, so that there are more of them, or start fewer."
        )


def check_reading(model: str, how: str, alone: float, gap: float, allowed: float) -> None:
    """A text means the same however it is padded and whatever lies beside it.

    alone: what the model says of it by itself, at its last token. gap: how far that goes at most when it is read as `how` says.
    """
    if not gap <= allowed:
        raise InvariantError(
            f"The {model} says {alone:.4g} of a text alone and up to {gap:.3g} else of the same text {how}, where {allowed:.1g} would be "
            "rounding: scores would depend on the batch. Usual causes: an attention mask that is ignored or has the wrong polarity, "
            "position ids that count padding, a score read at the last place instead of the last real token, rows of a batch that see "
            "each other, a norm over the batch, or dropout that is on."
        )


def check_start(rollout: Rollout, dtype: torch.dtype) -> None:
    """Before the first update policy and reference are one model: their log-probabilities must agree."""
    gap = float((rollout.logprobs - rollout.ref_logprobs).abs().max())
    if gap > RATIO_TOLERANCE[dtype]:
        raise InvariantError(
            f"At step 1 the policy and its KL reference differ by {gap:.3g} nats on a sampled token, where 0 is due. Usual causes: "
            "the reference is not the PPO init model, dropout is on in one of them, another temperature in sampling than in scoring, "
            "or position ids that count padding."
        )


def check_first_minibatch(gap: float, spread: float, number: int, dtype: torch.dtype) -> None:
    """On the first minibatch of an iteration nothing was updated yet: ratio = 1 and approximate KL = 0.

    gap: largest |log ratio| of a token. spread: largest distance between two logits of a token; in bf16 hidden states
    round differently from batch to batch, by one part in 256, and the further the logits lie apart, the more that moves them.
    """
    allowed = RATIO_TOLERANCE[dtype]
    if dtype == torch.bfloat16:
        allowed = max(allowed, spread / 256)
    if not gap <= allowed:
        raise InvariantError(
            f"Step {number}: on the first minibatch the ratio π/π_old leaves 1 by {math.expm1(min(gap, 50.0)):.3g} on a token, though nothing was updated. "
            "Usual causes: old log-probabilities taken in train mode (dropout), another temperature or precision than in sampling, "
            "responses decoded and tokenised again, or scores shifted by one token."
        )


def check_kl(per_episode: torch.Tensor, number: int) -> None:
    """The mean of k1 over the (B,) episodes of all processes may be negative by chance only, and chance does not go far.

    exp(-k1) is the reference's probability of an answer over the policy's, whose mean under the policy is 1; so the sum
    of k1 over independent answers falls below -t with a probability of at most exp(-t), whatever its distribution: also
    where k1 is mostly a little negative and rarely large, as with a policy that is sure of itself.
    """
    total, episodes = float(per_episode.sum()), len(per_episode)
    check_finite({"kl_k1": total / episodes}, number)
    if total < -FURTHEST_BY_CHANCE:
        raise InvariantError(
            f"Step {number}: the mean KL to the reference is {total / episodes:.3g} nats per episode, which cannot be: a KL is never negative, and "
            f"chance takes the sum of these {episodes} episodes below {total:.3g} less than once in e^{-total:.0f} times. Usual causes: "
            "sampling that is not the policy's own distribution (top-k, top-p, greedy, another temperature), the same tokens scored with "
            "other position ids, or padding counted as text."
        )


def check_finite(metrics: Mapping[str, float], number: int) -> None:
    """No loss and no gradient may be NaN or infinite; asked before the optimiser steps."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise InvariantError(
                f"Step {number}: {name} is {value}; no weight was changed with it. Usual causes: a learning rate too high "
                "(halve policy_lr or value_lr), a KL that ran away (raise kl_coef), or a reward that is not a number. Roll back and turn a knob."
            )
