"""The SFT loop: a generator of Steps over one state, measured after each epoch, ended by the chosen weights."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from labkit.dropout import residual_dropout
from labkit.errors import DataError
from labkit.knobs import Schedule
from labkit.models import CONTEXT, choose_device, context_of, load_policy, load_tokenizer
from labkit.sft.data import Pieces, check_pieces, encode_demonstrations, mix, mixed_in
from labkit.sft.epochs import Reward, keep_epoch, restore_epoch, validation_loss, validation_score
from labkit.sft.settings import SFTSettings
from labkit.stepwise import TrainState, steps_of, unpatch
from labkit.types import Demonstration, Step

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["SFTState", "init_loop", "loop", "start", "total_steps"]


@dataclass
class SFTState(TrainState):
    """All that SFT changes: the model, how far it is, and what each epoch measured."""

    dropped: int = 0  # demonstrations left out because their prompt was too long
    epochs: list[dict[str, Any]] = field(default_factory=list)  # epoch, step, valid_loss, rm_score
    chosen: dict[str, Any] | None = None  # the record of the epoch whose weights were kept, and what chose it ("by")

    def facts(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def set_facts(self, facts: dict[str, Any]) -> None:
        self.epochs, self.chosen = list(facts["epochs"]), None


def start(path: str | Path, *, device: torch.device | str | None = None) -> SFTState:
    """Load a causal LM and its tokenizer, by folder or hub name, as the state of a new SFT."""
    tokenizer = load_tokenizer(path)
    return SFTState(load_policy(path, tokenizer=tokenizer, device=device), tokenizer)


def total_steps(state: SFTState, demonstrations: Sequence[Demonstration], settings: SFTSettings) -> int:
    """How many Steps `loop` will yield from the beginning."""
    limits = _limits(state.model, settings)
    check_pieces(settings, limits["context"])
    pieces = encode_demonstrations(state.tokenizer, demonstrations, **limits)
    examples = len(pieces.prompts) + mixed_in(len(pieces.prompts), settings.pretrain_share)
    return settings.epochs * math.ceil(examples / settings.batch_size)


def loop(
    state: SFTState,
    demonstrations: Sequence[Demonstration],
    schedule: Schedule,
    settings: SFTSettings,
    *,
    valid: Sequence[Demonstration] = (),
    pretraining: Iterable[str] = (),
    reward: Reward | None = None,
    epochs_to: Path | None = None,
    stage: str = "sft",
) -> Iterator[Step]:
    """Fine-tune `state.model` on demonstrations; yields one Step per optimiser step.

    Metrics: loss, lr, grad_norm, tokens, entropy, mean_token_accuracy; after an epoch also valid_loss (with `valid`)
    and rm_score (with `reward`, a reward model or any function of prompt ids and response ids). When the last epoch
    ends, the weights of the epoch chosen by `settings.choose_by` are put back; closing the generator earlier leaves
    those of the last step. epochs_to: folder in which the model of every epoch is saved.
    """
    limits = _limits(state.model, settings)
    check_pieces(settings, limits["context"])
    pieces = encode_demonstrations(state.tokenizer, demonstrations, **limits)
    held_out = encode_demonstrations(state.tokenizer, valid, **limits) if valid else None
    _check_samples(state.model, settings, held_out, reward)
    rows = mix(state.tokenizer, pieces, pretraining, settings)
    state.dropped = pieces.dropped

    def on_epoch(epoch: int, step: int) -> dict[str, float]:
        found = _measure(state, held_out, reward, settings)
        state.epochs.append({"epoch": epoch, "step": step, **found})
        keep_epoch(state, settings, epochs_to)
        return found

    yield from _train(state, rows, schedule, settings, stage, on_epoch)
    restore_epoch(state, settings)


def init_loop(
    state: SFTState,
    demonstrations: Sequence[Demonstration],
    schedule: Schedule,
    settings: SFTSettings,
    *,
    pretraining: Iterable[str],
    **options: Any,
) -> Iterator[Step]:
    """The PPO init stage (appendix C.3): `loop` with pretraining text mixed in; settings from `init_settings()`."""
    return loop(state, demonstrations, schedule, settings, pretraining=pretraining, stage="ppo_init", **options)


def _train(
    state: SFTState,
    rows: list[dict[str, list[int]]],
    schedule: Schedule,
    settings: SFTSettings,
    stage: str,
    on_epoch: Callable[[int, int], dict[str, float]],
) -> Iterator[Step]:
    """Steps of the trainer; the model leaves in eval mode, with its own forward, without dropout."""
    from labkit.sft.trainer import make_trainer

    with tempfile.TemporaryDirectory() as scratch, residual_dropout(state.model, settings.dropout):
        trainer = make_trainer(state.model, state.tokenizer, rows, settings, Path(scratch), choose_device()[1])
        steps = steps_of(trainer, state, stage, schedule, seed=settings.seed, on_epoch=on_epoch)
        try:
            yield from steps
        finally:
            steps.close()
            unpatch(trainer)


def _measure(
    state: SFTState, held_out: Pieces | None, reward: Reward | None, settings: SFTSettings
) -> dict[str, float]:
    """Validation loss and RM score of the model as it stands."""
    found: dict[str, float] = {}
    if held_out is not None:
        found["valid_loss"] = validation_loss(state.model, held_out)
        if reward is not None:
            found["rm_score"] = validation_score(state.model, state.tokenizer, reward, held_out, settings)
    return found


def _limits(model: PreTrainedModel, settings: SFTSettings) -> dict[str, int | None]:
    """Token limits of prompts and responses, with the model's context."""
    return {
        "context": context_of(model) or CONTEXT,
        "max_prompt_tokens": settings.max_prompt_tokens,
        "max_response_tokens": settings.max_response_tokens,
    }


def _check_samples(
    model: PreTrainedModel, settings: SFTSettings, held_out: Pieces | None, reward: Reward | None
) -> None:
    """Fail before training, not after an epoch, where validation samples could not be drawn."""
    if reward is None:
        return
    if held_out is None:
        raise DataError(
            "A reward model was given to choose the epoch but no validation data; pass valid too."
        )
    context = context_of(model)
    longest = max(map(len, held_out.prompts))
    if context and longest + settings.valid_response_tokens > context:
        raise DataError(
            f"A validation prompt of {longest} tokens and valid_response_tokens {settings.valid_response_tokens} "
            f"exceed the context of {context}; lower valid_response_tokens or max_prompt_tokens."
        )
