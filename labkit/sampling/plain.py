"""The plain path through the library's own `generate`, for models without the lab's attention: slower, same choices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from labkit.sampling.choice import Sampled, choose, cut
from labkit.sampling.request import SamplingRequest
from labkit.sampling.stops import Stops

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["sample_by_generate"]


class _ChooseByNoise(LogitsProcessor):
    """Makes greedy `generate` follow our own choice, token by token, and remembers its log-probabilities."""

    def __init__(self, noise: torch.Tensor, prompt_length: int, temperature: float) -> None:
        self.noise, self.prompt_length, self.temperature = noise, prompt_length, temperature
        self.logprobs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        ids, logprobs = choose(scores, self.noise[:, input_ids.shape[1] - self.prompt_length], self.temperature)
        self.logprobs.append(logprobs.cpu())
        return torch.full_like(scores, float("-inf")).scatter(1, ids[:, None], 0.0)


class _Stopped(StoppingCriteria):
    """The lab's own rule: it alone says when a row has ended."""

    def __init__(self, stops: Stops, prompt_length: int) -> None:
        self.stops, self.prompt_length = stops, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        ended = [self.stops.newest_ends(row) for row in input_ids[:, self.prompt_length :].tolist()]
        return torch.tensor(ended, device=input_ids.device)


def sample_by_generate(model: PreTrainedModel, asked: SamplingRequest) -> list[Sampled]:
    """One response per prompt; prompts are padded on their left."""
    device = model.get_input_embeddings().weight.device
    stops, longest = asked.stops, max(asked.lengths)
    mask = torch.arange(longest) >= longest - torch.tensor(asked.lengths)[:, None]  # (B, L)
    ids = torch.full(mask.shape, stops.eos_id)
    ids[mask] = torch.tensor([t for p in asked.prompts for t in p])
    chooser = _ChooseByNoise(asked.noise(), longest, asked.temperature)
    with _no_taste(model):
        out = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.long().to(device),
            max_new_tokens=asked.max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=stops.eos_id,
            pad_token_id=stops.eos_id,
            logits_processor=LogitsProcessorList([chooser]),
            stopping_criteria=StoppingCriteriaList([_Stopped(stops, longest)] if stops.more else []),
        )[:, longest:].cpu()
    return cut(out.tolist(), torch.stack(chooser.logprobs, dim=1).tolist(), stops)


@contextlib.contextmanager
def _no_taste(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model has a blank generation config: its own may ask for penalties, which change the distribution.

    A blank one that is handed to `generate` does not help: what it leaves open is filled in from the model's own.
    """
    own = [(m, m.generation_config) for m in model.modules() if "generation_config" in vars(m)]  # an adapter's base, too
    for module, _ in own:
        module.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for module, config in own:
            module.generation_config = config
