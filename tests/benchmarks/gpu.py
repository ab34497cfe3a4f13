"""One GPU: PPO at 124M and 0.5B parameters in bf16 beside TRL 1.12.0, in under 9 minutes, without network.

Before that, sampling: steps that a CUDA graph replays beside steps one by one, and beside `generate`.

    python -m tests.benchmarks.gpu [--out results.json] [--dry-run]

Models are built from configs. TRL 1.12.0 is looked for, without network, in the folder that LABKIT_BENCH_TRL names, in
.bench/trl112 and along PYTHONPATH: a virtual environment, or a folder made elsewhere and copied here by

    pip install --target FOLDER trl==1.12.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0

Without it the lab runs alone, and the results say so. `--dry-run` goes through the same steps on a CPU with a tiny model, so that the script is known to work.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import contests, report
from tests.benchmarks.referee import find_trl_ppo
from tests.benchmarks.workload import Workload

SECONDS = 480.0  # for all contests together; loading and saving take the rest of the 9 minutes
SMALL = Workload("124M", batch=512, minibatch=64, dtype="bfloat16", device="cuda", threads=8)
LARGE = Workload("0.5B", batch=128, minibatch=32, dtype="bfloat16", device="cuda", threads=8)
TINY = Workload("tiny", batch=16, minibatch=8, dtype="bfloat16", mean_response=6.0, max_response=12)
Contest = tuple[Callable[..., dict[str, Any]], Workload, dict[str, Any]]  # (what is measured, on what, its options)


def both_ways(name: str, work: Workload) -> dict[str, Contest]:
    """Sampling with graphs beside steps one by one, and beside `generate`."""
    return {
        f"sampling, {name}, graphs beside steps": (contests.sampling, work, {"lab": "graphs", "peer": "steps"}),
        f"sampling, {name}": (contests.sampling, work, {}),
    }


CONTESTS: dict[str, Contest] = {
    **both_ways("124M, bf16", SMALL),
    "PPO, 124M, bf16": (contests.ppo, SMALL, {"rollout_batch": 256}),
    "PPO, 0.5B, bf16": (contests.ppo, LARGE, {"rollout_batch": 64}),
}
DRY_RUN: dict[str, Contest] = {**both_ways("tiny", TINY), "PPO, tiny": (contests.ppo, TINY, {"rollout_batch": 16})}


def measure(todo: dict[str, Contest], seconds: float, rounds: int) -> dict[str, Any]:
    """Each contest gets an equal share of the time that is left; a contestant that fails is reported, not fatal."""
    ends = time.monotonic() + seconds
    first = next(iter(todo.values()))[1]
    results: dict[str, Any] = {"environment": report.environment(first.device, first.threads)}
    if find_trl_ppo() is None:
        print(
            "TRL 1.12.0 was not found, so that there will be no ratios; this script's docstring says where it is looked for."
        )
    for number, (name, (contest, work, options)) in enumerate(todo.items()):
        share = (ends - time.monotonic()) / (len(todo) - number)
        try:
            results[name] = contest(work, rounds=rounds, seconds=share, **options)
        except RuntimeError as error:
            results[name] = {"failed": str(error)}
        print(json.dumps({name: {k: v for k, v in results[name].items() if k != "rounds"}}, indent=1), flush=True)
    return results


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="where to write the results as JSON")
    parser.add_argument("--dry-run", action="store_true", help="the same steps on a CPU with a tiny model")
    options = parser.parse_args(arguments)
    results = measure(DRY_RUN, 120.0, rounds=1) if options.dry_run else measure(CONTESTS, SECONDS, rounds=5)
    if options.out:
        report.save(results, options.out)
    print(report.table(results))
    return results


if __name__ == "__main__":
    main()
