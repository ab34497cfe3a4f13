"""One GPU: PPO at 124M and 0.5B parameters in bf16 beside TRL 1.12.0, in under 9 minutes, without network.

After that, sampling (steps that a CUDA graph replays beside steps one by one, and beside `generate`) and what
pretraining gradients cost.

    python -m tests.benchmarks.gpu [--out results.json] [--only NAME] [--dry-run]

Models are built from configs. TRL 1.12.0 is looked for, without network, in the folder that LABKIT_BENCH_TRL names, in
.bench/trl112 and along PYTHONPATH: a virtual environment, or a folder made elsewhere and copied here by

    pip install --target FOLDER trl==1.12.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0

Without it, or where it fails, the lab runs alone, and the results say so. They are saved after each contest, by default
in .bench/results/. `--dry-run` goes through the same steps on a CPU with a tiny model, so that the script is known to work.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import contests, report
from tests.benchmarks.referee import REPOSITORY, find_trl_ppo
from tests.benchmarks.workload import Workload

SECONDS = 480.0  # for all contests together, whatever is then still at work is ended; the rest of the 9 minutes is reserve
SMALL = Workload("124M", batch=512, minibatch=64, dtype="bfloat16", device="cuda", threads=8)
LARGE = Workload("0.5B", batch=128, minibatch=32, dtype="bfloat16", device="cuda", threads=8)
TINY = Workload("tiny", batch=16, minibatch=8, dtype="bfloat16", mean_response=6.0, max_response=12)
WARMUP = 6  # iterations that do not count: in them the lab records backward passes, one size of minibatch after another
Contest = tuple[Callable[..., dict[str, Any]], Workload, dict[str, Any]]  # (what is measured, on what, its options)


def both_ways(name: str, work: Workload) -> dict[str, Contest]:
    """Sampling with graphs beside steps one by one, and beside `generate`."""
    return {
        f"sampling, {name}, graphs beside steps": (contests.sampling, work, {"lab": "graphs", "peer": "steps"}),
        f"sampling, {name}": (contests.sampling, work, {}),
    }


CONTESTS: dict[str, Contest] = {
    "PPO, 124M, bf16": (contests.ppo, SMALL, {"warmup": WARMUP}),
    **both_ways("124M, bf16", SMALL),
    "pretraining gradients, 124M, bf16": (contests.ptx, SMALL, {"warmup": WARMUP}),
    "PPO, 0.5B, bf16": (contests.ppo, LARGE, {"warmup": WARMUP}),  # last: it has what the others left of the time
}
DRY_RUN: dict[str, Contest] = {  # one of each kind
    "sampling, tiny, graphs beside steps": both_ways("tiny", TINY)["sampling, tiny, graphs beside steps"],
    "PPO, tiny": (contests.ppo, TINY, {"rollout_batch": 16}),
    "pretraining gradients, tiny": (contests.ptx, TINY, {}),
}


def measure(todo: dict[str, Contest], seconds: float, rounds: int, path: Path) -> dict[str, Any]:
    """Each contest gets an equal share of the time that is left; a contestant that fails is reported, not fatal.

    path: where the results so far are saved after each contest.
    """
    ends = time.monotonic() + seconds
    first = next(iter(todo.values()))[1]
    results: dict[str, Any] = {"environment": report.environment(first.device, first.threads)}
    if find_trl_ppo() is None:
        print(
            "TRL 1.12.0 was not found, so that there will be no ratios; this script's docstring says where it is looked for."
        )
    for number, (name, (contest, work, options)) in enumerate(todo.items()):
        due = ends - (ends - time.monotonic()) * (1 - 1 / (len(todo) - number))
        results[name] = in_any_case(contest, work, due, rounds=rounds, **options)
        report.save(results, path)
        print(json.dumps({name: {k: v for k, v in results[name].items() if k != "rounds"}}, indent=1), flush=True)
    return results


def in_any_case(contest: Callable[..., dict[str, Any]], work: Workload, due: float, **options: Any) -> dict[str, Any]:
    """The contest until `due`. Where a contestant fails the lab alone, in what is left of the time, and why."""
    try:  # two thirds of the time, so that the lab alone has the rest
        return contest(work, seconds=(due - time.monotonic()) * 2 / 3, **options)
    except RuntimeError as error:
        why = str(error)
    try:
        return contest(work, seconds=due - time.monotonic(), alone=True, **options) | {"peer failed": why}
    except RuntimeError as error:
        return {"failed": why if str(error) == why else f"{why}\nThe lab alone: {error}"}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept = REPOSITORY / ".bench" / "results" / f"gpu-{dt.datetime.now():%Y-%m-%d-%H%M}.json"
    parser.add_argument("--out", type=Path, default=kept, help="where to write the results as JSON (default: .bench/results/)")
    parser.add_argument("--dry-run", action="store_true", help="the same steps on a CPU with a tiny model")
    parser.add_argument("--only", default="", help="contests whose names hold this, such as 'PPO'")
    options = parser.parse_args(arguments)
    known, seconds, rounds = (DRY_RUN, 4 * SECONDS, 1) if options.dry_run else (CONTESTS, SECONDS, 5)
    todo = {name: contest for name, contest in known.items() if options.only in name}
    if not todo:
        parser.error(f"--only {options.only!r} names none of: {'; '.join(known)}")
    results = measure(todo, seconds, rounds, options.out)
    print(report.table(results) + f"\nSaved in {options.out}.")
    return results


if __name__ == "__main__":
    main()
