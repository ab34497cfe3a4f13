"""PPO-ptx, top to bottom (paper, section 3.5 and appendix C.4).

A loop is a generator. Everything it changes lives in the State it is given, everything it may be told while running
comes from `schedule(step)`, read once per step, and everything it has to say is a Step. To stop, stop asking; to pause,
do not ask yet; to resume, load a State. What it leaves out: snapshots, files and threads, which belong to `labkit.jobs`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from labkit.knobs import PPOKnobs, Schedule, knobs_at
from labkit.models import context_of
from labkit.ppo import checks
from labkit.ppo.measure import metrics_of, of_processes, sample_rows
from labkit.ppo.minibatches import minibatches
from labkit.ppo.padding import check_padding
from labkit.ppo.pretraining import Pretraining
from labkit.ppo.rollout import encoded, generate, reward_episodes, score_episodes
from labkit.ppo.sharding import agreed, dot, total_norm, use_device
from labkit.ppo.update import Tally, apply_gradients, policy_gradient, ppo_gradients, ptx_gradients
from labkit.types import Prompt, Step, listed

if TYPE_CHECKING:
    from labkit.ppo.rewards import Reward
    from labkit.ppo.settings import PPOSettings
    from labkit.ppo.state import State

__all__ = ["loop"]


def loop(
    state: State,
    prompts: Sequence[Prompt],
    reward: Reward,
    schedule: Schedule,
    settings: PPOSettings,
    *,
    pretraining: torch.Tensor | None = None,
    gold: Callable[[Sequence[Prompt], Sequence[str], Sequence[bool]], Sequence[float]] | None = None,
    stage: str = "ppo",
) -> Iterator[Step]:
    """Train `state` from the step it is at to `settings.steps`; yield one Step per iteration.

    prompts: the PPO prompts. reward: (prompt ids, response ids) -> (B,) scores, e.g. `from_model(rm)`.
    schedule: step -> PPOKnobs. settings: those that the State was made with. pretraining: (M, ptx_row) packed token rows
    (int64); needed when γ > 0, else only their loss is watched.
    gold: (prompts, texts, finished) -> utilities, logged beside the score and never trained on.
    Raises InvariantError when training breaks a promise of the method, DataError for unusable prompts, rewards or rows,
    SettingsError for other settings than the State's, or a minibatch that the processes cannot share.
    """
    checks.check_told(state, settings, reward)
    prompts = listed(prompts, Prompt, "prompts")
    checks.check_processes(settings, state.accelerator.num_processes)
    context = context_of(state.plain_policy)
    asked = encoded(state.tokenizer, prompts)
    checks.check_prompts(prompts, [len(ids) for ids in asked], context, settings.max_new_tokens)
    checks.check_pretraining(pretraining, settings, context, len(state.plain_policy.get_input_embeddings().weight))
    use_device(state.accelerator)
    check_padding(state, asked, reward)
    texts = Pretraining(pretraining, settings, state.accelerator)
    for number in range(state.step + 1, settings.steps + 1):
        knobs = agreed(state.accelerator, knobs_at(schedule, number, PPOKnobs))  # those of the first process, in all of them
        clock = Clock(state.accelerator.device)
        _set_learning_rates(state, knobs, settings.warmup_factor(number))

        # A batch of episodes: one response of the policy to each prompt.
        with clock("generation"):
            rollout = generate(state, prompts, asked, knobs, settings, number)
        # The reward's score of each; log π_ref and the value of each token.
        with clock("scoring"):
            score_episodes(state, rollout, reward, knobs, settings, gold)
        if number == 1:
            checks.check_start(rollout, state.dtype)
        # Each token's reward: -β log(π/π_ref), and at the last one the score. Advantages and returns by GAE.
        with clock("advantage"):
            reward_episodes(state, rollout, knobs, settings)
        (episode_kl,) = of_processes(state, (rollout.kl * rollout.mask).sum(dim=1))  # (episodes of all processes,)
        checks.check_kl(episode_kl, number)

        # For each minibatch two backward passes, PPO's and γ times that of pretraining text, and one step on their sum.
        tally, gradients = Tally(), GradientWatch()
        for inner in range(settings.inner_epochs):
            batches = minibatches(state, rollout, settings)
            for place in range(settings.batch // settings.minibatch):
                first = number if inner == 0 and place == 0 else None  # nothing is updated yet: the ratio must be 1
                with clock("update"):
                    ppo_gradients(state, next(batches), knobs, tally, first=first)
                with clock("ptx"):
                    examples = texts.rows_of(number, inner, place, knobs, watch=first is not None)
                    if knobs.ptx_coef > 0:
                        gradients.before_ptx(state)
                        gradients.ptx_losses.append(ptx_gradients(state, examples, knobs, settings))
                        gradients.after_ptx(state)
                    elif examples is not None:  # γ = 0: only watch what PPO does to the language model
                        gradients.ptx_losses.append(ptx_gradients(state, examples, knobs, settings, backward=False))
                with clock("update"):
                    losses = tally.so_far("policy_loss", "value_loss")
                    norms = apply_gradients(state, settings, number, losses, gradients.newest_ptx_loss())
                    gradients.stepped(*norms, knobs)
                    if settings.ema_per == "minibatch":
                        state.move_average(settings.ema_decay)
        if settings.ema_per == "iteration":
            state.move_average(settings.ema_decay)

        state.step, state.knobs, state.rollout = number, knobs.to_json(), rollout
        metrics = metrics_of(state, rollout, knobs, settings, tally, gradients.summary(), clock.seconds())
        yield Step(stage, number, metrics, state.knobs, sample_rows(rollout, settings.samples))


class Clock:
    """Seconds of each phase of one iteration; of a GPU by its own clock, so that nobody waits at the end of a phase."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.started = device, time.perf_counter()
        self.spans: list[tuple[str, Any, Any]] = []  # phase, its beginning, its end

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = self._now()
        yield
        self.spans.append((phase, started, self._now()))

    def _now(self) -> float | torch.cuda.Event:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> dict[str, float]:
        if self.device.type == "cuda":
            self.spans[-1][2].synchronize()  # not the device, on which another thread may be recording
        phases: dict[str, float] = defaultdict(float)
        for name, first, last in self.spans:
            phases[f"time_{name}"] += last - first if isinstance(first, float) else first.elapsed_time(last) / 1e3
        return {**phases, "time_total": time.perf_counter() - self.started}


