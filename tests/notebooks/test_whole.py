"""The notebooks as a newcomer runs them: the tour, and `labkit run` through 01 to 06, at the smallest scale."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.batch import records
from labkit.batch.notebooks import execute
from labkit.runs import Run
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.kernel]

PLOTLY, VIEW = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
STEPS = ["01_prompts", "02_sft", "03_rank", "04_reward", "05_ppo_ptx", "06_evaluate"]
FIGURES = {
    "00_tour": 6,
    "01_prompts": 2,
    "02_sft": 1,
    "03_rank": 1,
    "04_reward": 2,
    "05_ppo_ptx": 2,
    "06_evaluate": 4,
}  # at least


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """The tour's run and how it ended."""
    run = Run("tour", tmp_path_factory.mktemp("tour"))
    return run, execute(REPOSITORY / "notebooks" / "00_tour.ipynb", run, {"scale": "smoke", "model": "small"})


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """The run of `labkit run` and what the command printed."""
    root = tmp_path_factory.mktemp("pipeline")
    return Run("main", root), labkit_run(root)


def labkit_run(root: Path, *options: str) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).with_name("labkit")), "run", "main", "--scale", "smoke", "-p", "model=small"]
    return subprocess.run(
        [*command, "--root", str(root), *options],
        cwd=root,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=580,
    )


def outputs(notebook: Path) -> list[dict]:
    """All outputs of an executed notebook, none of which may be an error."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [o for o in found if o["output_type"] == "error"]
    return found


def check_reads_well(run: Run, name: str) -> None:
    """An executed notebook shows its figures as pictures, holds no widget state and is small."""
    notebook = run.path / "notebooks" / f"{name}.ipynb"
    shown = [o["data"] for o in outputs(notebook) if "data" in o]
    figures = [data for data in shown if PLOTLY in data]
    assert len(figures) >= FIGURES[name], name
    assert all("image/png" in data or "image/svg+xml" in data for data in figures), "a picture where no script runs"
    assert not [data for data in shown if VIEW in data]
    assert "widgets" not in json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    assert notebook.stat().st_size < 1_000_000, name


def test_the_tour_ends_well_with_its_stages_and_numbers(tour):
    run, outcome = tour
    assert outcome.status == "done", outcome.error
    assert {s.path.name for s in run.stages() if s.status == "done"} >= {"sft", "reward", "ppo", "ppo_ptx", "evaluate"}
    assert {"RM accuracy", "ppo_ptx gold", "ppo_ptx preferred to sft", "ppo_ptx LM loss"} <= set(outcome.summary)


def test_the_executed_tour_reads_well(tour):
    check_reads_well(tour[0], "00_tour")


def test_the_pipeline_ends_well_and_writes_its_report(pipeline):
    run, done = pipeline
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert [records.record_of(run, name).status for name in STEPS] == ["done"] * len(STEPS)
    assert (run.path / "report").is_dir() and "Report: " in done.stdout


@pytest.mark.parametrize("name", STEPS)
def test_each_executed_notebook_reads_well(pipeline, name):
    check_reads_well(pipeline[0], name)


def test_a_second_run_has_nothing_to_do(pipeline):
    run, _ = pipeline
    again = labkit_run(run.path.parent, "--dry-run")
    assert again.returncode == 0, again.stderr[-2000:]
    assert len(re.findall(r"skip +done and unchanged", again.stdout)) == len(STEPS)
