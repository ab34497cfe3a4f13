"""Padding-free passes for any `transformers` model: rows of unequal length lie end to end as one long row.

Every linear layer, the head and the loss see real tokens only. The attention product alone is done on padded
grids (`layout.py`), or on a CPU by rows of one length (`cpu_attention.py`), in a function registered with the library's
attention interface; no model code of ours is involved.
On CUDA in half precision flash attention reads the rows as they lie, and there are no grids.
Without a `Layout` that function is plain scaled-dot-product attention, so trainers and `generate` work as usual.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from labkit.errors import DataError, ModelError
from labkit.models.checkpointing import recomputing
from labkit.models.cpu_attention import by_runs, reads_runs
from labkit.models.last_layer import only_needed
from labkit.models.layout import Ends, Layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

__all__ = ["LAB_ATTENTION", "Layout", "PackedRows", "end_to_end", "packed_logits", "reads_as_they_lie", "windows_told"]

LAB_ATTENTION = "labkit_packed"
_told: list[int] | None = None  # windows that layers hand to the attention function, while somebody asks


@contextlib.contextmanager
def windows_told() -> Iterator[list[int]]:
    """Inside, the list fills with the windows that layers hand on; a model that puts its window into masks hands on none."""
    global _told
    _told = told = []
    try:
        yield told
    finally:
        _told = None


def _attention(
    module, query, key, value, attention_mask, *, layout: Layout | Ends | None = None, scaling=None, dropout=0.0, **kwargs
):
    """The registered attention function; `layout` says how rows lie in the packed row."""
    window = kwargs.get("sliding_window")
    if window is not None and _told is not None:
        _told.append(window)
    stepping = query.shape[2] == 1 and attention_mask is not None and attention_mask.is_floating_point()
    if layout is None and not stepping:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:
        raise ModelError(
            f"{type(module).__name__} uses attention that packed rows do not support here (a soft cap, or sinks); load the "
            "model with load_policy, or with attn_implementation='eager'."
        )
    if layout is None:
        return _one_token(query, key, value, _within(attention_mask, window), scaling), None
    if _flash_reads(value, query.shape[3]) and not dropout:
        if isinstance(layout, (Layout, Ends)):
            return _by_row_ends(query, key, value, layout, scaling, window), None
        rows = (layout.separate(x) for x in (query, key, value))  # prompts that several rows share
        return layout.join(_by_row_ends(*rows, layout.apart, scaling, window)), None
    if isinstance(layout, Ends):
        raise ModelError(
            f"{type(module).__name__} cannot read rows of which only the ends are known; start with LABKIT_CUDA_GRAPHS=0."
        )
    runs = layout.runs if isinstance(layout, Layout) and window is None and not dropout else None
    if runs is not None and reads_runs(query, key, value):
        return by_runs(query, key, value, runs, scaling), None
    grids = zip(layout.spread(query), layout.spread(key), layout.spread(value), strict=True)
    return layout.gather([_causal(q, k, v, scaling, dropout, window) for q, k, v in grids]), None


def _flash_reads(values: torch.Tensor, width: int) -> bool:
    """Whether flash attention takes packed values (1, H, T, d), and queries of this width, as they lie."""
    half = values.dtype in (torch.bfloat16, torch.float16)
    fits = values.shape[3] == width and width % 8 == 0 and width <= 256
    return values.is_cuda and half and fits and _is_new_enough(values.device)


@cache
def _is_new_enough(device: torch.device) -> bool:
    """Flash attention needs an NVIDIA GPU of 2020 or newer (Ampere)."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def reads_as_they_lie(model: PreTrainedModel) -> bool:
    """Whether, in half precision on CUDA, attention reads this model's packed rows as they lie: no grid depends on lengths."""
    text, device = model.config.get_text_config(decoder=True), model.get_input_embeddings().weight.device
    packed = model.config._attn_implementation == LAB_ATTENTION and not hasattr(text, "v_head_dim")  # keys wider than values
    if not packed or not getattr(text, "num_attention_heads", 0) or not _is_new_enough(device):
        return False
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return width % 8 == 0 and width <= 256


def _by_row_ends(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout | Ends, scale: float | None, window: int | None
) -> torch.Tensor:
    """(1, H, T, d) packed -> (1, T, H, d): causal attention within each row, `window` tokens back at most."""
    q, k, v = (x[0].transpose(0, 1).to(v.dtype) for x in (q, k, v))  # rotary embeddings leave q and k in fp32
    back = -1 if window is None else window - 1
    shared = {"enable_gqa": True} if q.shape[1] != k.shape[1] else {}
    ends, longest = layout.ends, layout.longest
    return varlen_attn(q, k, v, ends, ends, longest, longest, scale=scale, window_size=(back, 0), **shared)[None]


def _one_token(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """(B, H, 1, d) -> (B, 1, H, width of v): a decoding step as plain products. Query heads that share a key head are read together."""
    grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])  # (B, key heads, query heads of each, d)
    scores = grouped @ k.transpose(2, 3) * (scale or q.shape[3] ** -0.5) + mask
    out = scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
    return out.reshape(q.shape[0], 1, q.shape[1], v.shape[3])


