"""One vocabulary for the policy and its judge: PPO, best-of-n and every score hand the reward model the policy's token ids.

The reward model learns from texts, which its own tokenizer cuts. Were that another one, it would be asked about ids that
mean other words to it, without an error: any id is some word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.errors import ModelError
from labkit.models import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["shared_tokenizer"]


def shared_tokenizer(model: str, reward_base: str) -> PreTrainedTokenizerBase:
    """The policy's tokenizer, where the reward model's base has the same; else a ModelError that names both."""
    ours = load_tokenizer(model)
    if reward_base != model and (found := _difference(ours, load_tokenizer(reward_base))):
        raise ModelError(
            f"The policy starts from {model} and the reward model from {reward_base}, {found}, so the reward model would be asked about "
            "token ids that mean something else to it; give a reward_base with the policy's tokenizer, or none."
        )
    return ours


def _difference(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase) -> str:
    """What differs, in words; empty where nothing does. Pad tokens do not count: rows are read without padding."""
    pads = {ours.pad_token, theirs.pad_token}
    here, there = ({w: i for w, i in t.get_vocab().items() if w not in pads} for t in (ours, theirs))
    if here != there:
        moved = sorted(w for w in here if w in there and here[w] != there[w])
        word = (moved or sorted(set(here) ^ set(there)))[0]
        first, second = (f"token {v[word]}" if word in v else "no token" for v in (here, there))
        return f"whose vocabularies differ ({len(here):,} and {len(there):,} tokens; {word!r} is {first} of one and {second} of the other)"
    if ours.eos_token_id != theirs.eos_token_id:
        return f"which end a response with different tokens ({ours.eos_token!r} and {theirs.eos_token!r})"
    return ""
