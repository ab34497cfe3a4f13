"""One notebook headless: every way in which it can end is reported as what it is."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from labkit.batch.notebooks import execute
from labkit.batch.records import record_of, stale
from labkit.errors import RunError, SettingsError
from labkit.runs import Run
from tests.batch.tiny import FINISH, train, write_notebook

pytestmark = pytest.mark.kernel


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("tiny", tmp_path / "runs")


def test_a_good_notebook_is_done_and_leaves_its_record(tmp_path: Path, run: Run) -> None:
    lines: list[str] = []
    notebook = write_notebook(tmp_path / "05_x.ipynb", ["print('loss', kl_coef, session.headless)", train("ppo")],
                              finish="session.finish(stages=['ppo'], summary={'reward': kl_coef})")  # fmt: skip
    outcome = execute(notebook, run, {"kl_coef": "0.5", "seed": 3}, echo=lines.append)
    assert (outcome.status, outcome.error, outcome.summary) == ("done", "", {"reward": 0.5})
    assert "loss 0.5 True" in lines
    manifest = record_of(run, "05_x").manifest
    assert (manifest["status"], manifest["seed"], manifest["stages"]) == ("done", 3, ["ppo"])
    executed = nbformat.read(run.path / "notebooks" / "05_x.ipynb", as_version=4)
    assert "widgets" not in executed.metadata
    assert executed.cells[-1].execution_count
    assert not stale(run, notebook, manifest["settings"])


def test_bad_parameters_are_refused_before_anything_is_written(tmp_path: Path, run: Run) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb")
    for given in ({"bogus": 1}, {"kl_coef": "lots"}, {"kl_coef": 99.0}, {"seed": 0.5}):
        with pytest.raises(SettingsError):
            execute(notebook, run, given)
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("cells", "finish", "killed", "words"),
    [
        (["1 / 0"], FINISH, False, "cell In [4] raised ZeroDivisionError: division by zero"),
        (["import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"], FINISH, True, "the kernel died"),
        (["import sys\nsys.exit(0)"], FINISH, False, "05_x failed"),
        ([], "", False, "without the statement of its last cell"),
        (
            ["import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start(); t.join()"],
            FINISH,
            False,
            "a background thread failed: ZeroDivisionError",
        ),
        (
            [train("ppo", "failed")],
            "session.finish(stages=['ppo'])",
            False,
            "stage ppo is failed, not done: out of luck",
        ),
        ([train("ppo", "running")], "session.finish(stages=['ppo'])", False, "stage ppo is running, not done"),
        ([train("ppo", "stopped")], "session.finish(stages=['ppo'])", False, "stopped, not done: it was stopped and left no"),
        ([], "session.finish(stages=['ppo'])", False, "stage ppo is missing"),
        ([], "session.finish(files=['labels'])", False, "labels, which is not there"),
        ([], FINISH + "\nraise ValueError('late')", False, "ValueError: late"),
    ],
)
def test_a_bad_end_is_told_as_it_was(
    tmp_path: Path, run: Run, cells: list[str], finish: str, killed: bool, words: str
) -> None:
    outcome = execute(write_notebook(tmp_path / "05_x.ipynb", cells, finish=finish), run)
    assert outcome.status == "failed" and outcome.killed is killed
    assert words in outcome.error
    assert record_of(run, "05_x").status == "failed"
    with pytest.raises(RunError, match="05_x failed"):
        outcome.raise_if_failed()


def test_a_killed_worker_is_told_and_leaves_no_kernel(tmp_path: Path, run: Run) -> None:
    notebook = write_notebook(
        tmp_path / "05_x.ipynb",
        ["import os\nprint('kernel', os.getpid(), os.getppid(), flush=True)", "import time; time.sleep(60)"],
    )
    pids: list[int] = []

    def echo(line: str) -> None:
        if line.startswith("kernel"):
            pids.extend(map(int, line.split()[1:]))
            threading.Timer(0.2, os.kill, (pids[1], 9)).start()

    outcome = execute(notebook, run, echo=echo)
    assert outcome.status == "failed" and outcome.killed
    assert "killed by signal 9" in outcome.error
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pids[0]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not psutil.pid_exists(pids[0]) or psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE


def test_widget_state_is_stripped(tmp_path: Path, run: Run) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb", ["import ipywidgets as ipw\nipw.IntSlider()"])
    execute(notebook, run).raise_if_failed()
    assert "widgets" not in json.loads((run.path / "notebooks" / "05_x.ipynb").read_text())["metadata"]


def test_plain_papermill_refuses_what_the_notebook_does_not_declare(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb", ["print('headless', session.headless)"])

    def papermill(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(notebook), str(tmp_path / "out.ipynb")]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LABKIT")}
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    bad = papermill("-p", "bogus", "1")
    assert bad.returncode != 0 and "has no parameter 'bogus'" in bad.stderr
    assert not (tmp_path / "runs").exists()
    good = papermill("-p", "kl_coef", "0.5")
    assert good.returncode == 0, good.stderr
    manifest = record_of(Run("tiny", tmp_path / "runs"), "05_x").manifest
    assert (manifest["status"], manifest["summary"]) == ("done", {"reward": 1.0})
    assert "headless True" in (tmp_path / "out.ipynb").read_text()
