"""What the lab's trainers share: the paper's schedule with a live factor, finite losses, exact resuming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from labkit.errors import InvariantError

if TYPE_CHECKING:
    from labkit.stepwise.state import TrainState

__all__ = ["SteppedTrainer", "cosine", "quiet_arguments", "unpatch"]


def cosine(progress: float, floor: float) -> float:
    """Cosine decay from 1 at progress 0 to `floor` at progress 1, without warm-up (paper: floor 0.1)."""
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def quiet_arguments(
    settings: Any, *, device: torch.device, dtype: torch.dtype, output_dir: Path, micro_batch: int
) -> dict[str, Any]:
    """Keyword arguments of `TrainingArguments` common to the stages: the paper's Adam, one log per step, no output."""
    return {
        "output_dir": str(output_dir),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": settings.batch_size // micro_batch,
        "learning_rate": settings.lr,
        "adam_beta1": settings.adam_beta1,
        "adam_beta2": settings.adam_beta2,
        "adam_epsilon": settings.adam_eps,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm or 0.0,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "use_cpu": device.type == "cpu",
        "bf16": dtype is torch.bfloat16,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "activation_checkpointing": settings.gradient_checkpointing,
        "remove_unused_columns": False,
    }


class SteppedTrainer:
    """Mixin to put before a `transformers.Trainer`, whose public and loading methods it overrides."""

    lr_floor: float = 0.1
    lr_scale: float = 1.0
    resumed: TrainState | None = None  # set by `steps_of` when training continues from a loaded state

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LambdaLR:
        """Cosine to `lr_floor`, no warm-up; the live factor is in the lambda, so the logged rate is true."""
        if self.lr_scheduler is None:

            def factor(step: int) -> float:
                return self.lr_scale * cosine(step / num_training_steps, self.lr_floor)

            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def bend(self, lr_scale: float) -> None:
        """Apply a new factor on the learning rate to the step that is about to begin."""
        self.lr_scale = lr_scale
        scheduler = self.lr_scheduler
        factors = [f(scheduler.last_epoch) for f in scheduler.lr_lambdas]
        rates = [base * factor for base, factor in zip(scheduler.base_lrs, factors, strict=True)]
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss).all():
            number = self.state.global_step + 1
            raise InvariantError(
                f"The loss of step {number} is {loss.mean().item():g}; the weights of step {number - 1} are untouched. "
                "Usual causes: a learning rate too high (lower lr or lr_scale), or weights that were damaged before."
            )
        return loss

    # Resuming: weights are in the model already, randomness is drawn by address, so only the optimiser is left.

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """The state has put the weights into the model."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """No stream of random numbers runs on from step to step."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None and self.resumed is not None:
            self.resumed.restore_optimizer(self.optimizer)
            self.lr_scheduler.last_epoch = self.resumed.step


def unpatch(trainer: SteppedTrainer) -> None:
    """Give the model its own forward back: trl and accelerate replace it, and a copy would call the original's."""
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if trainer.args.activation_checkpointing:
        model.activation_checkpointing_disable()
    model.__dict__.pop("forward", None)
    model.eval()
