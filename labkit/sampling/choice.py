"""How a token is chosen: by inverting the CDF at a uniform number of the request's own, so that nothing else decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labkit.sampling.stops import Stops

__all__ = ["Sampled", "choose", "cut"]


@dataclass(frozen=True)
class Sampled:
    """One sampled response: its ids (with what ended it, if that came), their log-probabilities, whether it ended by itself."""

    ids: list[int]
    logprobs: list[float]
    finished: bool


def choose(
    logits: torch.Tensor, noise: torch.Tensor, temperature: float | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, V) logits and (B,) uniform numbers -> (B,) token ids and (B,) their log-probabilities.

    temperature: 0 takes the likeliest; in a tensor (it may then change under a recorded step) it is above 0.
    """
    logits = logits.float()
    told = isinstance(temperature, torch.Tensor)
    if told or temperature > 0:
        logprobs = torch.log_softmax(logits / temperature if told or temperature != 1 else logits, dim=-1)
        cdf = logprobs.exp().cumsum(dim=-1)
        ids = torch.searchsorted(cdf, (noise.to(cdf.device) * cdf[:, -1])[:, None], right=True).squeeze(1)
        ids = ids.clamp_(max=logits.shape[-1] - 1)
    else:
        logprobs = torch.log_softmax(logits, dim=-1)
        ids = logprobs.argmax(dim=-1)
    return ids, logprobs.gather(1, ids[:, None]).squeeze(1)


def cut(ids: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]], stops: Stops) -> list[Sampled]:
    """Each row up to where it ended; tokens drawn after that, before the host looked, are dropped."""
    found = []
    for row, row_logprobs in zip(ids, logprobs, strict=True):
        n = stops.length(row)
        found.append(Sampled(list(row[:n]), list(row_logprobs[:n]), n is not None))
    return found
