"""What an episode is worth: any callable from (prompt ids, response ids) to one score each. The reward model is one such."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Real
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
    if not isinstance(reward_model, torch.nn.Module):
        raise DataError(f"from_model takes a model, not {reward_model!r:.60}; give load_reward_model(path).")

    def reward(prompts: Rows, responses: Rows) -> torch.Tensor:
        return score(reward_model, prompts, responses, max_tokens=max_tokens)

    return _made_of(reward, [reward_model])


def from_texts(
    function: Callable[[list[str], list[str]], Sequence[float]], tokenizer: PreTrainedTokenizerBase
) -> Reward:
    """Score by any Python function of (prompt texts, response texts), which returns one number for each response."""
    if not callable(function) or callable(getattr(function, "decode", None)):
        raise DataError(f"{function!r:.60} is no function of texts; give from_texts(function, tokenizer).")

    def reward(prompts: Rows, responses: Rows) -> torch.Tensor:
        texts = ([decode(tokenizer, list(ids)) for ids in rows] for rows in (prompts, responses))
        return answer_of(function, *texts)

    return reward


def weighted(parts: Sequence[tuple[float, Reward]]) -> Reward:
    """The weighted sum of several rewards, given as (weight, reward) pairs."""
    parts = list(parts)
    if not parts:
        raise DataError("There is no reward to weigh; give (weight, reward) pairs, as [(1.0, reward), (0.5, another)].")
    for part in parts:
        if not (isinstance(part, Sequence) and len(part) == 2 and isinstance(part[0], Real)):
            raise DataError(f"{part!r:.60} is no (weight, reward) pair; give pairs, as [(1.0, reward), (0.5, another)].")
        check_reward(part[1])

    def total(prompts: Rows, responses: Rows) -> torch.Tensor:
        return torch.stack([w * scores_of(reward, prompts, responses) for w, reward in parts]).sum(0)

    return _made_of(total, [model for _, part in parts for model in models_of(part)])


def models_of(reward: Reward) -> list[PreTrainedModel]:
    """The reward models that a reward is known to be made of; of a function of one's own, none."""
    return list(getattr(reward, "models", ()))


def _made_of(reward: Reward, models: Sequence[PreTrainedModel]) -> Reward:
    reward.models = tuple(models)  # type: ignore[attr-defined]
    return reward


def check_reward(reward: Any) -> None:
    """Raises DataError where this is no function that could be asked for scores."""
    if isinstance(reward, torch.nn.Module):
        raise DataError(f"The reward is a model ({type(reward).__name__}); from_model(model) makes a reward of it.")
    if not callable(reward):
        kind = type(reward).__name__
        raise DataError(f"The reward is {reward!r:.60}, a {kind}; give from_model(model), from_texts(function, tokenizer) or a function of ids.")


def answer_of(function: Callable[..., Any], *given: Sequence[Any], what: str = "reward") -> torch.Tensor:
    """The numbers that somebody's own function returns, fp32 on the CPU; an error in it is a sentence that names it."""
    try:
        found = function(*given)
        found = list(found) if isinstance(found, Iterator) else found
        return torch.as_tensor(found, dtype=torch.float32).detach().cpu()
    except LabError:
        raise
    except Exception as error:
        name = getattr(function, "__qualname__", type(function).__name__)
        raise DataError(
            f"The {what} function {name} failed on a batch of {len(given[1])} episodes ({type(error).__name__}: {error}); repair it. "
            "An episode may be empty, cut off, or nothing that people would write."
        ) from error


def scores_of(reward: Reward, prompts: Rows, responses: Rows) -> torch.Tensor:
    """(B,) fp32 scores on the CPU, or a DataError that says what the reward did or returned instead."""
    check_reward(reward)
    models, episodes = models_of(reward), len(responses)
    scores = reward(prompts, responses).float().detach().cpu() if models else answer_of(reward, prompts, responses)
    if scores.shape != (episodes,):
        raise DataError(
            f"The reward returned shape {tuple(scores.shape)} for {episodes} episodes; it must return one score each."
        )
    if not torch.isfinite(scores).all():
        remedy = "the reward model's weights are damaged, or its scores overflow: train it anew (04_reward)" if models else "repair the reward function"
        raise DataError(f"The reward of episode {int((~torch.isfinite(scores)).nonzero()[0])} is not a finite number; {remedy}.")
    return scores
