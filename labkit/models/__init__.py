"""Models as the method needs them: any causal LM of `transformers`, a scalar-head reward / value model, padding-free passes."""

from labkit.models.fingerprint import model_hash
from labkit.models.fusing import fused
from labkit.models.loading import (
    CONTEXT,
    choose_device,
    context_of,
    decode,
    encode_prompt,
    encode_response,
    load_policy,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    save_model,
)
from labkit.models.packed import packed_logits
from labkit.models.scoring import (
    batches_by_tokens,
    response_logits,
    response_logprobs,
    response_values,
    score,
    text_values,
)
from labkit.models.shared import completion_scores

__all__ = [
    "CONTEXT",
    "batches_by_tokens",
    "choose_device",
    "completion_scores",
    "context_of",
    "decode",
    "encode_prompt",
    "encode_response",
    "fused",
    "load_policy",
    "load_reward_model",
    "load_tokenizer",
    "model_hash",
    "new_reward_model",
    "packed_logits",
    "response_logits",
    "response_logprobs",
    "response_values",
    "save_model",
    "score",
    "text_values",
]
