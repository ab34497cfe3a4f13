"""What the reader learns of answers beside their marks: to write right ones, and to know how likely each word of any was.

A language model that can answer finds right answers likelier than wrong ones, but a scalar at the last token cannot use it:
what was likely at the tokens before does not reach the last state by itself. So a linear probe must tell, at every token of
an answer, the mean log-probability of the answer so far under the model itself, and that of the token. The probe is thrown
away; what it needed stays in the states, for the head of a reward model to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Answers", "logprobs_of", "running_means", "surprise_loss"]

LEAST = -12.0  # log-probabilities below are taken for this one
LAST_TOKEN = 4.0  # weight of an answer's last token, where a reward model's head sits


@dataclass(frozen=True)
class Answers:
    """Where the tokens of all answers lie in a packed pass that holds each prompt once, its answers behind it."""

    tokens: torch.Tensor  # (N,) their ids, answer after answer
    places: torch.Tensor  # (N,) where each lies
    before: torch.Tensor  # (N,) where each is predicted: the place before it, for a first token the prompt's end
    lengths: tuple[int, ...]  # of each answer
    right: torch.Tensor  # (N,) whether the token belongs to a right answer

    @classmethod
    def of(cls, found: Sequence[tuple[Sequence[int], Sequence[Sequence[int]], int]]) -> Answers:
        """found: prompt, answers with the right ones first, how many are right."""
        tokens, places, before, lengths, right, start = [], [], [], [], [], 0
        for prompt, answers, count in found:
            end = start + len(prompt) - 1
            start += len(prompt)
            for number, answer in enumerate(answers):
                tokens += answer
                places += range(start, start + len(answer))
                before += [end, *range(start, start + len(answer) - 1)]
                right += [number < count] * len(answer)
                lengths.append(len(answer))
                start += len(answer)
        return cls(
            torch.tensor(tokens), torch.tensor(places), torch.tensor(before), tuple(lengths), torch.tensor(right)
        )

    @property
    def ends(self) -> torch.Tensor:
        """(answers,) which of the N tokens are last ones."""
        return torch.tensor(self.lengths).cumsum(0) - 1


def logprobs_of(model: PreTrainedModel, states: torch.Tensor, answers: Answers) -> torch.Tensor:
    """(N,) log-probabilities of the answers' tokens from the (T, d) last states, through the tied embeddings."""
    logits = states[answers.before] @ model.get_input_embeddings().weight.T
    return -F.cross_entropy(logits, answers.tokens, reduction="none")


def running_means(logprobs: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """(N,) at each token the mean log-probability of its answer up to and with it."""
    return torch.cat([part.cumsum(0) / torch.arange(1, len(part) + 1) for part in logprobs.split(list(lengths))])


def surprise_loss(
    probe: torch.nn.Linear, states: torch.Tensor, logprobs: torch.Tensor, answers: Answers
) -> torch.Tensor:
    """How far the probe (d -> 2: running mean, the token's own) is from the model's own log-probabilities; a smooth L1."""
    own = logprobs.detach().clamp(min=LEAST)
    told = probe(states[answers.places])  # (N, 2)
    weights = torch.ones(len(own)).index_fill(0, answers.ends, LAST_TOKEN)
    means = F.smooth_l1_loss(told[:, 0], running_means(own, answers.lengths), reduction="none")
    return (weights * means).sum() / weights.sum() + 0.5 * F.smooth_l1_loss(told[:, 1], own)
