"""The real 05_ppo_ptx by hand, at the smallest scale: "Run All" once more while it trains, and the boards to the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit.experiment import Experiment
from labkit.runs import Run, StageFolder
from tests.browser.lab import ROOT, Lab, LabServer
from tests.browser.test_cockpit import press, wait

NOTEBOOK = "05_ppo_ptx.ipynb"
#: Smoke's few steps would be over before a hand could press anything.
SLOWLY = """
import time
from labkit.jobs import Job
at_once = Job._record
def slowly(job, step):
    time.sleep(2)
    at_once(job, step)
Job._record = slowly
"""


@pytest.fixture(scope="module")
def prepared(lab_server: LabServer) -> Path:
    """The notebook at smoke scale in the server's folder, and the run that it goes on from; returns the run's folder."""
    run = Run("main", lab_server.root / "runs")
    Experiment(run, scale="smoke", model="small").ensure("reward", "ppo_init", say=lambda line: None)
    book = json.loads((ROOT / "notebooks" / NOTEBOOK).read_text(encoding="utf-8"))
    (parameters,) = [c for c in book["cells"] if "parameters" in c["metadata"].get("tags", [])]
    parameters["source"] = "".join(parameters["source"]).replace('scale = "tour"', 'scale = "smoke"')
    (lab_server.root / NOTEBOOK).write_text(json.dumps(book), encoding="utf-8")
    return run.path


def cell_with(lab: Lab, words: str) -> int:
    return next(i for i, cell in enumerate(lab.cells()) if words in "".join(cell["source"]))


def test_run_all_pressed_again_while_it_trains_harms_nothing(lab: Lab, prepared: Path) -> None:
    lab.visit(NOTEBOOK)
    lab.page.set_default_timeout(60_000)
    lab.python(SLOWLY)
    lab.command("notebook:run-all-cells")
    assert [e for e in lab.errors() if "Training goes on" in e], lab.errors()
    press(lab, "pause")
    wait(lab, "job.status == 'paused'")
    lab.python("first = job\nTrue")
    lab.command("notebook:run-all-cells")
    (refused,) = [e for e in lab.errors() if "Training goes on" not in e]
    assert "is being written by another job" in refused and "Wait" in refused
    assert lab.python("job is first and job.status == 'paused'"), "the names still mean the training under way"
    lab.run_cell(cell_with(lab, "show(board)"))  # "Run All" took every output from the page
    press(lab, "resume")
    wait(lab, "not job.alive")

    stage = StageFolder(prepared / "ppo_ptx")
    assert (lab.python("job.status"), stage.status) == ("done", "done") and stage.model.is_dir()
    assert [s.number for s in stage.steps()] == list(range(1, lab.python("job.total") + 1)), (
        "one job's steps, each once"
    )
    assert not list(prepared.glob("ppo_ptx*.old")), "nothing was moved aside"

    lab.python("Job._record = at_once\nTrue")
    lab.run_cell(cell_with(lab, "board.report()"))
    lab.run_cell(cell_with(lab, "plain = "))
    wait(lab, "not plain.alive")
    lab.run_cell(cell_with(lab, "RewardInspector(rows_of"))
    lab.page.wait_for_selector(".lki-token")
    assert "sampled at step" in lab.page.inner_text(".lki-whose")
    assert lab.complaints() == []
