"""The rendezvous: a trainer runs in a daemon thread of its own and begins a step only when it is asked for one.

So pause = do not ask, single step = `next`, stop = `close()`. Knobs are read once per step, errors of the thread are
raised in the consumer, and dropout draws its randomness from (seed, step), so that a resumed run equals the
uninterrupted one. The trainer evaluates and saves nothing by itself: a stage measures between two steps, and a job
takes snapshots there.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from labkit.knobs import Knobs, RewardKnobs, Schedule, SFTKnobs, knobs_at
from labkit.models.stepping import unhindered
from labkit.seeds import derive_seed
from labkit.stepwise.state import TrainState
from labkit.types import Step

__all__ = ["steps_of"]

_RENAMED = {"learning_rate": "lr"}
_DROPPED = {"epoch", "num_tokens", "num_input_tokens_seen"}


def steps_of(
    trainer: Any,
    state: TrainState,
    stage: str,
    schedule: Schedule,
    *,
    seed: int = 0,
    on_epoch: Callable[[int, int], Mapping[str, float]] | None = None,
    on_step: Callable[[int], Mapping[str, float]] | None = None,
) -> Iterator[Step]:
    """Run `trainer` (a `SteppedTrainer`) step by step; yields one Step per optimiser step and keeps `state` up to date.

    on_epoch(epoch, step) and on_step(step) may measure between two steps; what they return joins that Step's metrics.
    A state that was loaded from a snapshot is continued from there. Raises what the trainer raised.
    """
    checkpoint = str(state.snapshot) if state.snapshot else None
    trainer.resumed, state.trainer = (state if checkpoint else None), trainer
    meeting = _Meeting(trainer, stage, schedule, seed, on_epoch, on_step)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(meeting)
    worker = threading.Thread(target=meeting.work, args=(checkpoint,), name=f"labkit-{stage}", daemon=True)
    worker.start()
    try:
        while (step := meeting.ask()) is not None:
            state.step, state.knobs, state.snapshot = step.number, dict(step.knobs), None
            yield step
    finally:
        meeting.stop()
        worker.join()
        trainer.remove_callback(meeting)


class _Stopped(Exception):
    """Unwinds the trainer's thread when the consumer has closed the generator."""


class _Meeting(TrainerCallback):
    """The meeting of a trainer's thread and its consumer: one question, one Step."""

    def __init__(self, trainer, stage, schedule, seed, on_epoch, on_step) -> None:
        self.trainer, self.stage, self.schedule, self.seed = trainer, stage, schedule, seed
        self.on_epoch, self.on_step = on_epoch, on_step
        self.questions: queue.Queue[bool] = queue.Queue()
        self.answers: queue.Queue[Step | BaseException | None] = queue.Queue()
        self.knobs: Knobs | None = None
        self.pending: dict[str, float] | None = None  # metrics of the step in hand
        self.began = 0.0
        self.over = False

    # The consumer's side

    def ask(self) -> Step | None:
        """Ask for one more step; None when training is over. Raises the error of the trainer's thread."""
        self.questions.put(True)
        answer = self.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def stop(self) -> None:
        self.over = True
        self.questions.put(False)

    # The trainer's side

    def work(self, checkpoint: str | None) -> None:
        """Body of the thread; grad mode is thread-local, so it is set here."""
        try:
            with torch.enable_grad():
                self.trainer.train(resume_from_checkpoint=checkpoint)
            self._deliver(self.trainer.state.global_step)
            self.answers.put(None)
        except _Stopped:
            return
        except BaseException as error:  # the consumer must hear of everything, whatever it is
            self.answers.put(error)

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Another trainer that is between two micro-batches must not keep this one's weights where they are."""
        unhindered(kwargs.get("optimizer"))

    def on_step_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        """Hand over the step before, which is whole now, wait for the next question, and read the knobs."""
        self._deliver(state.global_step)
        self.questions.get()
        if self.over:
            raise _Stopped
        self.began = time.perf_counter()
        number = state.global_step + 1
        self.knobs = knobs_at(self.schedule, number, RewardKnobs if self.stage == "reward" else SFTKnobs)
        self.trainer.bend(self.knobs.lr_scale)
        torch.manual_seed(derive_seed(self.seed, number, self.stage, "dropout"))

    def on_log(
        self, args: TrainingArguments, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Keep what the Trainer logs for this step (not its summary at the end)."""
        if not logs or "loss" not in logs:
            return
        numbers = {k: v for k, v in logs.items() if k not in _DROPPED and isinstance(v, (int, float))}
        self.pending = {_RENAMED.get(k, k): float(v) for k, v in numbers.items()}
        self.pending["time_update"] = self.pending["time_total"] = time.perf_counter() - self.began
        if self.on_step:
            self.pending.update(self.on_step(state.global_step))

    def on_epoch_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        if self.on_epoch and self.pending is not None:
            self.pending.update(self.on_epoch(round(state.epoch), state.global_step))

    def _deliver(self, number: int) -> None:
        if self.pending is not None:
            self.answers.put(Step(self.stage, number, self.pending, self.knobs.to_json()))
        self.pending = None