def _within(mask: torch.Tensor, window: int | None) -> torch.Tensor:
    """(B, 1, 1, slots) of 0 and -inf, with all but the newest `window` of each row's open slots closed."""
    if window is None or window >= mask.shape[3]:
        return mask
    from_here = (mask == 0).flip(-1).cumsum(-1).flip(-1)  # how many are open from each slot on
    return mask.masked_fill(from_here > window, float("-inf"))


def _causal(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None, dropout: float, window: int | None
) -> torch.Tensor:
    """(B, H, L, d) causal attention, `window` tokens back at most.

    The CPU's fused kernel is several times slower backwards in bf16 than plain products.
    """
    length = q.shape[2]
    seen = None  # (L, L), needed where causality alone does not say it
    if window is not None and window < length:
        seen = torch.ones(length, length, dtype=torch.bool, device=q.device).tril().triu(1 - window)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        hidden = torch.full((length, length), float("-inf"), dtype=q.dtype).triu(1)
        hidden = hidden if seen is None else hidden.masked_fill(~seen, float("-inf"))
        weights = (q @ k.transpose(2, 3) * (scale or q.shape[3] ** -0.5) + hidden).softmax(-1, dtype=torch.float32)
        return F.dropout(weights, dropout).to(q.dtype) @ v
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=seen, is_causal=seen is None, scale=scale, dropout_p=dropout, enable_gqa=q.shape[1] != k.shape[1]
    )


AttentionInterface.register(LAB_ATTENTION, _attention)
AttentionMaskInterface.register(LAB_ATTENTION, sdpa_mask)


@dataclass(frozen=True)
class PackedRows:
    """Rows of token ids laid end to end, on a device: what padding-free passes of several models may share."""

    ids: torch.Tensor  # (T,)
    positions: torch.Tensor  # (T,) of each token in its row
    layout: Layout | Ends

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]] | torch.Tensor, device: torch.device) -> PackedRows:
        """Lists of token ids, or a tensor of rows of one length; raises DataError where there is nothing to read."""
        if len(sequences) == 0 or not all(len(s) for s in sequences):
            raise DataError(
                "There is nothing to score: the batch is empty or holds an empty sequence. Drop empty rows before scoring."
            )
        lengths = [len(s) for s in sequences]
        starts = np.cumsum([0, *lengths[:-1]])
        positions = torch.from_numpy(np.arange(sum(lengths)) - np.repeat(starts, lengths)).to(device)
        return cls(end_to_end(sequences, device), positions, Layout.of(lengths, device))


def packed_logits(
    model: PreTrainedModel,
    sequences: PackedRows | Sequence[Sequence[int]] | torch.Tensor,
    keep: torch.Tensor | None = None,
    **kwargs,
) -> torch.Tensor:
    """One forward pass over `sequences` (lists of token ids, or a tensor of rows of one length; no padding) laid end to end.

    keep: (N,) positions in the packed row whose outputs are wanted; all T by default. A causal LM runs its head on
    those alone. Returns (N, vocabulary) logits of a causal LM, or (N,) values of a one-label token classifier.
    Models loaded without the lab's attention are run on a right-padded grid instead: same numbers, more work.
    """
    plain = getattr(model, "module", model)  # without the wrapper of distributed training
    device = plain.get_input_embeddings().weight.device
    rows = sequences if isinstance(sequences, PackedRows) else PackedRows.of(sequences, device)
    if isinstance(rows.layout, Layout):
        _check_context(plain, rows.layout.longest)
    if plain.config._attn_implementation != LAB_ATTENTION:
        with recomputing(model):
            return _padded_logits(model, rows.ids, rows.layout.lengths, keep, device)
    arguments = {
        "input_ids": rows.ids[None],  # (1, T)
        "position_ids": rows.positions[None],  # (1, T)
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),  # prepared: the library builds none
        "layout": rows.layout,
        "use_cache": False,
        **kwargs,
    }
    if keep is not None and not is_scalar(model):
        arguments["logits_to_keep"] = keep
    with only_needed(model, keep), recomputing(model):
        out = model(**arguments).logits[0]  # (T or N, V), or (T, 1)
    if is_scalar(model):
        return out[:, 0] if keep is None else out[keep, 0]
    return out


def is_scalar(model: torch.nn.Module) -> bool:
    """True for a reward or value model, False for a language model (also when wrapped for several processes)."""
    return "ForTokenClassification" in type(getattr(model, "module", model)).__name__


def end_to_end(sequences: Sequence[Sequence[int]] | torch.Tensor, device: torch.device) -> torch.Tensor:
    """(T,) ids; a tensor that lies on the device already does not pass through the host again."""
    if isinstance(sequences, torch.Tensor):
        return sequences.reshape(-1).to(device)
    return torch.from_numpy(np.fromiter(chain.from_iterable(sequences), dtype=np.int64)).to(device)


def _padded_logits(model, packed, lengths, keep, device) -> torch.Tensor:
    """The plain path: right-padded rows, an attention mask, the full head; what the packed path must equal."""
    longest = max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]  # (B, L)
    mask = mask.to(device)
    ids = torch.zeros(mask.shape, dtype=torch.long, device=device)
    ids[mask] = packed
    logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits[
        mask
    ]  # (T, V) or (T, 1)
    logits = logits[:, 0] if is_scalar(model) else logits
    return logits if keep is None else logits[keep]


def _check_context(model: PreTrainedModel, longest: int) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise DataError(
            f"A sequence of {longest} tokens does not fit the model's context of {limit}; "
            "drop or shorten that prompt, or lower the response length."
        )