class GradientWatch:
    """Norms of the PPO and the pretraining gradient and the cosine between them: γ means nothing without these."""

    def __init__(self) -> None:
        self.ptx_losses: list[float] = []
        self.value_norms: list[float] = []
        self.rows: list[dict[str, float]] = []
        self._ppo: list[torch.Tensor] = []

    def before_ptx(self, state: State) -> None:
        self._ppo = policy_gradient(state)

    def after_ptx(self, state: State) -> None:
        ptx = torch._foreach_sub(policy_gradient(state), self._ppo)
        norms = total_norm(self._ppo), total_norm(ptx)
        cosine = dot(self._ppo, ptx) / max(norms[0] * norms[1], 1e-12)
        self.rows.append({"grad_norm_ppo": norms[0], "grad_norm_ptx": norms[1], "grad_cosine": cosine})

    def stepped(self, policy_norm: float, value_norm: float, knobs: PPOKnobs) -> None:
        """An optimiser step was taken on gradients of these norms, of which the policy's is PPO's alone where γ = 0."""
        self.value_norms.append(value_norm)
        if knobs.ptx_coef == 0:
            self.rows.append({"grad_norm_ppo": policy_norm})

    def newest_ptx_loss(self) -> dict[str, float]:
        return {"ptx_loss": self.ptx_losses[-1]} if self.ptx_losses else {}

    def summary(self) -> dict[str, float]:
        """Means over the optimiser steps of the iteration."""
        series = {name: [row[name] for row in self.rows] for name in self.rows[0]}
        series |= {"grad_norm_value": self.value_norms} | ({"ptx_loss": self.ptx_losses} if self.ptx_losses else {})
        return {name: sum(values) / len(values) for name, values in series.items()}


def _set_learning_rates(state: State, knobs: PPOKnobs, factor: float) -> None:
    for optimizer, rate in ((state.policy_optimizer, knobs.policy_lr), (state.value_optimizer, knobs.value_lr)):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
