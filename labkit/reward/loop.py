"""The reward-model loop: a generator of Steps over one state; and what comes after it, the centring bias."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from labkit.dropout import residual_dropout
from labkit.errors import DataError
from labkit.knobs import Schedule
from labkit.models import (
    CONTEXT,
    choose_device,
    context_of,
    encode_prompt,
    encode_response,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    score,
)
from labkit.models.loading import scalar_head
from labkit.reward.checks import FEW, check_centred, check_saved
from labkit.reward.data import Dropped, Ranked, elements_and_batch, encode_rankings
from labkit.reward.head import settle_head
from labkit.reward.report import accuracy_of
from labkit.reward.settings import RewardSettings
from labkit.stepwise import TrainState, steps_of, unpatch
from labkit.types import Demonstration, Ranking, Step, listed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["RewardState", "centre", "loop", "retrain", "start", "total_steps"]


@dataclass
class RewardState(TrainState):
    """All that reward training changes: the model, how far it is, what was left out, the bias added at the end."""

    dropped: Dropped = field(default_factory=Dropped)
    shift: float | None = None  # what centring added to the bias
    centred_at: int | None = None  # the step after which it was centred last
    new_head: bool = True  # still random: no rankings have shaped it yet

    def facts(self) -> dict[str, Any]:
        return {"shift": self.shift, "centred_at": self.centred_at}

    def set_facts(self, facts: dict[str, Any]) -> None:
        self.shift, self.centred_at = facts["shift"], facts.get("centred_at")

    def centre_on(self, demonstrations: Sequence[Demonstration]) -> None:
        """Centre the model as it now is; one that has not been trained since it was centred stays as it is."""
        if demonstrations and self.centred_at != self.step:
            self.shift = (self.shift or 0.0) + centre(self.model, self.tokenizer, demonstrations)
            self.centred_at = self.step

    def check_saved(self, folder: str | Path, demonstrations: Sequence[Demonstration]) -> None:
        """Raise InvariantError where the model that was saved in `folder` does not score demonstrations as this one does."""
        if demonstrations:
            rows = _some(_fitting(self.model, self.tokenizer, demonstrations))
            device = self.model.get_input_embeddings().weight.device
            again = _scores(load_reward_model(folder, device=device), rows)
            check_saved(again, _scores(self.model, rows), Path(folder), choose_device()[1])


def start(
    path: str | Path, *, seed: int = 0, device: torch.device | str | None = None, trained: bool = False
) -> RewardState:
    """Begin a reward model from a language model's folder or hub name; with `trained`, go on from a reward model's."""
    tokenizer = load_tokenizer(path)
    given = {"tokenizer": tokenizer, "device": device}
    model = load_reward_model(path, **given) if trained else new_reward_model(path, seed, **given)
    return RewardState(model, tokenizer, new_head=not trained)


def total_steps(state: RewardState, rankings: Sequence[Ranking], settings: RewardSettings) -> int:
    """How many Steps `loop` will yield from the beginning."""
    rows = encode_rankings(state.tokenizer, rankings, settings, context_of(state.model) or CONTEXT).rows
    elements, size = elements_and_batch(rows, settings)
    return settings.epochs * math.ceil(len(elements) / size)


def loop(
    state: RewardState,
    rankings: Sequence[Ranking],
    schedule: Schedule,
    settings: RewardSettings,
    *,
    valid: Sequence[Ranking] = (),
    demonstrations: Sequence[Demonstration] = (),
) -> Iterator[Step]:
    """Train `state.model` on rankings; yields one Step per optimiser step.

    Metrics: loss, accuracy, lr, grad_norm; after an epoch, and every `valid_every` steps, also valid_loss and
    valid_accuracy (with `valid`). When the last epoch ends the model is centred on `demonstrations`, if given;
    closing the generator earlier leaves it as it is after the last step.
    """
    context = context_of(state.model) or CONTEXT
    found = encode_rankings(state.tokenizer, rankings, settings, context)
    held_out = encode_rankings(state.tokenizer, valid, settings, context, what="held-out rankings").rows if valid else []
    state.dropped = found.dropped

    def measure(*_: int) -> dict[str, float]:
        if not held_out:
            return {}
        judged = accuracy_of(state.model, held_out)
        return {"valid_loss": judged.loss, "valid_accuracy": judged.overall.value}

    if settings.settle_head and state.new_head and state.step == 0:
        settle_head(state.model, found.rows)
    yield from _train(state, found.rows, schedule, settings, measure)
    state.centre_on(demonstrations)


def retrain(
    state: RewardState,
    rankings: Sequence[Ranking],
    schedule: Schedule,
    settings: RewardSettings,
    *,
    held_out_share: float = 0.2,
    demonstrations: Sequence[Demonstration] = (),
) -> Iterator[Step]:
    """Learn quickly from the few rankings that a labeling session has so far; every Step has held-out accuracy.

    Prompts, not pairs, are held out, newest first: what was labeled last has had no part in the model yet. Those on which
    all is tied teach and test nothing, and take no part.
    """
    rankings = [r for r in rankings if r.pairs()]
    prompts = list(dict.fromkeys(r.prompt.id for r in rankings))
    if len(prompts) < 2:
        raise DataError(
            f"Retraining needs rankings of at least 2 prompts with a strict pair, one to be held out; there are {len(prompts)}. Rank more."
        )
    held = set(prompts[-max(1, round(len(prompts) * held_out_share)) :])
    train = [r for r in rankings if r.prompt.id not in held]
    valid = [r for r in rankings if r.prompt.id in held]
    size = max(1, min(settings.batch_size, len(train)))
    quick = settings.but(batch_size=size, micro_batch=None, valid_every=1)
    return loop(state, train, schedule, quick, valid=valid, demonstrations=demonstrations)


def centre(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, demonstrations: Sequence[Demonstration]
) -> float:
    """Add to the head's bias so that demonstrations score 0 on average (section 3.5); returns what was added.

    Demonstrations that do not fit the context take no part. Raises InvariantError where they do not score 0 afterwards.
    """
    rows = _fitting(model, tokenizer, demonstrations)
    model.eval()
    before = _scores(model, rows)
    mean = before.double().mean().item()
    with torch.no_grad():
        scalar_head(model).bias -= mean
    check_centred(_scores(model, _some(rows)), torch.stack(_some(before)) - mean, -mean, choose_device()[1])
    return -mean


def _fitting(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, demonstrations: Sequence[Demonstration]
) -> list[tuple[list[int], list[int]]]:
    """(prompt ids, response ids) of the demonstrations that fit the context; DataError where none does."""
    context = context_of(model) or CONTEXT
    demonstrations = listed(demonstrations, Demonstration, "demonstrations")
    rows = [(encode_prompt(tokenizer, d.prompt.text), encode_response(tokenizer, d.text)) for d in demonstrations]
    rows = [(p, r) for p, r in rows if len(p) + len(r) <= context]
    if not rows:
        raise DataError(
            f"None of the {len(demonstrations)} demonstrations fits the context of {context} tokens; "
            "the reward model cannot be centred on them. Give shorter ones."
        )
    return rows


def _some(rows: Sequence[Any]) -> list[Any]:
    """At most FEW of them, evenly spread."""
    return list(rows[:: math.ceil(len(rows) / FEW)])


def _scores(model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]]) -> torch.Tensor:
    """(B,) fp32 scores on the CPU, computed as for all who use the model."""
    return score(model, [p for p, _ in rows], [r for _, r in rows]).cpu()


def _train(
    state: RewardState,
    rows: Sequence[Ranked],
    schedule: Schedule,
    settings: RewardSettings,
    measure: Callable[..., dict[str, float]],
) -> Iterator[Step]:
    """Steps of the trainer; the model leaves in eval mode, without dropout."""
    from labkit.reward.trainer import make_trainer

    def now_and_then(step: int) -> dict[str, float]:
        return measure() if settings.valid_every and step % settings.valid_every == 0 else {}

    with tempfile.TemporaryDirectory() as scratch, residual_dropout(state.model, settings.dropout):
        trainer = make_trainer(state.model, rows, settings, Path(scratch), choose_device()[1])
        steps = steps_of(trainer, state, "reward", schedule, seed=settings.seed, on_epoch=measure, on_step=now_and_then)
        try:
            yield from steps
        finally:
            steps.close()
            unpatch(trainer)
