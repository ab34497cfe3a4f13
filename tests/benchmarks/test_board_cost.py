"""`make bench`: what the live cockpit costs its training. The promise is 2 %, which a busy machine cannot show by the wall
clock; processor time of the whole process, board and training together, says it better. Printed, with its spread.
"""

import json
import os
from pathlib import Path

import pytest
from jupyter_client import KernelManager

pytestmark = [pytest.mark.bench, pytest.mark.kernel, pytest.mark.timeout(1800)]


def test_a_live_board_costs_little(tmp_path: Path, repository: Path) -> None:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env={**os.environ, "PYTHONPATH": str(repository), "LABKIT_HEADLESS": "0"})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        target = tmp_path / "cost.json"
        code = (
            "import json, pathlib; from tests.benchmarks.board_cost import measure\n"
            f"pathlib.Path({str(target)!r}).write_text(json.dumps(measure({str(tmp_path)!r})))"
        )
        reply = client.execute_interactive(code, timeout=1500, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    found = json.loads(target.read_text())
    names = {"cpu": "with / without, processor", "wall": "with / without, wall", "share": "the board's own share"}
    for clock, ratio in found["ratios"].items():
        print(f"{names[clock]}: {ratio['median']:.4f} ({ratio['min']:.4f} to {ratio['max']:.4f})")
    print(f"{len(found['runs']['board'])} pairs of runs; {found['messages']} packets of curves left the kernel")
    assert found["messages"] > 0, "the board was not alive, so nothing was measured"
