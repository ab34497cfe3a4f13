"""`trl.SFTTrainer` as the lab uses it: token rows prepared by us, padding-free batches, one Step per optimiser step.

Imported only when training starts: importing trl takes seconds.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from labkit.models.last_layer import only_needed
from labkit.models.packed import LAB_ATTENTION
from labkit.sft.data import IGNORED, collate_packed
from labkit.stepwise import SteppedTrainer, quiet_arguments
from labkit.stepwise.one_gpu import on_one_gpu

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from labkit.sft.settings import SFTSettings

__all__ = ["LabSFTTrainer", "make_trainer"]


class LabSFTTrainer(SteppedTrainer, SFTTrainer):
    """SFTTrainer with the paper's schedule; reports the tokens of each step and sends no usage data."""

    tokens = 0  # real tokens of the optimiser step in hand

    def compute_loss(self, model: Any, inputs: dict[str, Any], **kwargs: Any) -> torch.Tensor:
        packed = "layout" in inputs
        self.tokens += inputs["input_ids"].numel() if packed else int(inputs["attention_mask"].sum())
        if packed and not kwargs.get("return_outputs"):
            return self._packed_loss(model, inputs, kwargs.get("num_items_in_batch"))
        return super().compute_loss(model, inputs, **kwargs)

    def _packed_loss(self, model: Any, inputs: dict[str, Any], count: torch.Tensor | int | None) -> torch.Tensor:
        """The mean loss of the labeled tokens, their entropy and accuracy, with the head at their positions only.

        Without Triton, trl's fused head scores every position: a third of a small model's step on a CPU.
        """
        targets = inputs["labels"][0, 1:]  # (T - 1,)
        keep = (targets != IGNORED).nonzero().squeeze(1)  # (N,) positions whose next token has a label
        passed = {name: value for name, value in inputs.items() if name != "labels"}
        with only_needed(model, keep):
            logits = model(**passed, use_cache=False, logits_to_keep=keep).logits[0].float()  # (N, V)
        logprobs = logits.log_softmax(-1)
        loss = F.nll_loss(logprobs, targets[keep], reduction="sum") / (len(keep) if count is None else count)
        if self.args.average_tokens_across_devices and count is not None:
            loss = loss * self.accelerator.num_processes
        with torch.no_grad():
            measured = {
                "entropy": -(logprobs.exp() * logprobs).sum(-1),
                "mean_token_accuracy": (logits.argmax(-1) == targets[keep]).float(),
            }
            for name, values in measured.items():
                self._metrics["train"][name].append(self.accelerator.gather(values.mean()).mean().item())
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs["tokens"], self.tokens = self.tokens, 0
        super().log(logs, start_time)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The run folder says what the model is."""

    def _send_telemetry(self) -> None:
        """The lab works offline and tells nobody."""


def make_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, list[int]]],
    settings: SFTSettings,
    output_dir: Path,
    dtype: torch.dtype,
) -> LabSFTTrainer:
    """A trainer over token rows; models with the lab's attention get packed batches, others padded ones."""
    device = model.get_input_embeddings().weight.device
    micro_batch = settings.micro_batch or settings.batch_size
    arguments = quiet_arguments(settings, device=device, dtype=dtype, output_dir=output_dir, micro_batch=micro_batch)
    config = on_one_gpu(SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}))
    packed = model.config._attn_implementation == LAB_ATTENTION
    _align(model, tokenizer)
    trainer = LabSFTTrainer(
        model=model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        data_collator=partial(collate_packed, device=device) if packed else None,
    )
    trainer.lr_floor = settings.lr_floor
    return trainer


def _align(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Model and tokenizer agree on the special tokens (the Trainer would change them, with a warning)."""
    for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
        for config in (model.config, model.generation_config):
            setattr(config, name, getattr(tokenizer, name))
