"""Models as the method needs them: any causal LM of `transformers`, a scalar-head reward / value model, padding-free passes.

loading.py        load and save policy, tokenizer, reward and value model; which device; files.py: their folders
packed.py         rows end to end without padding; layout.py: where tokens stand for attention; cpu_attention.py: without grids
proof.py          which architectures may be packed; tolerance.py: what counts as rounding
scoring.py        log-probabilities, values and scores; shared.py: several responses to a prompt that is read once
adapters.py       LoRA; checkpointing.py: layers computed again in the backward pass
last_layer.py     only the positions that are wanted; fusing.py, products.py, lean.py, memory.py: quicker, same numbers
graphs.py         work that CUDA replays; replica.py: the copy of a model that it is recorded on
precision.py      dtype of passes without gradients; stepping.py: optimisers of several loops in one process
fingerprint.py    a hash of the weights
"""

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
