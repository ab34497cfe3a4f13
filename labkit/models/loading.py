"""Load and save what the method trains: a causal LM (policy), its tokenizer, and scalar-head reward and value models.

The reward model is `AutoModelForTokenClassification` with one label: each position carries the score of the text
up to there, the score of a text is the one at its last real token, and the head's bias (which centres the
demonstrations) is an ordinary weight, so plain `from_pretrained` brings all of it back. The stock
sequence-classification head has no bias and would lose it.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer
from transformers.utils import logging

from labkit.disk import may_not_read
from labkit.errors import DataError, ModelError
from labkit.models.files import UNREADABLE, new_folder, torn_weights
from labkit.models.fusing import fused
from labkit.models.memory import keep_freed_memory
from labkit.models.proof import packed_where_right
from labkit.seeds import checked_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "CONTEXT",
    "choose_device",
    "context_of",
    "decode",
    "encode_prompt",
    "encode_response",
    "load_policy",
    "load_reward_model",
    "load_tokenizer",
    "new_reward_model",
    "save_model",
]

TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"  # the library warns once of what the lab drops, counts and says itself
PAD_TOKEN = "<|pad|>"
CONTEXT = 2048  # tokens that SFT and the reward model take, as the paper's, where a model's config sets no limit


def choose_device() -> tuple[torch.device, torch.dtype]:
    """The one place that picks a device and the dtype of forward passes: CUDA (bf16), MPS (fp32) or CPU (fp32).

    Weights stay fp32 everywhere; bf16 is applied by autocast, so the optimiser always steps fp32 masters. What stays
    fp32 beside it, the heads, runs on the tensor cores of CUDA (TF32: 10 bits where bf16 has 7).
    The environment variables LABKIT_DEVICE ("cpu", "cuda", "mps") and LABKIT_DTYPE ("float32", "bfloat16") override the
    choice: bf16 pays on a CPU that multiplies it in hardware (AMX), from a few million parameters up.
    """
    wanted = os.environ.get("LABKIT_DEVICE")
    if wanted is None:
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted == "cuda" and "LOCAL_RANK" in os.environ:  # a launcher started one process per GPU: each loads onto its own
        wanted = f"cuda:{int(os.environ['LOCAL_RANK']) % max(1, torch.cuda.device_count())}"
    half = wanted.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
    dtype = os.environ.get("LABKIT_DTYPE", "bfloat16" if half else "float32")
    if dtype not in ("float32", "bfloat16"):
        raise ModelError(f"LABKIT_DTYPE is {dtype!r}; it must be float32 or bfloat16.")
    if half and dtype == "bfloat16":
        torch.set_float32_matmul_precision("high")
    if wanted == "cpu":
        keep_freed_memory()
    return torch.device(wanted), getattr(torch, dtype)


def context_of(model: PreTrainedModel | str | Path) -> int | None:
    """How many tokens a model, or the one of a folder or hub name, can read; None where its config sets no limit."""
    try:
        config = AutoConfig.from_pretrained(str(model)) if isinstance(model, (str, Path)) else model.config
    except UNREADABLE as error:
        raise ModelError(
            f"No model config could be loaded from {model}: {_first_line(error)} Give a hub name or a folder made by save_pretrained."
        ) from error
    return getattr(config, "max_position_embeddings", None)


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer with an end token and a pad token of its own (one is added where it is missing or equals the end).

    Raises ModelError where there is no tokenizer, one that knows no words, or no end token: PPO cannot tell a finished response without one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"No tokenizer could be loaded from {path}: {_first_line(error)} Give a folder made by save_pretrained."
        ) from error
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # made up by the library where the files are missing
        raise ModelError(
            f"The tokenizer of {path} knows no token but special ones, so every text is empty to it: its files are missing. Save the "
            "model's own tokenizer there (tokenizer.save_pretrained), or give a folder or hub name that has it."
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"The tokenizer of {path} has no end token (eos_token); set one, save it there again, and reload."
        )
    tokenizer.deprecation_warnings[TOO_LONG] = True
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    return tokenizer


def load_policy(
    path: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Load a causal LM by folder or hub name, in eval mode (dropout off), ready for packed passes where it can be packed.

    With `tokenizer`, the embeddings grow where it knows more tokens than the model (an added pad token).
    """
    found = _architecture(path) if Path(path).is_dir() else ""
    if found.endswith("ForTokenClassification"):
        raise ModelError(f"{path} holds a {found}, not a language model: its head would be random. Give a policy, or load_reward_model() for this one.")
    try:
        with _quiet():
            model = packed_where_right(partial(AutoModelForCausalLM.from_pretrained, str(path), dtype=dtype))
    except UNREADABLE as error:
        reason = _reason(path, error, "Give a hub name or a folder made by save_pretrained.")
        raise ModelError(f"No causal language model could be loaded from {path}: {reason}") from error
    return fused(_grown(model, tokenizer)).to(device or choose_device()[0]).eval()


