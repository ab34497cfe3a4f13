"""What is measured: PPO, the reward model and sampling against their peers, ptx against PPO, and cost against size.

Each function returns one JSON object. The headline is the median over rounds of the ratio of CPU seconds (wall seconds
on a GPU): rounds alternate, so that a busy machine is busy for both. A ratio above 1 means that the lab is faster.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import torch

from tests.benchmarks.fits import UNITS, line, points_of
from tests.benchmarks.floor import matrix_rate, needed_for_rankings, needed_operations
from tests.benchmarks.referee import Bout, Peer, duel, find_trl_ppo, spread
from tests.benchmarks.workload import Workload

__all__ = ["cost_by_size", "online", "ppo", "ppo_bfloat16", "ptx", "reward", "sampling", "sft"]

PEERS = "tests.benchmarks.peers"


def clock_of(work: Workload) -> str:
    return "wall" if work.device == "cuda" else "cpu"


def ppo(
    work: Workload, *, rounds: int, warmup: int = 1, rollout_batch: int = 0, seconds: float = math.inf, alone: bool = False
) -> dict[str, Any]:
    """PPO episodes per second beside TRL 1.12.0, where its environment exists.

    rollout_batch: rows that TRL samples and scores together; 0: all. seconds: see `duel`. alone: without TRL in any case.
    """
    contestants, home = {"lab": Peer(f"{PEERS}.lab_ppo", work)}, None if alone else find_trl_ppo()
    if home is not None:
        options = [f"--rollout_batch={rollout_batch}"] if rollout_batch else []
        contestants = {"trl": Peer(f"{PEERS}.trl_ppo", work, *options, home=home), **contestants}
    bout = duel(contestants, rounds, warmup=warmup, seconds=seconds)
    check_same_work(bout, work)
    result = _result(bout, work, "episodes", lambda _: work.batch)
    for name in contestants:
        result[name] |= {"phases": bout.phases(name), "mean_length": bout.median(name, "mean_length")}
    if home is not None:
        phases = ("generation", "scoring", "update")
        result["phase_ratios"] = {name: bout.phase_ratios("trl", "lab", name) for name in phases}
    needed = needed_operations(work, result["lab"]["mean_length"])
    return result | {"floor": _floor(work, needed)}


def online(work: Workload, method: str, *, rounds: int) -> dict[str, Any]:
    """PPO episodes per second beside RLOO or GRPO of current TRL.

    The same: policy, reward model, prompts' lengths, episodes, optimiser steps, most tokens. Not the same: these methods
    draw four episodes of a prompt and have no value model, so that they compute less for an episode than PPO does.
    """
    contestants = {
        method: Peer(f"{PEERS}.trl_online", work, f"--method={method}"),
        "lab": Peer(f"{PEERS}.lab_ppo", work),
    }
    bout = duel(contestants, rounds)
    check_same_work(bout, work)
    result = _result(bout, work, "episodes", lambda _: work.batch)
    for name in contestants:
        result[name]["mean_length"] = bout.median(name, "mean_length")
    return result


def check_same_work(bout: Bout, work: Workload) -> None:
    """Every round of every contestant must have as many optimiser steps, one per minibatch; raises RuntimeError."""
    due = work.batch // work.minibatch
    for name, rounds in bout.rounds.items():
        taken = {r["optimizer_steps"] for r in rounds}
        if taken != {due}:
            raise RuntimeError(
                f"{name} took {sorted(taken)} optimiser steps in a round of {due} minibatches; make it {due}."
            )


def _result(bout: Bout, work: Workload, unit: str, amount: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """What all contests report: the work, the rounds, each contestant's rate, and the ratio with its spread.

    amount: how many units a round of this contestant holds; costs are compared per unit.
    """
    clock = clock_of(work)
    result: dict[str, Any] = {"work": vars(work), "clock": clock, "rounds": bout.rounds}
    costs = {name: [r[clock] / amount(r) for r in rounds] for name, rounds in bout.rounds.items()}
    for name, each in costs.items():
        result[name] = bout.summary(name) | {f"{unit}_per_second": statistics.median(1 / c for c in each)}
    if peer := next((name for name in costs if name != "lab"), None):
        result["ratio"] = spread([a / b for a, b in zip(costs[peer], costs["lab"], strict=True)])
    return result


def _floor(work: Workload, needed: dict[str, float]) -> dict[str, Any]:
    """Seconds that the operations of each phase take at the rate of this machine's matrix product."""
    rate = matrix_rate(work.dtype, work.device, work.threads)
    return {"operations_per_second": rate, "phases": {name: count / rate for name, count in needed.items()}}


def bfloat16_pays(work: Workload) -> bool:
    """Whether this machine multiplies bf16 at least as fast as fp32; without hardware for it, it is many times slower."""
    rates = [matrix_rate(dtype, work.device, work.threads, size=512) for dtype in ("bfloat16", "float32")]
    return rates[0] >= rates[1]


def ppo_bfloat16(work: Workload, **options: Any) -> dict[str, Any]:
    """`ppo` with both sides in bf16, where that is not a test of patience."""
    if not bfloat16_pays(work):
        return {"left out": "this processor multiplies bf16 slower than fp32."}
    return ppo(replace(work, dtype="bfloat16"), **options)


