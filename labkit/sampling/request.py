"""What an engine is asked for: one response to each prompt, how long at most, where to stop, at which temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from labkit.sampling.stops import Stops

__all__ = ["SamplingRequest"]


@dataclass(frozen=True)
class SamplingRequest:
    """Prompts as token ids, a seed for each, and the rules that all of them share."""

    prompts: Sequence[Sequence[int]]
    seeds: Sequence[int]
    max_new_tokens: int
    stops: Stops
    temperature: float  # 0 takes the likeliest

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each prompt."""
        return [len(p) for p in self.prompts]

    def only(self, places: Sequence[int]) -> SamplingRequest:
        """The same for the prompts at these places, in their order."""
        return replace(self, prompts=[self.prompts[i] for i in places], seeds=[self.seeds[i] for i in places])

    def noise(self) -> torch.Tensor:
        """(prompts, max_new_tokens) uniform numbers in [0, 1), each row from its own seed."""
        generator = torch.Generator()
        return torch.stack([torch.rand(self.max_new_tokens, generator=generator.manual_seed(seed)) for seed in self.seeds])
