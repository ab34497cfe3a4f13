"""Two processes give the metrics of one with the same global batch, to rounding, also with sharded weights."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.toy import save_toy

pytestmark = pytest.mark.slow

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=2", "--num_machines=1",
          "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]  # fmt: skip
SIDE_BY_SIDE = [*LAUNCH, "--multi_gpu"]  # accelerate's name for several processes; without GPUs they use gloo
SHARDED = [*LAUNCH, "--use_fsdp", "--fsdp_version=2", "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP",
           "--fsdp_reshard_after_forward=true", "--fsdp_cpu_ram_efficient_loading=false"]  # fmt: skip


def run(command, model, out):
    out.mkdir()
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(REPOSITORY / "tests/speed/ppo_worker.py"), str(model), str(out)],
        env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((out / "out.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    model = save_toy(folder / "init", spread=0.05)
    return model, run([sys.executable], model, folder / "out")


def numbers(metrics):
    """What must agree; times differ."""
    return {name: value for name, value in metrics.items() if not name.startswith("time_")}


@pytest.mark.parametrize("launch", [SIDE_BY_SIDE, SHARDED], ids=["data parallel", "sharded"])
def test_two_processes_equal_one(alone, tmp_path, launch):
    model, one = alone
    two = run(launch, model, tmp_path / "out")
    assert (one["processes"], two["processes"]) == (1, 2)
    assert ("FSDP" in two["kind"]) == (launch is SHARDED)
    for a, b in zip(one["metrics"], two["metrics"], strict=True):
        assert numbers(b) == pytest.approx(numbers(a), rel=2e-3, abs=2e-4, nan_ok=True)
    for name, values in one["average"].items():
        assert two["average"][name] == pytest.approx(values, abs=1e-4)


def test_a_resumed_run_equals_the_whole_one(alone):
    metrics = alone[1]["metrics"]
    assert numbers(metrics[2]) == numbers(metrics[3])
