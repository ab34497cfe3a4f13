"""Which tokens carry a reward model's score? Gradient x input, and occlusion.

Both answer per token of prompt + response. Gradient x input is one backward pass and local: the first-order change of
the score if the token's embedding shrank to zero. Occlusion is one forward pass per token and honest about large
changes: the score minus the score of the text without that token. Where they disagree, believe occlusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from labkit.errors import DataError
from labkit.models import score

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["gradient_x_input", "occlusion"]


def gradient_x_input(model: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]) -> list[float]:
    """∂score/∂e_t · e_t for each of the T tokens of prompt + response; e_t is its embedding, score the last value."""
    ids = [*prompt, *response]
    if not ids:
        raise DataError("There are no tokens to attribute a score to.")
    table = model.get_input_embeddings()
    with torch.enable_grad():
        embedded = table(torch.tensor([ids], device=table.weight.device)).detach().requires_grad_()  # (1, T, d)
        value = model(inputs_embeds=embedded).logits[0, -1, 0]
        (gradient,) = torch.autograd.grad(value, embedded)
    return (gradient * embedded).sum(-1)[0].float().tolist()


def occlusion(
    model: PreTrainedModel, prompt: Sequence[int], response: Sequence[int], *, max_tokens: int = 16384
) -> list[float]:
    """Score of the whole text minus its score without token t, for each of the T tokens of prompt + response.

    A token whose loss lowers the score is positive. The only token of a text cannot be left out and gets 0.
    """
    ids = [*prompt, *response]
    if len(ids) < 2:
        return [0.0] * len(ids)
    texts = [ids, *([*ids[:t], *ids[t + 1 :]] for t in range(len(ids)))]
    values = score(model, [text[:-1] for text in texts], [text[-1:] for text in texts], max_tokens=max_tokens)
    return (values[0] - values[1:]).tolist()
