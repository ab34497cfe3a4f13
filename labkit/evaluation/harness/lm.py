"""How lm-eval asks a model of the lab: its own `HFLM`, with three things that it leaves open or gets wrong here.

- Encoding. `HFLM` encodes plain text as the lab encodes a prompt (`labkit.models.encode_prompt`): verbatim, no template,
  with the begin token where the tokenizer has one; before an empty context it puts the begin token, or else the end
  token, as the lab's own benchmarks do. The one difference is a tokenizer that appends the end token to everything:
  the lab takes that away, `HFLM` does not, and its questions would end before the answer. Here it is taken away.
- Length. `HFLM` leaves 256 tokens to an answer where a task names no length, and that is the whole context of the
  world's models. Here it is half the context at most. What is too long loses its beginning, as always in lm-eval;
  here it is also counted, since a question without its beginning is another question.
- Precision. Weights are fp32 and passes run in what `choose_device` says, as everywhere in the lab.

Padding is no matter: likelihoods are padded to the right and causal, and answers to the left with the pad token that
`load_tokenizer` makes sure of, under a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from labkit.errors import DataError, ModelError
from labkit.models import choose_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LabLM"]

LONGEST_ANSWER = 256  # tokens, where a task names no length: lm-eval's own number


class LabLM(HFLM):
    """A loaded model with its tokenizer, as lm-eval asks it; `asked` and `cut` count requests, and those that were too long."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int = 16) -> None:
        dtype = choose_device()[1]
        mixed = dtype if dtype == torch.bfloat16 else None
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, mixed_precision_dtype=mixed)
        self.appends_end = tokenizer("a")["input_ids"][-1] == tokenizer.eos_token_id
        self.asked = self.cut = 0

    @property
    def max_gen_toks(self) -> int:
        """Longest answer where a task names none."""
        return min(LONGEST_ANSWER, self.max_length // 2)

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text, without an end token that the tokenizer puts behind everything; the last `left_truncate_len` of them."""
        ids = super().tok_encode(string, add_special_tokens=add_special_tokens, **kwargs)
        if self.appends_end and len(ids) > 1 and ids[-1] == self.eot_token_id:
            ids = ids[:-1]
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self, strings: Sequence[str], padding_side: str = "left", left_truncate_len: int | None = None, truncation: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, L) ids and (B, L) mask of the contexts that answers are written to."""
        rows = [self.tok_encode(text) for text in strings]
        room = left_truncate_len or max(map(len, rows))
        self.cut += sum(len(row) > room for row in rows)
        padded = self.tokenizer.pad({"input_ids": [row[-room:] for row in rows]}, padding_side=padding_side, return_tensors="pt")
        return padded["input_ids"], padded["attention_mask"]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers, each up to its stop; ModelError where a task wants longer ones than fit beside any question."""
        longest = max(normalize_gen_kwargs(r.args[1], self.max_gen_toks)["max_gen_toks"] for r in requests)
        if longest >= self.max_length:
            raise ModelError(
                f"it asks for answers of {longest} tokens, and this model reads {self.max_length}, question included; "
                "lower max_gen_toks in a task of your own, or choose a model with more context"
            )
        self.asked += len(requests)
        return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(self, requests: Sequence[Any], disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        """(log-probability, whether greedy) of each continuation; every likelihood that lm-eval asks for comes through here."""
        for texts, _, ending in requests:
            if not 0 < len(ending) <= self.max_length:
                raise DataError(
                    f"it asks for the likelihood of a text of {len(ending)} tokens ({str(texts and texts[1])!r:.40}), and this "
                    f"model takes 1 to {self.max_length}; leave that item out of a task of your own, or choose a model with more context"
                )
        self.asked += len(requests)
        self.cut += sum(len(context) + len(ending) > self.max_length + 1 for _, context, ending in requests)
        return super()._loglikelihood_tokens(requests, disable_tqdm=disable_tqdm, override_bs=override_bs)
