"""The lab's PPO on the benchmark's workload."""

from __future__ import annotations

import contextlib
import copy
import importlib

import torch
from transformers import AutoModelForTokenClassification

from labkit.knobs import PPOKnobs, constant
from labkit.models import fused
from labkit.models.packed import LAB_ATTENTION
from labkit.ppo import PPOSettings, State, from_model, loop
from labkit.types import Prompt
from tests.benchmarks.peers.protocol import Contestant, dtypes_of
from tests.benchmarks.workload import Workload, as_text, make_policy, make_prompts, make_tokenizer

PHASES = {"advantage": "update"}  # the loop's phases that the peer does not tell apart


def scalar_model(policy, work: Workload):
    """A one-label token classifier on the policy's backbone: the lab's reward and value models."""
    config = copy.deepcopy(policy.config)
    config.num_labels, config.classifier_dropout = 1, 0.0
    model = AutoModelForTokenClassification.from_config(config, attn_implementation=LAB_ATTENTION)
    model.base_model.load_state_dict(policy.base_model.state_dict())
    return fused(model).to(work.device).eval()


ppo_loop = importlib.import_module("labkit.ppo.loop")  # the package's name `loop` is the function


def build(work: Workload, *, ptx_coef: float = 0.0, ptx_tokens: int = 16):
    """A fresh loop over the workload, of more steps than anyone asks for, its state, and the reward model."""
    policy = fused(make_policy(work, attn_implementation=LAB_ATTENTION)).to(work.device)
    settings = PPOSettings(
        steps=10_000,
        batch=work.batch,
        minibatch=work.minibatch,
        max_new_tokens=work.max_response,
        warmup=0,
        samples=0,
        ptx_tokens=ptx_tokens,
        score_tokens=2**16 if work.device == "cuda" else PPOSettings().score_tokens,
        seed=work.seed,
    )
    reward = scalar_model(policy, work)
    state = State(policy, scalar_model(policy, work), make_tokenizer(work.shape), settings)
    prompts = [Prompt(str(i), as_text(ids)) for i, ids in enumerate(make_prompts(work, max(4096, work.batch)))]
    knobs = constant(PPOKnobs(policy_lr=1e-6, value_lr=1e-6, ptx_coef=ptx_coef))
    pretraining = torch.randint(2, policy.config.vocab_size, (1024, settings.ptx_row)) if ptx_coef else None
    return loop(state, prompts, from_model(reward), knobs, settings, pretraining=pretraining), state, reward


def count_cpu_seconds(contestant: Contestant) -> None:
    """The loop's own clock counts wall seconds; on a shared CPU only CPU seconds compare. On a GPU it is right as it is."""
    phase = ppo_loop.Clock.__call__

    @contextlib.contextmanager
    def both(clock, name: str):
        with contestant.phase(PHASES.get(name, name)), phase(clock, name):
            yield

    ppo_loop.Clock.__call__ = both


def phases_of(metrics: dict[str, float]) -> dict[str, float]:
    """The loop's own seconds of each phase, by the names that the peer's are compared under."""
    phases: dict[str, float] = {}
    for name, seconds in metrics.items():
        if name.startswith("time_") and name != "time_total":
            phase = PHASES.get(name[5:], name[5:])
            phases[phase] = phases.get(phase, 0.0) + seconds
    return phases


def main() -> None:
    parser = Workload.parser()
    parser.add_argument("--ptx_coef", type=float, default=0.0)
    parser.add_argument("--ptx_tokens", type=int, default=16)
    arguments = parser.parse_args()
    work = Workload.from_arguments(arguments)
    torch.set_num_threads(work.threads)
    contestant = Contestant()
    steps, state, reward = build(work, ptx_coef=arguments.ptx_coef, ptx_tokens=arguments.ptx_tokens)
    if work.device == "cpu":
        count_cpu_seconds(contestant)
    contestant.count_steps(getattr(state.policy_optimizer, "optimizer", state.policy_optimizer))
    weights = dtypes_of(policy=state.policy, value=state.value, reference=state.reference, reward=reward)
    contestant.ready(dtypes=weights | {"passes": str(state.dtype).removeprefix("torch.")})
    while contestant.await_go():
        metrics = next(steps).metrics
        if work.device == "cuda":
            contestant.phases = phases_of(metrics)
        contestant.report(mean_length=metrics["response_length"])


if __name__ == "__main__":
    main()
