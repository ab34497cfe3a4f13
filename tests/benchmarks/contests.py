"""What is measured: PPO, the reward model and sampling against their peers, ptx against PPO, and cost against size.

Each function returns one JSON object. The headline is the median over rounds of the ratio of CPU seconds (wall seconds
on a GPU): rounds alternate, so that a busy machine is busy for both. A ratio above 1 means that the lab is faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.benchmarks.floor import matrix_rate, needed_operations
from tests.benchmarks.referee import TRL_PPO_PYTHON, Peer, duel, spread
from tests.benchmarks.workload import END, PAD, Workload, make_policy, make_prompts

__all__ = ["cost_by_size", "ppo", "ptx", "reward", "sampling"]

PEERS = "tests.benchmarks.peers"


def clock_of(work: Workload) -> str:
    return "wall" if work.device == "cuda" else "cpu"


def ppo(
    work: Workload, *, rounds: int, peer: Workload | None = None, rollout_batch: int = 0, seconds: float = 1e9
) -> dict[str, Any]:
    """PPO episodes per second beside TRL 1.12.0, where its environment exists.

    peer: the workload of TRL, where it shall differ from the lab's in dtype. seconds: no round begins after these.
    """
    contestants = {"lab": Peer(f"{PEERS}.lab_ppo", work)}
    if TRL_PPO_PYTHON.exists():
        options = [f"--rollout_batch={rollout_batch}"] if rollout_batch else []
        contestants = {"trl": Peer(f"{PEERS}.trl_ppo", peer or work, *options, python=TRL_PPO_PYTHON), **contestants}
    bout = duel(contestants, rounds, seconds=seconds)
    clock = clock_of(work)
    result: dict[str, Any] = {"work": vars(work), "clock": clock, "rounds": bout.rounds}
    for name in contestants:
        result[name] = {
            "episodes_per_second": work.batch / bout.median(name, clock),
            "phases": bout.phases(name),
            "mean_length": bout.median(name, "mean_length"),
            "peak_mib": max(r["peak_mib"] for r in bout.rounds[name]),
        }
    if "trl" in contestants:
        result["ratio"] = bout.ratios("trl", "lab", clock)
        result["phase_ratios"] = {
            phase: spread(
                [
                    a["phases"][phase] / b["phases"][phase]
                    for a, b in zip(bout.rounds["trl"], bout.rounds["lab"], strict=True)
                ]
            )
            for phase in ("generation", "scoring", "update")
        }
    rate = matrix_rate(work.dtype, work.device, work.threads)
    needed = needed_operations(work, result["lab"]["mean_length"])
    result["floor"] = {"operations_per_second": rate, "phases": {name: count / rate for name, count in needed.items()}}
    return result


def ptx(work: Workload, *, rounds: int) -> dict[str, Any]:
    """What pretraining gradients at 8 examples an episode cost, as a share of the rest of the same iterations."""
    bout = duel({"lab": Peer(f"{PEERS}.lab_ppo", work, "--ptx_coef=27.8")}, rounds)
    shares = [r["phases"]["ptx"] / (r[clock_of(work)] - r["phases"]["ptx"]) for r in bout.rounds["lab"]]
    return {"work": vars(work), "rounds": bout.rounds, "share": spread(shares)}


def reward(work: Workload, completions: int, *, rounds: int) -> dict[str, Any]:
    """Rankings per second beside current TRL on all pairs; one step holds `work.minibatch` prompts on both sides."""
    option = f"--completions={completions}"
    bout = duel(
        {"trl": Peer(f"{PEERS}.trl_reward", work, option), "lab": Peer(f"{PEERS}.lab_reward", work, option)}, rounds
    )
    clock = clock_of(work)
    return {
        "work": vars(work),
        "completions": completions,
        "rounds": bout.rounds,
        "ratio": bout.ratios("trl", "lab", clock),
        **{name: {"rankings_per_second": work.minibatch / bout.median(name, clock)} for name in bout.rounds},
    }


def sampling(work: Workload, *, rounds: int) -> dict[str, Any]:
    """Sampled tokens per second beside `generate`, on the same prompts, in one process."""
    import torch

    from labkit.models import fused
    from labkit.models.packed import LAB_ATTENTION
    from labkit.sampling import sample

    torch.set_num_threads(work.threads)
    ours = fused(make_policy(work, attn_implementation=LAB_ATTENTION)).to(work.device)
    theirs = make_policy(work).to(work.device)
    prompts = make_prompts(work, work.batch)
    longest = max(len(p) for p in prompts)
    padded = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts], device=work.device)

    def run_ours() -> int:
        drawn = sample(ours, prompts, max_new_tokens=work.max_response, eos_id=END, seeds=range(work.batch))
        return sum(len(s.ids) for s in drawn)

    def run_theirs() -> int:
        out = theirs.generate(
            input_ids=padded, attention_mask=(padded != PAD).long(), max_new_tokens=work.max_response, do_sample=True,
            top_k=0, top_p=1.0, temperature=1.0, eos_token_id=END, pad_token_id=PAD,
        )  # fmt: skip
        return int((out[:, longest:] != PAD).sum())

    costs: dict[str, list[float]] = {"generate": [], "lab": []}  # seconds per token
    for number in range(rounds + 1):
        for name, run in (("generate", run_theirs), ("lab", run_ours)):
            seconds, tokens = timed(run, work)
            if number:
                costs[name].append(seconds / tokens)
    ratios = [a / b for a, b in zip(costs["generate"], costs["lab"], strict=True)]
    rates = {name: {"tokens_per_second": spread([1 / c for c in each])} for name, each in costs.items()}
    return {"work": vars(work), "ratio": spread(ratios), **rates}


def cost_by_size(base: Workload, *, rounds: int = 2) -> list[dict[str, Any]]:
    """Seconds of one PPO iteration against response length, batch and model size, one varied at a time."""
    variants = [
        ("response length", replace(base, mean_response=float(n), max_response=n)) for n in (8, 16, 32, 64, 128)
    ]
    variants += [("batch", replace(base, batch=n, minibatch=n // 4)) for n in (16, 32, 64, 128)]
    variants += [("model", replace(base, shape=shape)) for shape in ("1M", "3M", "10M")]
    rows = []
    for varied, work in variants:
        bout = duel({"lab": Peer(f"{PEERS}.lab_ppo", work)}, rounds)
        operations = needed_operations(work, bout.median("lab", "mean_length"))
        tokens = work.batch * (work.mean_prompt + bout.median("lab", "mean_length"))
        seconds = bout.best("lab", clock_of(work))
        rows.append(
            {
                "varied": varied,
                "work": vars(work),
                "tokens": tokens,
                "operations": sum(operations.values()),
                "seconds": seconds,
            }
        )
    return rows


def timed(run: Callable[[], int], work: Workload) -> tuple[float, int]:
    clock = time.perf_counter if work.device == "cuda" else time.process_time
    started = clock()
    result = run()
    return clock() - started, result
