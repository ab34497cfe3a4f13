"""Several reward models as one reward (Coste et al. 2023): mean, worst case, or the mean less their disagreement.

Not in the InstructGPT paper. Where one model alone likes a response, it is more often fooled than right; the worst
case and the uncertainty-weighted mean make such responses unattractive, which delays over-optimisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from labkit.errors import SettingsError
from labkit.models import response_logprobs, score

__all__ = ["Ensemble", "likelihood"]

Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Ensemble:
    """A reward on (prompt ids, response ids) made of several.

    rewards: reward models, or functions from (prompt ids, response ids) to (B,) scores; scores must share a scale,
    so centre the models on the same demonstrations. how: "mean", "worst" (minimum) or "uncertainty" (mean minus
    `weight` times the variance among members).
    """

    rewards: Sequence[Callable]
    how: str = "worst"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.how not in ("mean", "worst", "uncertainty"):
            raise SettingsError(f"how is {self.how!r}; an ensemble combines by mean, worst or uncertainty.")
        if not isinstance(self.rewards, Iterable):
            raise SettingsError(f"rewards is {self.rewards!r:.60}; give a list of reward models and functions, as Ensemble([rm, another]).")
        object.__setattr__(self, "rewards", tuple(self.rewards))
        if not self.rewards:
            raise SettingsError("The ensemble has no members; give at least one reward model or function.")

    @property
    def models(self) -> list[torch.nn.Module]:
        """The members that are models, for who checks these before they are trained against."""
        return [m for r in self.rewards for m in ([r] if isinstance(r, torch.nn.Module) else getattr(r, "models", ()))]

    def members(self, prompts: Rows, responses: Rows) -> torch.Tensor:
        """(members, B) scores of each member."""
        return torch.stack([_scores(reward, prompts, responses).float().cpu() for reward in self.rewards])

    def __call__(self, prompts: Rows, responses: Rows) -> torch.Tensor:
        """(B,) combined scores."""
        scores = self.members(prompts, responses)
        if self.how == "worst":
            return scores.min(0).values
        penalty = self.weight * scores.var(0, unbiased=False) if self.how == "uncertainty" else 0.0
        return scores.mean(0) - penalty


def likelihood(model: torch.nn.Module) -> Callable[[Rows, Rows], torch.Tensor]:
    """A reward: the mean log-probability per response token under a frozen language model, e.g. the SFT model.

    Not in the paper. A small SFT model often finds a right answer likelier than a wrong one that its reward model
    cannot tell apart; as one part of a weighted reward it helps such a reward model out.
    """

    def reward(prompts: Rows, responses: Rows) -> torch.Tensor:
        parts = response_logprobs(model, prompts, responses).cpu().split([len(r) for r in responses])
        return torch.stack([part.mean() for part in parts])

    return reward


def _scores(reward: Callable, prompts: Rows, responses: Rows) -> torch.Tensor:
    if isinstance(reward, torch.nn.Module):
        return score(reward, prompts, responses)
    return torch.as_tensor(reward(prompts, responses), dtype=torch.float32)