def ptx(work: Workload, *, rounds: int, tokens: int = 16, alone: bool = True, **limits: Any) -> dict[str, Any]:
    """What pretraining gradients at 8 examples an episode cost, as a share of the rest of the same iterations.

    tokens: that count as one example. alone: has no peer in any case. limits: as `duel` takes them.
    """
    bout = duel({"lab": Peer(f"{PEERS}.lab_ppo", work, "--ptx_coef=27.8", f"--ptx_tokens={tokens}")}, rounds, **limits)
    shares = [r["phases"]["ptx"] / (r[clock_of(work)] - r["phases"]["ptx"]) for r in bout.rounds["lab"]]
    return {"work": vars(work), "rounds": bout.rounds, "share": spread(shares)}


def reward(work: Workload, completions: int, *, rounds: int) -> dict[str, Any]:
    """Rankings per second beside current TRL on all pairs; one step holds `work.minibatch` prompts on both sides."""
    option = f"--completions={completions}"
    bout = duel(
        {"trl": Peer(f"{PEERS}.trl_reward", work, option), "lab": Peer(f"{PEERS}.lab_reward", work, option)}, rounds
    )
    result = _result(bout, work, "rankings", lambda _: work.minibatch) | {"completions": completions}
    for name in bout.rounds:
        result[name]["phases"] = bout.phases(name)
    return result | {"floor": _floor(work, {"update": needed_for_rankings(work, completions)})}


def sampling(
    work: Workload, *, rounds: int, lab: str = "lab", peer: str = "generate", alone: bool = False, **limits: Any
) -> dict[str, Any]:
    """Sampled tokens per second beside `generate`, on the same prompts.

    lab, peer: which ways of sampling are compared (`peers/sampling.py`). alone: without the peer.
    """
    engines = {} if alone else {peer: Peer(f"{PEERS}.sampling", work, f"--engine={peer}")}
    engines["lab"] = Peer(f"{PEERS}.sampling", work, f"--engine={lab}")
    bout = duel(engines, rounds, **limits)
    result = _result(bout, work, "tokens", lambda r: r["tokens"])
    for name in engines:
        result[name] |= {"phases": bout.phases(name), "mean_length": bout.median(name, "mean_length")}
    needed = needed_operations(work, result["lab"]["mean_length"])
    return result | {"floor": _floor(work, {"generation": needed["generation"]})}


def sft(work: Workload, *, rounds: int) -> dict[str, Any]:
    """Demonstrations per second beside current TRL's SFTTrainer, of which the lab's SFT is a subclass.

    trl: that trainer as it comes, on padded batches. packed: the same with the lab's batches and attention, so that
    lab over packed is what the lab's own Steps, knobs and records cost.
    """
    peers = {"trl": Peer(f"{PEERS}.trl_sft", work), "packed": Peer(f"{PEERS}.trl_sft", work, "--packed")}
    bout = duel(peers | {"lab": Peer(f"{PEERS}.lab_sft", work)}, rounds)
    result = _result(bout, work, "demonstrations", lambda r: r["steps"] * work.minibatch)
    return result | {"overhead": bout.ratios("lab", "packed", clock_of(work))}


def cost_by_size(base: Workload, *, rounds: int = 2) -> dict[str, Any]:
    """Seconds of one PPO iteration against response length, batch and model size, one varied at a time, with line fits."""
    variants = [("response length", replace(base, mean_response=float(n), max_response=n)) for n in (8, 16, 32, 64)]
    variants += [("batch", replace(base, batch=n, minibatch=n // 4)) for n in (32, 64, 128, 256)]
    variants += [("model", replace(base, shape=shape)) for shape in ("1M", "3M", "10M")]
    rows = []
    for varied, work in variants:
        seconds, length = _iteration(work, rounds)
        sizes = {
            "tokens": work.batch * (work.mean_prompt + length),
            "operations": sum(needed_operations(work, length).values()),
        }
        rows.append({"varied": varied, "work": vars(work), "seconds": seconds, **sizes})
        print(f"  {varied}: {sizes['tokens']:.0f} tokens, {seconds:.2f} s", flush=True)
    fits = {
        varied: line(*zip(*points_of(rows, varied), strict=True)) | {"unit": unit} for varied, unit in UNITS.items()
    }
    return {"rows": rows, "fits": fits}


def _iteration(work: Workload, rounds: int) -> tuple[float, float]:
    """The lab alone, in this process: least seconds of an iteration after a first one, and the mean response length."""
    from tests.benchmarks.peers.lab_ppo import build

    clock = time.perf_counter if work.device == "cuda" else time.process_time
    costs, lengths = [], []
    with mock.patch.dict(os.environ, LABKIT_DEVICE=work.device, LABKIT_DTYPE=work.dtype):
        torch.set_num_threads(work.threads)
        steps = build(work)[0]
        for _ in range(1 + rounds):
            started = clock()
            lengths.append(next(steps).metrics["response_length"])
            costs.append(clock() - started)
        steps.close()
    return min(costs[1:]), statistics.median(lengths[1:])
