"""`make bench`: what the live cockpit costs its training; the promise is 2 %. Printed, with its interval.

LABKIT_BOARD_RUN=runs/tour takes the models of a finished tour, whose answers are as long as in earnest; without it
stand-ins are trained in seconds. LABKIT_BOARD_PAIRS: how many pairs of turns.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from jupyter_client import KernelManager

from tests.benchmarks.board_cost import interval

pytestmark = [pytest.mark.bench, pytest.mark.kernel, pytest.mark.timeout(3600)]

NAMES = {
    "cpu": "with / without, processor",
    "wall": "with / without, wall",
    "beside": "outside the training thread, with minus without",
    "share": "the board's own thread",
}


def in_a_kernel(code: str, repository: Path) -> None:
    """Run a cell where the boards are alive."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, "PYTHONPATH": str(repository), "LABKIT_HEADLESS": "0"})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        reply = client.execute_interactive(code, timeout=3500, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"]["traceback"])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_a_live_board_costs_little(tmp_path: Path, repository: Path) -> None:
    pairs = int(os.environ.get("LABKIT_BOARD_PAIRS", "40"))
    if given := os.environ.get("LABKIT_BOARD_RUN"):
        ignored = shutil.ignore_patterns("ppo", "ppo_ptx", "epochs", "notebooks", "report")
        shutil.copytree(given, tmp_path / "board-cost", ignore=ignored)
    target = tmp_path / "cost.json"
    in_a_kernel(
        "import json, pathlib; from tests.benchmarks.board_cost import measure\n"
        f"pathlib.Path({str(target)!r}).write_text(json.dumps(measure({str(tmp_path)!r}, pairs={pairs})))",
        repository,
    )
    found = json.loads(target.read_text())
    for clock, ratio in found["ratios"].items():
        print(f"{NAMES[clock]}: {ratio['median']:.4f} [{ratio['low']:.4f} to {ratio['high']:.4f}]")
    print(f"{ratio['count']} pairs of turns; {found['messages']} packets of curves left the kernel")
    assert found["messages"] >= pairs, "the board was not alive, so nothing was measured"
    assert found["ratios"]["beside"]["high"] < 0.02, "what runs beside the training thread breaks the promise"
    assert found["ratios"]["cpu"]["low"] < 1.02, "the pairs say that the board costs more than 2 %"


def test_an_interval_holds_its_median_and_shrinks_with_more_pairs() -> None:
    few, many = interval([1.0, 1.02, 0.98, 1.01]), interval([1.0, 1.02, 0.98, 1.01] * 25)
    for found in (few, many):
        assert found["low"] <= found["median"] <= found["high"]
    assert many["high"] - many["low"] < few["high"] - few["low"]
