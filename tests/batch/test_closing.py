"""Stages left running by a process on another machine: shown as they are, closed only on a person's word and after silence."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.batch.closing import close_gone
from labkit.batch.records import record_of
from labkit.disk import write_json
from labkit.errors import RunError
from labkit.runs import Run, StageFolder
from labkit.types import Step
from tests.toy_job import toy_job

HOUR = 3600.0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("mine", tmp_path)


def left(stage: StageFolder, *, silent: float, **facts: object) -> StageFolder:
    """A stage that says that it is running, whose files were last written so many seconds ago."""
    stage.begin(settings={"lr": 0.1})
    stage.append_step(Step("ppo", 1, {"score": 0.5}))
    write_json(stage.path / "run.json", {**stage.manifest, "host": "node7", "pid": 4711, **facts})
    then = time.time() - silent
    for file in stage.path.rglob("*"):
        os.utime(file, (then, then))
    return stage


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "run.json"}


def test_looking_shows_host_process_and_last_sign_of_life_and_closes_nothing(run: Run) -> None:
    stage = left(run.stage("ppo"), silent=9 * HOUR)
    before = stage.manifest
    found = close_gone(run)
    (row,) = found.to_json()["running"]
    assert (row["part"], row["host"], row["process"]) == ("ppo", "node7", 4711) and not row["closed"]
    assert 9 * HOUR <= row["silent_seconds"] < 9 * HOUR + 60
    assert "node7" in found.text() and "4711" in found.text() and "9 h" in found.text() and "--gone node7" in found.text()
    assert stage.manifest == before and not found.refused


def test_what_is_silent_on_the_machine_that_is_named_is_closed_and_nothing_is_lost(run: Run) -> None:
    stage, point = left(run.stage("ppo"), silent=9 * HOUR), left(Run("seed=1", run.path).stage("sft"), silent=9 * HOUR)
    record, other = left(record_of(run, "05_x"), silent=9 * HOUR), left(run.stage("reward"), silent=9 * HOUR, host="node8")
    before = files(run.path)
    found = close_gone(run, gone="node7")
    assert {r["part"]: r["closed"] for r in found.to_json()["running"]} == {
        "ppo": True, "seed=1/sft": True, "notebooks/05_x": True, "reward": False,
    }  # fmt: skip
    assert [s.status for s in (stage, point, record, other)] == ["failed", "failed", "failed", "running"]
    assert files(run.path) == before and stage.steps()[0].metrics["score"] == 0.5
    said = stage.manifest
    assert "4711 on node7" in said["error"] and said["settings"] == {"lr": 0.1} and said["host"] == "node7"
    stage.begin(settings={})
    assert len(list(run.path.glob("ppo.*.old"))) == 1, "begun anew it moves the old files aside, as ever"


@pytest.mark.parametrize("silent", [0.0, 0.9 * HOUR, -2 * HOUR])
def test_a_sign_of_life_within_the_hour_refuses(run: Run, silent: float) -> None:
    """A time that lies ahead is a clock that goes wrong, and says nothing of silence."""
    stage = left(run.stage("ppo"), silent=silent)
    found = close_gone(run, gone="node7")
    assert stage.status == "running" and not found.closed
    assert "ppo" in found.refused[0] and "sign of life" in found.refused[0]


def test_silence_may_be_waited_for_longer_or_shorter(run: Run) -> None:
    stage = left(run.stage("ppo"), silent=0.5 * HOUR)
    assert not close_gone(run, gone="node7", silent=2 * HOUR).closed
    assert close_gone(run, gone="node7", silent=0.2 * HOUR).closed and stage.status == "failed"


def test_a_living_process_of_this_machine_is_never_closed(run: Run) -> None:
    here = left(run.stage("ppo"), silent=0.0, host=os.uname().nodename, pid=os.getpid())
    write_json(here.path / "run.json", {**here.manifest, "started": time.time()})
    for file in here.path.rglob("*"):
        os.utime(file, (1.0, 1.0))
    found = close_gone(run, gone=os.uname().nodename)
    assert here.status == "running" and "is alive" in found.refused[0]


def test_a_number_that_another_process_of_this_machine_has_by_now_needs_no_closing(run: Run) -> None:
    """After a new start of the machine numbers come again: `running` would be read for ever."""
    stage = left(run.stage("ppo"), silent=9 * HOUR, host=os.uname().nodename, pid=os.getpid(), process_began="before")
    assert stage.status == "dead" and not close_gone(run).rows


def test_a_job_goes_on_from_where_a_closed_one_was(run: Run) -> None:
    job = toy_job(run.path / "ppo", total=6).start()
    job.result(block=True)
    stage = run.stage("ppo")
    write_json(stage.path / "run.json", {**stage.manifest, "status": "running", "host": "node7", "pid": 4711})
    for file in stage.path.rglob("*"):
        os.utime(file, (1.0, 1.0))
    again = toy_job(run.path / "ppo", total=6)
    with pytest.raises(RunError, match="labkit close"):
        again.start(resume=True)
    assert close_gone(run, gone="node7").closed
    again.start(resume=True).result(block=True)
    assert stage.status == "done" and [s.number for s in stage.steps()] == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def labkit(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    def call(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "labkit.cli", "close", *arguments, "--root", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return call


def test_the_command_shows_closes_and_refuses(run: Run, labkit: Callable[..., subprocess.CompletedProcess]) -> None:
    left(run.stage("ppo"), silent=9 * HOUR)
    looked = labkit("mine")
    assert looked.returncode == 0 and "node7" in looked.stdout and run.stage("ppo").status == "running"
    left(run.stage("sft"), silent=0.0)
    closed = labkit("mine", "--gone", "node7", "--json")
    assert {r["part"]: r["closed"] for r in json.loads(closed.stdout)["running"]} == {"ppo": True, "sft": False}
    assert closed.returncode == 1 and "sign of life" in closed.stderr and "Traceback" not in closed.stderr
    wrong = labkit("mine", "--gone", "node9")
    assert wrong.returncode == 1 and "node9" in wrong.stderr and "node7" in wrong.stderr, "a machine that runs nothing here is a slip"
    assert labkit("nobody").returncode == 1
