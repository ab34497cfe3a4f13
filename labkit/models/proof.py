"""Which models may be packed: tried on two short rows where an architecture is first loaded, never taken for granted.

transformers lets every model name a registered attention function: also one that never asks it (CodeGen), that carries a
state from token to token beside attention (LFM2, Mamba), or whose own table of functions lacks it (GPT-J). Laid end to end,
the rows of such a model would see each other, without an error. It keeps the library's attention instead:
padded rows, and `generate` to sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import torch

from labkit.models.packed import LAB_ATTENTION, is_scalar, packed_logits, windows_told

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["packed_where_right"]

SHORT, LONG = 4, 9  # tokens of the two rows; one is the beginning of the other, so a single pass says what both should be
ROUNDING, HALF = 1e-4, 0.05  # of the range of the outputs, in fp32 (tiny models: 1e-7) and in other dtypes

_faults: dict[Hashable, str | None] = {}  # by architecture, in this process; None: it may be packed
_said: set[type] = set()  # classes that were warned about


def packed_where_right(load: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """The model that `load(attn_implementation=...)` loads: with the lab's attention where that gives the right numbers.

    Elsewhere with the library's, and a warning, once.
    """
    try:
        model = load(attn_implementation=LAB_ATTENTION)
    except KeyError as error:
        if error.args != (LAB_ATTENTION,):
            raise
        return _warned(load(attn_implementation=None), "its attention cannot be exchanged")
    architecture = _architecture(model)
    if architecture not in _faults:
        _faults[architecture] = _fault(model)
    if (fault := _faults[architecture]) is None:
        return model
    _take_own_attention(model)
    return _warned(model, fault)


def _warned(model: PreTrainedModel, fault: str) -> PreTrainedModel:
    if type(model) not in _said:
        _said.add(type(model))
        warnings.warn(
            f"{type(model).__name__} is not run packed here: {fault}. It runs on padded rows with the library's own attention "
            "and samples through `generate`: the same numbers, but slower.",
            stacklevel=2,
        )
    return model


def _architecture(model: PreTrainedModel) -> Hashable:
    """Class and config, but for numbers, whose sizes change nothing here; whether there is one (a window, a cap) may."""
    config = model.config.to_dict()
    return type(model), model.dtype, _looks_back(model) is None, frozenset((k, _kind(v)) for k, v in config.items() if k != "_name_or_path")


def _kind(value: Any) -> Hashable:
    if isinstance(value, dict):
        return frozenset((k, _kind(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return frozenset(map(_kind, value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "a number"
    return value if isinstance(value, Hashable) else repr(value)


@torch.no_grad()
def _fault(model: PreTrainedModel) -> str | None:
    """What is wrong with packed passes and cached steps of this model; None where they say what a row alone says."""
    row = _row(model)
    try:
        truth = _alone(model, row, "eager")  # (LONG, V), or (LONG,) of a reward model
        if not truth.isfinite().all():
            return None  # damaged weights: the first loss says so, and better
        with windows_told() as told:
            ours, stepped = (_packed(model, row), None) if is_scalar(model) else _read_and_stepped(model, row)
        if _looks_back(model) is not None and not told:
            return "its window stands in masks, which packed rows do without"
        if not _same(ours, torch.cat([truth[:SHORT], truth[: LONG - 1]])[1:]):
            return "rows laid end to end would see each other"
        if stepped is not None and not _same(stepped, truth[[SHORT, LONG - 1]]):
            return "it needs a cache of its own"
    except Exception as error:  # whatever a model raises on input it was not written for
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"its code refuses ({reason.split(';')[0].rstrip('.')})"
    return None


def _looks_back(model: PreTrainedModel) -> int | None:
    """How many tokens back some layer looks at most, where that is less than the context; None: all see everything.

    The two short rows of the proof would not show it.
    """
    text = model.config.get_text_config(decoder=True)
    window, context = getattr(text, "sliding_window", None), getattr(text, "max_position_embeddings", None)
    kinds = getattr(text, "layer_types", None)
    active = getattr(text, "use_sliding_window", True) is not False and (kinds is None or any("sliding" in k for k in kinds))
    return window if window and active and window < (context or window + 1) else None


def _row(model: PreTrainedModel) -> list[int]:
    tokens = model.get_input_embeddings().num_embeddings
    return [(7 * i + 3) % tokens for i in range(LONG)]


def _alone(model: PreTrainedModel, row: list[int], attention: str) -> torch.Tensor:
    """What one row gives with an attention of the library's; "eager" knows everything that an architecture asks for."""
    before, model.config._attn_implementation = model.config._attn_implementation, attention
    try:
        out = model(input_ids=torch.tensor([row]), use_cache=False).logits[0]
    finally:
        model.config._attn_implementation = before
    return out[:, 0] if is_scalar(model) else out


def _packed(model: PreTrainedModel, row: list[int], **cached: Any) -> torch.Tensor:
    """(T - 1, V), or (T - 1,): both beginnings of the row, end to end; all places but one, so that the last layer is narrowed."""
    return packed_logits(model, [row[:SHORT], row[:-1]], keep=torch.arange(1, SHORT + LONG - 1), **cached)


def _read_and_stepped(model: PreTrainedModel, row: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same pass into the cache that sampling uses, and (2, V) after one token more of each."""
    from labkit.sampling.cache import RightAlignedCache

    ends = (SHORT, LONG - 1)
    cache = RightAlignedCache(model.config, ends, 1)
    cache.read_next((0, 1), torch.device("cpu"))
    read = _packed(model, row, past_key_values=cache, use_cache=True)
    cache.start_steps(None)
    stepped = model(
        input_ids=torch.tensor([[row[n]] for n in ends]),
        position_ids=torch.tensor([[n] for n in ends]),
        attention_mask=cache.step_mask(),
        past_key_values=cache,
        use_cache=True,
    )
    return read, stepped.logits[:, -1]


def _take_own_attention(model: PreTrainedModel) -> None:
    """The fast attention of the library where it says what the eager one says (it knows neither caps nor sinks)."""
    row = _row(model)
    try:
        with torch.no_grad():
            right = _same(_alone(model, row, "sdpa"), _alone(model, row, "eager"))
    except (ValueError, RuntimeError):
        right = False
    model.config._attn_implementation = "sdpa" if right else "eager"


def _same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    allowed = (ROUNDING if theirs.dtype == torch.float32 else HALF) * float(theirs.max() - theirs.min()) + 1e-6
    return ours.shape == theirs.shape and bool((ours.float() - theirs.float()).abs().max() <= allowed)
