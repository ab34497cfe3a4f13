"""`transformers.Trainer` on whole rankings, by its public extension points: collator, loss, log, item count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainingArguments

from labkit.models import completion_scores
from labkit.reward.data import Ranked, collate, elements_and_batch
from labkit.reward.loss import kwise_loss
from labkit.stepwise import SteppedTrainer, quiet_arguments
from labkit.stepwise.one_gpu import on_one_gpu

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.reward.settings import RewardSettings

__all__ = ["LabRewardTrainer", "make_trainer"]


class LabRewardTrainer(SteppedTrainer, Trainer):
    """Trainer whose batch is prompts: each completion passes once, all pairs of a prompt share one loss element."""

    loss_is_scaled_for_ga = True  # the loss divides by the prompts of the whole batch, so micro-batches change nothing

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.right = self.compared = 0

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        """Prompts of the whole optimiser step, over all micro-batches and processes."""
        prompts = torch.stack([b["prompts"] for b in batch_samples]).sum().to(device)
        return self.accelerator.gather(prompts).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        scores = completion_scores(model, inputs["rows"].prompts, inputs["rows"].responses)  # (N,)
        prompts = inputs["prompts"] if num_items_in_batch is None else num_items_in_batch
        loss = kwise_loss(scores, inputs["pairs"], inputs["weights"], prompts) * self.accelerator.num_processes
        margins = (scores[inputs["pairs"][:, 0]] - scores[inputs["pairs"][:, 1]]).detach()
        self.right += int((margins > 0).sum())
        self.compared += len(margins)
        return (loss, scores) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.compared:
            logs["accuracy"] = self.right / self.compared
            self.right = self.compared = 0
        super().log(logs, start_time)


def make_trainer(
    model: PreTrainedModel, rows: Sequence[Ranked], settings: RewardSettings, output_dir: Path, dtype: torch.dtype
) -> LabRewardTrainer:
    """A trainer over encoded rankings; with batching "pairs", over their pairs, as many a step on average."""
    device = model.get_input_embeddings().weight.device
    elements, size = elements_and_batch(rows, settings)
    if size != settings.batch_size:
        settings = settings.but(batch_size=size, micro_batch=None)
    micro_batch = settings.micro_batch or size
    arguments = quiet_arguments(settings, device=device, dtype=dtype, output_dir=output_dir, micro_batch=micro_batch)
    trainer = LabRewardTrainer(
        model=model, args=on_one_gpu(TrainingArguments(**arguments)), train_dataset=elements, data_collator=collate
    )
    trainer.lr_floor = settings.lr_floor
    return trainer
