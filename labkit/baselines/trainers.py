"""TRL's trainers as the lab uses them: no telemetry, no cards, logs that become Steps.

Imported only when training starts: importing trl takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, RLOOConfig, RLOOTrainer

from labkit.models import choose_device, context_of, encode_prompt, load_reward_model, score
from labkit.stepwise.one_gpu import on_one_gpu
from labkit.types import Step

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from labkit.baselines.settings import OfflineSettings, OnlineSettings

__all__ = ["offline_trainer", "online_trainer", "plain_policy", "reward_function"]


class _Quiet:
    """Works offline and tells nobody; the run folder says what the model is."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _send_telemetry(self) -> None:
        pass


class LabDPOTrainer(_Quiet, DPOTrainer):
    """Direct preference optimisation (Rafailov et al. 2023)."""


class LabKTOTrainer(_Quiet, KTOTrainer):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024): answers that are good or bad, without pairs."""


class LabRLOOTrainer(_Quiet, RLOOTrainer):
    """REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024)."""


class LabGRPOTrainer(_Quiet, GRPOTrainer):
    """Group-relative policy optimisation (Shao et al. 2024)."""


OFFLINE = {"dpo": (LabDPOTrainer, DPOConfig), "kto": (LabKTOTrainer, KTOConfig)}
ONLINE = {"rloo": (LabRLOOTrainer, RLOOConfig), "grpo": (LabGRPOTrainer, GRPOConfig)}


class StepWriter(TrainerCallback):
    """Hands every log of a trainer on as a Step."""

    def __init__(self, stage: str, write: Callable[[Step], None]) -> None:
        self.stage, self.write = stage, write

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        numbers = {k: float(v) for k, v in (logs or {}).items() if isinstance(v, (int, float))}
        if "train_runtime" not in numbers and numbers:
            self.write(Step(self.stage, state.global_step, numbers, {}))


def plain_policy(path: str | Path) -> PreTrainedModel:
    """A causal LM with the library's own attention: TRL pads its batches."""
    return AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32, attn_implementation="sdpa")


def offline_trainer(
    method: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Any]],
    settings: OfflineSettings,
    folder: Path,
) -> Any:
    """A DPO or KTO trainer over preference rows; the reference is the model as it is now."""
    kind, configuration = OFFLINE[method]
    config = configuration(
        **_common(folder, settings.seed),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.lr,
        lr_scheduler_type="cosine",
        beta=settings.beta,
        max_length=context_of(model),
    )
    data = Dataset.from_list(list(rows))
    return kind(model=model, args=on_one_gpu(config), train_dataset=data, processing_class=tokenizer)


def online_trainer(
    method: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, str]],
    reward: Callable[..., list[float]],
    settings: OnlineSettings,
    folder: Path,
) -> Any:
    """An RLOO or GRPO trainer that samples on prompts; its episodes, minibatches and KL weight are PPO's."""
    kind, configuration = ONLINE[method]
    updates = settings.batch // settings.minibatch
    config = configuration(
        **_common(folder, settings.seed),
        max_steps=settings.steps * updates,
        per_device_train_batch_size=settings.minibatch,
        steps_per_generation=updates,
        num_generations=settings.per_prompt,
        max_completion_length=settings.max_new_tokens,
        temperature=1.0,
        top_k=0,
        beta=settings.beta,
        learning_rate=settings.lr,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=settings.warmup * updates,
    )
    data = Dataset.from_list(list(rows))
    return kind(
        model=model, reward_funcs=reward, args=on_one_gpu(config), train_dataset=data, processing_class=tokenizer
    )


def reward_function(
    judge_path: Path, tokenizer: PreTrainedTokenizerBase, missing_end_penalty: float
) -> Callable[..., list[float]]:
    """The reward model as TRL calls a reward, on the sampled ids themselves; cut answers pay the penalty, as in PPO."""
    judge = load_reward_model(judge_path).requires_grad_(False)

    def reward_model(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        given = [list(map(int, ids)) for ids in completion_ids]
        scores = score(judge, [encode_prompt(tokenizer, p) for p in prompts], given).tolist()
        ended = [ids[-1] == tokenizer.eos_token_id for ids in given]
        return [s - missing_end_penalty * (not e) for s, e in zip(scores, ended, strict=True)]

    return reward_model


def _common(folder: Path, seed: int) -> dict[str, Any]:
    """Arguments of every trainer: the paper's Adam, a log per step, nothing written."""
    device, dtype = choose_device()
    return {
        "output_dir": str(folder),
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "seed": seed,
        "data_seed": seed,
        "use_cpu": device.type == "cpu",
        "bf16": dtype is torch.bfloat16,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "activation_checkpointing": False,
    }
