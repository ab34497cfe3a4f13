"""What an episode is worth: any callable from (prompt ids, response ids) to one score each. The reward model is one such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from labkit.errors import DataError, LabError
from labkit.models import decode, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Reward", "from_model", "from_texts", "models_of", "weighted"]

Rows = Sequence[Sequence[int]]
Reward = Callable[[Rows, Rows], torch.Tensor]  # (prompt ids, response ids) -> (B,) scores


def from_model(reward_model: PreTrainedModel, *, max_tokens: int = 16384) -> Reward:
    """Score by a reward model, at the last token of prompt + response."""

    def reward(prompts: Rows, responses: Rows) -> torch.Tensor:
        return score(reward_model, prompts, responses, max_tokens=max_tokens)

    return _made_of(reward, [reward_model])


def from_texts(
    function: Callable[[list[str], list[str]], Sequence[float]], tokenizer: PreTrainedTokenizerBase
) -> Reward:
    """Score by any Python function of (prompt texts, response texts)."""

    def reward(prompts: Rows, responses: Rows) -> torch.Tensor:
        texts = ([decode(tokenizer, list(ids)) for ids in rows] for rows in (prompts, responses))
        scores = _asked(function, *texts)
        return torch.as_tensor(scores, dtype=torch.float32)

    return reward


def weighted(parts: Sequence[tuple[float, Reward]]) -> Reward:
    """The weighted sum of several rewards, given as (weight, reward) pairs."""

    def total(prompts: Rows, responses: Rows) -> torch.Tensor:
        return torch.stack([w * reward(prompts, responses).float().cpu() for w, reward in parts]).sum(0)

    return _made_of(total, [model for _, part in parts for model in models_of(part)])


def models_of(reward: Reward) -> list[PreTrainedModel]:
    """The reward models that a reward is known to be made of; of a function of one's own, none."""
    return list(getattr(reward, "models", ()))


def _made_of(reward: Reward, models: Sequence[PreTrainedModel]) -> Reward:
    reward.models = tuple(models)  # type: ignore[attr-defined]
    return reward


def _asked(function: Callable[..., Any], first: Sequence[Any], second: Sequence[Any]) -> Any:
    """What somebody's own function returns; an error in it is a sentence that names it."""
    try:
        return function(first, second)
    except LabError:
        raise
    except Exception as error:
        name = getattr(function, "__qualname__", type(function).__name__)
        raise DataError(
            f"The reward function {name} failed on a batch of {len(second)} episodes ({type(error).__name__}: {error}); repair it. "
            "An episode may be empty, cut off, or nothing that people would write."
        ) from error


def scores_of(reward: Reward, prompts: Rows, responses: Rows) -> torch.Tensor:
    """(B,) fp32 scores on the CPU, or a DataError that says what the reward did or returned instead."""
    models, episodes = models_of(reward), len(responses)
    scores = reward(prompts, responses) if models else _asked(reward, prompts, responses)
    scores = torch.as_tensor(scores, dtype=torch.float32).detach().cpu()
    if scores.shape != (episodes,):
        raise DataError(
            f"The reward returned shape {tuple(scores.shape)} for {episodes} episodes; it must return one score each."
        )
    if not torch.isfinite(scores).all():
        remedy = "the reward model's weights are damaged, or its scores overflow: train it anew (04_reward)" if models else "repair the reward function"
        raise DataError(f"The reward of episode {int((~torch.isfinite(scores)).nonzero()[0])} is not a finite number; {remedy}.")
    return scores
