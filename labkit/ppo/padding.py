"""Padding must not be read: before PPO begins one text is scored alone, among longer ones, and padded on either side.

All of these must be one number, for the policy, the value model, and whatever models the reward is made of.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

from labkit.models import context_of, response_logprobs, score, text_values
from labkit.models.packed import is_scalar
from labkit.models.tolerance import allowed_gap
from labkit.ppo.checks import check_reading
from labkit.ppo.rewards import models_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.ppo.rewards import Reward
    from labkit.ppo.state import State

__all__ = ["check_padding"]

AMONG, LONGEST = 32, 128  # prompts to choose from, and tokens that are read of one: a few short passes are enough
PADS = 5


@torch.no_grad()
def check_padding(state: State, asked: Sequence[Sequence[int]], reward: Reward) -> None:
    """Raise InvariantError where a model reads one of the prompts otherwise when it is padded, or beside longer ones.

    asked: the token ids of the prompts. Where the outputs are not finite it passes: the first loss says that better.
    """
    text, others = _texts(asked, context_of(state.plain_policy))
    judges = [(f"reward model {i}" if i else "reward model", m) for i, m in enumerate(models_of(reward))]
    with state.whole():
        for name, model in (("policy", state.plain_policy), ("value model", state.plain_value), *judges):
            weights, full = model.get_input_embeddings().weight.dtype, _chooses_experts(model)
            dtype = state.dtype if weights == torch.float32 and not full else weights
            with nullcontext() if full else state.forward_precision():
                _check(name, model, text, others, state.tokenizer.eos_token_id, dtype)


def _check(
    name: str, model: PreTrainedModel, text: list[int], others: list[list[int]], filler: int, dtype: torch.dtype
) -> None:
    """Raise where one model reads the text in two ways. filler: the token that pads; dtype: of the passes."""
    alone = _alone(model, text)  # (T,), or (T - 1,) of the policy
    if alone.isfinite().all():
        allowed = allowed_gap(alone, dtype)
        for how, read in _readings(model, text, others, filler):
            check_reading(name, how, float(alone[-1]), float((read - alone[-len(read) :]).abs().max()), allowed)


def _chooses_experts(model: PreTrainedModel) -> bool:
    """Whether tokens are sent to experts by a comparison: rounding to half precision may send one elsewhere, which is no fault."""
    config = model.config.get_text_config(decoder=True)
    return any(getattr(config, name, 0) for name in ("num_experts", "num_local_experts", "n_routed_experts"))


def _texts(asked: Sequence[Sequence[int]], context: int | None) -> tuple[list[int], list[list[int]]]:
    """A short prompt of at least two tokens, and three other texts that fit the context: one as long, two longer.

    Batches are sorted by length, so that the one as long comes first and the text would see it, could rows see each other.
    """
    most = min(context or LONGEST, LONGEST)
    rows = sorted((list(ids) for ids in asked[:AMONG]), key=len)
    text = (rows[0] * 2)[: max(2, min(len(rows[0]), most // 2))]
    return text, [text[::-1], (rows[-1] + text)[:most], (text + rows[-1])[:most]]


def _alone(model: PreTrainedModel, text: list[int]) -> torch.Tensor:
    """A score for each of the T beginnings of the text; of a policy the log-probabilities of all tokens but the first."""
    if is_scalar(model):
        return text_values(model, [text])[0].cpu()
    return response_logprobs(model, [text[:1]], [text[1:]]).cpu()


def _readings(
    model: PreTrainedModel, text: list[int], others: list[list[int]], filler: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """(how, what the model says of the text when it is read so), all or the last of what `_alone` returns."""
    texts = [others[0], text, *others[1:]]
    if is_scalar(model):
        yield "beside other texts", score(model, [t[:1] for t in texts], [t[1:] for t in texts]).cpu()[1:2]
    else:
        flat = response_logprobs(model, [t[:1] for t in texts], [t[1:] for t in texts])
        yield "beside other texts", flat.cpu().split([len(t) - 1 for t in texts])[1]
    for side in ("left", "right"):
        yield f"padded on the {side}", _padded(model, text, [filler] * PADS, side)


def _padded(model: PreTrainedModel, text: list[int], pads: list[int], side: str) -> torch.Tensor:
    """The library's own pass over one padded row, as `generate` and other programs have it; what it says of the text."""
    device = model.get_input_embeddings().weight.device
    before = len(pads) if side == "left" else 0
    ids = torch.tensor([[*pads, *text] if before else [*text, *pads]], device=device)  # (1, T + pads)
    mask = torch.zeros_like(ids)
    mask[0, before : before + len(text)] = 1
    given = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    if "position_ids" in inspect.signature(type(_plain(model)).forward).parameters:
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(**given).logits[0, before : before + len(text)].float()  # (T, V), or (T, 1)
    if is_scalar(model):
        return out[:, 0].cpu()
    told = torch.tensor(text[1:], device=device)
    return out[:-1].log_softmax(-1).gather(1, told[:, None])[:, 0].cpu()


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself, without the wrapper of adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
