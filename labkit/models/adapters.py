"""LoRA: a policy that learns by small matrices beside its frozen weights (Hu et al. 2021), made by `peft`.

With the adapters off the policy is the model that it began from, so PPO needs no second copy of the weights for its
reference. What is kept in the end has the adapters merged in: plain `transformers` loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers.pytorch_utils import Conv1D

from labkit.errors import ModelError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

__all__ = ["merged", "with_adapters"]

EVERYWHERE = "all-linear"  # peft's own word


def with_adapters(policy: PreTrainedModel, *, rank: int, alpha: float, targets: str, seed: int) -> PeftModel:
    """Freeze the policy and put adapters on `targets`: all-linear, or the layers' names with commas between.

    One half of each adapter is drawn from the seed and the other is zero, so the policy says at first what it said before.
    """
    try:
        import peft
    except ImportError as error:
        raise ModelError(
            f"lora_rank is {rank}, but adapters need the package peft: pip install peft, or set lora_rank to 0."
        ) from error
    names = [t.strip() for t in targets.split(",") if t.strip()]
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,  # or ratio = 1 would not hold
        target_modules=EVERYWHERE if names == [EVERYWHERE] else names,
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in policy.modules()),  # GPT-2 keeps its matrices transposed
    )
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return peft.get_peft_model(policy, config).eval()
    except ValueError as error:
        known = sorted({n.rpartition(".")[2] for n, m in policy.named_modules() if isinstance(m, (torch.nn.Linear, Conv1D))})
        raise ModelError(
            f"lora_targets is {targets!r}, which names no layer of {type(policy).__name__}; "
            f"choose among {', '.join(known)}, or {EVERYWHERE}."
        ) from error


def merged(policy: PeftModel) -> PreTrainedModel:
    """The policy with its adapters added into its weights: a plain model again, which this changes and returns."""
    return policy.merge_and_unload().requires_grad_()
