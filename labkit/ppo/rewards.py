"""What an episode is worth: any callable from (prompt ids, response ids) to one score each. The reward model is one such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from labkit.errors import DataError
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
        scores = function(
            [decode(tokenizer, list(p)) for p in prompts], [decode(tokenizer, list(r)) for r in responses]
        )
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


def checked(scores: Any, episodes: int) -> torch.Tensor:
    """(B,) fp32 scores on the CPU, or a DataError that says what the reward returned instead."""
    scores = torch.as_tensor(scores, dtype=torch.float32).detach().cpu()
    if scores.shape != (episodes,):
        raise DataError(
            f"The reward returned shape {tuple(scores.shape)} for {episodes} episodes; it must return one score each."
        )
    if not torch.isfinite(scores).all():
        raise DataError(
            f"The reward of episode {int((~torch.isfinite(scores)).nonzero()[0])} is not a finite number; repair the reward function."
        )
    return scores