def new_reward_model(
    policy_path: str | Path,
    seed: int,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Start a reward model from a language model's weights: head N(0, 1/sqrt(d + 1)), bias 0 (Stiennon et al.'s initialisation).

    With `tokenizer`, the embeddings grow as the policy's do, which may write every token that it knows.
    """
    model = _grown(_scalar_model(policy_path, dtype), tokenizer)
    head = scalar_head(model)
    generator = torch.Generator().manual_seed(checked_seed(seed))
    with torch.no_grad():
        weight = torch.randn(head.weight.shape, generator=generator) / math.sqrt(head.in_features + 1)
        head.weight.copy_(weight.to(head.weight.dtype))
        head.bias.zero_()
    return model.to(device or choose_device()[0]).eval()


def load_reward_model(
    path: str | Path,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Load a trained reward (or value) model with its centring bias, in eval mode; tokenizer: as for `new_reward_model`."""
    found = _architecture(path) if Path(path).is_dir() else ""
    if found and not found.endswith("ForTokenClassification"):
        raise ModelError(
            f"{path} holds a {found}, not a reward model: its head would be random. Train one first, or begin with new_reward_model()."
        )
    model = _grown(_scalar_model(path, dtype), tokenizer)
    return model.to(device or choose_device()[0]).eval()


def scalar_head(model: PreTrainedModel) -> torch.nn.Linear:
    """The one-output Linear (with bias) of a reward or value model; raises ModelError where there is none."""
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    if not isinstance(head, torch.nn.Linear) or head.out_features != 1 or head.bias is None:
        raise ModelError(
            f"{type(model).__name__} has no one-output linear head with a bias; make the model with new_reward_model(), "
            "or choose an architecture that transformers offers as AutoModelForTokenClassification."
        )
    return head


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> Path:
    """Save weights (safetensors) and tokenizer so that plain `transformers` loads them; returns the folder.

    Raises RunError on a full disk; an older model of that name stays until the new one is complete.
    """
    folder = Path(folder)
    with new_folder(folder, "model") as scratch, _quiet():
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
    return folder


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a prompt, verbatim (no template), with the tokenizer's begin token where it has one."""
    ids = tokenizer(_said(text), add_special_tokens=True)["input_ids"]
    while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids = ids[:-1]  # some tokenizers append the end token to everything
    return ids


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a finished response: the text followed by the end token."""
    return [*tokenizer(_said(text), add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _said(text: str) -> str:
    if not isinstance(text, str):
        raise DataError(f"{text!r:.60} is to be encoded and is no text; give every prompt and answer a text.")
    return text


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """Text of response ids, without special tokens."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@torch.no_grad()
def _grown(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedModel:
    """The model, with embeddings for tokens that only the tokenizer knows (an added pad token), each the mean of the known ones.

    So an added token's logit is the mean logit, and its probability at most one in the vocabulary. A small random row
    would have a logit near 0, which is the likeliest of all where a model's logits are negative, as GPT-2's are.
    """
    known = model.get_input_embeddings().num_embeddings
    if tokenizer is None or len(tokenizer) <= known:
        return model
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    head = model.get_output_embeddings()
    tables = [model.get_input_embeddings().weight, getattr(head, "weight", None), getattr(head, "bias", None)]
    for table in tables:
        if table is not None:
            table[known:] = table[:known].mean(dim=0)
    return model


def _architecture(folder: str | Path) -> str:
    """The class that a saved model's config names; empty where there is none, or no config that can be read."""
    try:
        return (AutoConfig.from_pretrained(str(folder)).architectures or [""])[0]
    except UNREADABLE:
        return ""  # loading says what is wrong


def _scalar_model(path: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        config = AutoConfig.from_pretrained(str(path), num_labels=1)
        config.classifier_dropout = 0.0  # a score must not depend on chance
        with _quiet():
            load = AutoModelForTokenClassification.from_pretrained
            model = packed_where_right(partial(load, str(path), config=config, dtype=dtype))
    except UNREADABLE as error:
        reason = _reason(path, error, "Give a hub name or a folder made by save_pretrained or new_reward_model().")
        raise ModelError(f"No reward model could be made from {path}: {reason}") from error
    scalar_head(model)
    return fused(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no report that a new head is new: the caller knows."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _reason(path: str | Path, error: Exception, otherwise: str) -> str:
    """Why a model could not be loaded, and what to do: for files this user may not read, for torn ones, else `otherwise`."""
    sentence = may_not_read(Path(path))
    return f"{sentence}." if sentence else f"{_first_line(error)}{torn_weights(path) or f' {otherwise}'}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "." if str(error).strip() else type(error).__name__ + "."
