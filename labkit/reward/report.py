"""How often a reward model agrees with rankings: overall, by rank gap, by labeler, with intervals.

Pairs of one prompt are not independent (they share completions), so intervals are widened by the observed
clustering by prompt: Wilson's interval with the number of pairs divided by the design effect.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from labkit.models import CONTEXT, completion_scores, context_of
from labkit.reward.data import Ranked, encode_rankings
from labkit.reward.loss import kwise_loss
from labkit.reward.settings import RewardSettings
from labkit.types import Ranking

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Accuracy", "Outcome", "Share", "accuracy", "score_ranked", "share"]

Outcome = tuple[str, float]  # prompt id, 1 if the pair is ordered as the labeler did, 0.5 for equal scores


@dataclass(frozen=True)
class Share:
    """A share of pairs with its 95 % interval."""

    value: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.pairs} pairs"


@dataclass(frozen=True)
class Accuracy:
    """Pair accuracy of a reward model on rankings, and its ranking loss there."""

    overall: Share
    by_gap: dict[int, Share]  # rank difference -> share
    by_labeler: dict[str, Share]
    loss: float
    outcomes: list[Outcome]  # of each pair, to be pooled with those of other models


def accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rankings: Sequence[Ranking],
    settings: RewardSettings | None = None,
) -> Accuracy:
    """Judge `model` on rankings; ties take no part, equal scores count one half."""
    return accuracy_of(model, encode_rankings(tokenizer, rankings, settings or RewardSettings(), context_of(model) or CONTEXT).rows)


def accuracy_of(model: PreTrainedModel, rows: Sequence[Ranked]) -> Accuracy:
    """The same for rankings that are encoded already."""
    scores = score_ranked(model, rows)
    outcomes = [
        (row, gap, (row.prompt_id, _outcome(s[a].item() - s[b].item())))
        for row, s in zip(rows, scores, strict=True)
        for (a, b), gap in zip(row.pairs, row.gaps, strict=True)
    ]
    losses = [
        kwise_loss(s, torch.tensor(row.pairs), torch.full((len(row.pairs),), row.weight), 1).item()
        for row, s in zip(rows, scores, strict=True)
    ]
    return Accuracy(
        overall=share(o for _, _, o in outcomes),
        by_gap=_grouped(outcomes, lambda row, gap: gap),
        by_labeler=_grouped(outcomes, lambda row, gap: row.labeler),
        loss=sum(losses) / len(losses),
        outcomes=[o for _, _, o in outcomes],
    )


def score_ranked(model: PreTrainedModel, rows: Sequence[Ranked], prompts_at_once: int = 32) -> list[torch.Tensor]:
    """Scores of each ranking's completions, (K,) on the CPU; without gradients and dropout."""
    model.eval()
    found: list[torch.Tensor] = []
    for start in range(0, len(rows), prompts_at_once):
        chunk = rows[start : start + prompts_at_once]
        with torch.no_grad():
            scores = completion_scores(model, [r.prompt for r in chunk], [r.responses for r in chunk]).float().cpu()
        found += scores.split([len(r.responses) for r in chunk])
    return found


def share(outcomes: Iterable[Outcome]) -> Share:
    """Mean of the outcomes with Wilson's 95 % interval, widened by clustering by prompt."""
    clusters: dict[str, list[float]] = defaultdict(list)
    for prompt, value in outcomes:
        clusters[prompt].append(value)
    n = sum(map(len, clusters.values()))
    if not n:
        return Share(math.nan, 0.0, 1.0, 0)
    p = sum(map(sum, clusters.values())) / n
    spread = sum((sum(c) - p * len(c)) ** 2 for c in clusters.values())  # variance of the sum, clusters independent
    effect = max(1.0, spread / (n * p * (1 - p))) if 0 < p < 1 else n / len(clusters)
    low, high = _wilson(p, n / effect)
    return Share(p, low, high, n)


def _wilson(p: float, n: float, z: float = 1.96) -> tuple[float, float]:
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _outcome(margin: float) -> float:
    return 0.5 if margin == 0 else float(margin > 0)


def _grouped(outcomes: Sequence[tuple[Ranked, int, Outcome]], key: Callable[[Ranked, int], object]) -> dict:
    groups: dict[object, list[Outcome]] = defaultdict(list)
    for row, gap, outcome in outcomes:
        groups[key(row, gap)].append(outcome)
    return {name: share(groups[name]) for name in sorted(groups)}
