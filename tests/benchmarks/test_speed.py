"""`make bench`: every contest on this machine's CPU, one thread, printed and written to .bench/results/.

Nothing here fails by time: a busy machine says little. It fails where a contestant does not do the work.
PPO's peer has an environment of its own, made on the first run; without it (no network) PPO is measured alone.
"""

import subprocess
import sys

import pytest

from tests.benchmarks import contests, report, tricks
from tests.benchmarks.fits import UNITS
from tests.benchmarks.referee import REPOSITORY, TRL_PPO_HOME, find_trl_ppo
from tests.benchmarks.workload import Workload

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]
RESULTS = REPOSITORY / ".bench" / "results"
PINS = ("trl==1.12.0", "transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0")
LARGE = Workload("10M", 512)  # an iteration of the peer takes minutes: few rounds, the first one counts
MEASURES = {
    "PPO, 1M, batch 512": lambda: contests.ppo(Workload("1M", 512), rounds=5),
    "PPO, 10M, batch 512": lambda: contests.ppo(LARGE, rounds=3, warmup=0),
    "PPO, 10M, batch 512, both bf16": lambda: contests.ppo_bfloat16(LARGE, rounds=3, warmup=0),
    "PPO beside TRL's RLOO, 1M, batch 512": lambda: contests.online(Workload("1M", 512), "rloo", rounds=3),
    "PPO beside TRL's GRPO, 1M, batch 512": lambda: contests.online(Workload("1M", 512), "grpo", rounds=3),
    "PPO-ptx, 1M, batch 256, examples of 8 tokens": lambda: contests.ptx(Workload("1M", 256), rounds=3, tokens=8),
    "PPO-ptx, 1M, batch 256, examples of 16 tokens": lambda: contests.ptx(Workload("1M", 256), rounds=3),
    "reward model, K = 4": lambda: contests.reward(Workload("1M", minibatch=16), 4, rounds=5),
    "reward model, K = 9": lambda: contests.reward(Workload("1M", minibatch=16), 9, rounds=5),
    "SFT, 1M, batch 32": lambda: contests.sft(Workload("1M", minibatch=32), rounds=5),
    "sampling, batch 64": lambda: contests.sampling(Workload("1M", 64), rounds=7),
    "sampling, batch 512": lambda: contests.sampling(Workload("1M", 512), rounds=5),
    "tricks, 1M, batch 512": lambda: tricks.tricks(Workload("1M", 512), rounds=5),
}


@pytest.fixture(scope="module", autouse=True)
def peer_environment():
    """TRL 1.12.0 under .bench/, torch first and alone so that pip may take the CPU build."""
    if find_trl_ppo() is not None:
        return
    subprocess.run([sys.executable, "-m", "venv", TRL_PPO_HOME], check=True)
    for pins in (("torch==2.13.0",), PINS):
        if subprocess.run([TRL_PPO_HOME / "bin" / "python", "-m", "pip", "install", "--quiet", *pins]).returncode:
            print("TRL 1.12.0 could not be installed; PPO is measured without its peer.")
            return


@pytest.fixture(scope="module")
def results():
    found = {"environment": report.environment()}
    yield found
    report.save(found, RESULTS / f"cpu-{found['environment']['date'][:10]}.json")
    print("\n" + report.table(found))


@pytest.mark.parametrize("name", MEASURES)
def test_contest(name, results):
    results[name] = MEASURES[name]()
    lengths = [
        results[name][who]["mean_length"] for who in ("lab", "trl", "rloo", "grpo") if "mean_length" in results[name].get(who, {})
    ]
    assert all(9 < length < 15 for length in lengths), "a contestant did not sample what the workload says"


def test_cost_is_linear_in_tokens(results):
    """The fit is reported, not judged: a busy machine bends any line. But it must be there, for every size that grew."""
    results["cost"] = contests.cost_by_size(Workload("1M", batch=64, minibatch=16))
    for varied in UNITS:
        assert results["cost"]["fits"][varied]["slope"] > 0 and 0 <= results["cost"]["fits"][varied]["r2"] <= 1
    assert "| response length | tokens |" in report.table(
        {"environment": results["environment"], "cost": results["cost"]}
    )
    path = report.figure(results["cost"], RESULTS / "cost.png")
    assert path.read_bytes().startswith(b"\x89PNG")
