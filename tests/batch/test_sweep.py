"""Sweeps on tiny notebooks: the grid, resuming, crashes, Ray."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.batch import compare, engines
from labkit.batch.engines import gpus
from labkit.batch.notebooks import Outcome
from labkit.batch.records import record_of
from labkit.batch.sweep import grid, sweep
from labkit.errors import RunError, SettingsError
from labkit.runs import Run
from tests.batch.tiny import write_notebook

CRASH_ONCE = """\
import os, signal
mark = session.run.path / "mark"
if seed == 1 and not mark.exists():
    mark.touch()
    os.kill({victim}, signal.SIGKILL)
if seed == 2:
    raise ValueError("seed 2 never works")
threads = os.environ["OMP_NUM_THREADS"]
"""
SLOW_UNLESS_QUICK = """\
import os, time
print("kernel", os.getpid(), flush=True)
time.sleep(0 if (session.run.path / "quick").exists() else 90)
"""
NUMBERS = "session.finish(summary={'reward': kl_coef + seed, 'threads': int(threads)})"


def statuses(home: Path) -> dict[str, str]:
    return {p.name: record_of(Run(p.name, home), "05_x").status for p in home.iterdir() if (p / "notebooks").is_dir()}


def test_grid_is_every_combination_named_by_its_values(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb")
    points = grid(notebook, {"seed": "0,1", "kl_coef": "0.01, 0.02", "scale": "full"})
    assert len(points) == 4 and points[0].name == "seed=0,kl_coef=0.01,scale=full"
    same = grid(notebook, {"scale": "full", "kl_coef": "0.010,0.02", "seed": "0,1"})
    assert {p.name for p in same} == {p.name for p in points}
    assert all(p.parameters["pairs"] == 200 for p in points)


def test_zero_and_minus_zero_are_one_point(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb")
    assert [p.name for p in grid(notebook, {"kl_coef": "0,-0,0.0"})] == ["kl_coef=0.0"]


@pytest.mark.parametrize("given", [{"bogus": "1"}, {"kl_coef": "0.1,11"}, {"kl_coef": "0.1,"}, {"run": "a,b"}])
def test_a_bad_value_anywhere_in_the_grid_stops_before_anything_runs(tmp_path: Path, given: dict[str, str]) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb")
    with pytest.raises(SettingsError):
        sweep(notebook, given, name="s", root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_long_and_odd_texts_become_safe_names(tmp_path: Path) -> None:
    cell = 'run = "x"  # name of the run\nmodel = "a"  # where the model lies'
    notebook = write_notebook(tmp_path / "05_x.ipynb", parameters=cell)
    names = [p.name for p in grid(notebook, {"model": "../up/a,../up-a," + "b" * 300})]
    assert len(set(names)) == 3
    for name in names:
        Run(name)  # raises on an unsafe name


def test_visible_gpus_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert gpus() == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []


def test_a_sweep_never_clobbers(tmp_path: Path) -> None:
    notebook, other = write_notebook(tmp_path / "05_x.ipynb"), write_notebook(tmp_path / "06_y.ipynb")
    Run("mine", tmp_path).stage("ppo").begin(settings={})
    with pytest.raises(RunError, match="is no sweep"):
        sweep(notebook, {"seed": "0"}, name="mine", root=tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text(json.dumps({"notebook": "05_x", "base": None}))
    with pytest.raises(RunError, match="is a sweep over 05_x"):
        sweep(other, {"seed": "0"}, name="s", root=tmp_path)


@pytest.mark.kernel
@pytest.mark.parametrize("victim", ["os.getpid()", "os.getppid()"], ids=["kernel", "worker"])
def test_a_killed_point_runs_once_more_a_raising_one_does_not_and_the_rest_goes_on(tmp_path: Path, victim: str) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb", [CRASH_ONCE.format(victim=victim)], finish=NUMBERS)
    said: list[str] = []
    outcomes = sweep(notebook, {"seed": "0,1,2"}, name="s", root=tmp_path / "runs", jobs=2, say=said.append)
    assert {n: o.status for n, o in outcomes.items()} == {"seed=0": "done", "seed=1": "done", "seed=2": "failed"}
    assert "seed 2 never works" in outcomes["seed=2"].error
    home = tmp_path / "runs" / "s"
    first = next((home / "seed=1" / "notebooks").glob("05_x.*.old"))
    assert json.loads((first / "run.json").read_text())["killed"] is True
    assert not list((home / "seed=2" / "notebooks").glob("*.old"))

    again = sweep(notebook, {"seed": "0,1,2"}, name="s", root=tmp_path / "runs", jobs=2, say=said.append)
    assert list(again) == ["seed=2"], "what is done is not run again"
    assert "2 done, 1 to run" in "".join(said)
    assert len(compare.groups(compare.results(home, notebook))[0].numbers["reward"]) == 2
    write_notebook(notebook, ["pass"], finish=NUMBERS)
    assert [row["outdated"] for row in compare.results(home, notebook)] == ["its code changed", "its code changed", ""]


@pytest.mark.kernel
def test_a_killed_sweep_takes_its_kernels_along_and_resumes(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb", [SLOW_UNLESS_QUICK])
    command = [sys.executable, "-m", "labkit.cli", "sweep", str(notebook), "-p", "seed=0,1", "--name", "s"]
    process = subprocess.Popen([*command, "--root", str(tmp_path)], stdout=subprocess.DEVNULL)
    logs = [tmp_path / "s" / f"seed={i}" / "notebooks" / "05_x" / "log.txt" for i in (0, 1)]
    _wait(lambda: all(log.exists() and "kernel" in log.read_text() for log in logs))
    kernels = [int(re.search(r"kernel (\d+)", log.read_text())[1]) for log in logs]
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait(lambda: not any(_runs(pid) for pid in kernels))
    assert set(statuses(tmp_path / "s").values()) == {"dead"}
    for name in ("seed=0", "seed=1"):
        (tmp_path / "s" / name / "quick").touch()
    outcomes = sweep(notebook, {"seed": "0,1"}, name="s", root=tmp_path, say=lambda s: None)
    assert [o.status for o in outcomes.values()] == ["done", "done"]


@pytest.mark.kernel
@pytest.mark.parametrize("whole_group", [False, True], ids=["the command", "its whole terminal"])
def test_ctrl_c_ends_a_sweep_with_a_sentence_and_points_that_were_stopped(tmp_path: Path, whole_group: bool) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb", [SLOW_UNLESS_QUICK])
    command = [sys.executable, "-m", "labkit.cli", "sweep", str(notebook), "-p", "seed=0,1", "--name", "s"]
    process = subprocess.Popen(
        [*command, "--root", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    logs = [tmp_path / "s" / f"seed={i}" / "notebooks" / "05_x" / "log.txt" for i in (0, 1)]
    _wait(lambda: all(log.exists() and "kernel" in log.read_text() for log in logs))
    kernels = [int(re.search(r"kernel (\d+)", log.read_text())[1]) for log in logs]
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)  # `timeout -s INT` says it twice
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and said.strip() == "Stopped; the same command goes on."
    _wait(lambda: not any(_runs(pid) for pid in kernels))
    records = [record_of(Run(f"seed={i}", tmp_path / "s"), "05_x") for i in (0, 1)]
    assert [r.status for r in records] == ["stopped", "stopped"]
    assert all("was stopped by hand" in r.manifest["error"] and not r.manifest["killed"] for r in records)


def test_a_point_that_was_killed_runs_once_more_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [Outcome("05_x", "failed", 1.0, "killed", killed=True), Outcome("05_x", "done", 1.0)]
    monkeypatch.setattr(engines, "execute", lambda *_, **__: ends.pop(0))
    said: list[str] = []
    assert engines.local_engine([(tmp_path, Run("seed=0", tmp_path), {})], 1, said.append)["seed=0"].status == "done"
    assert said[0] == "seed=0 was killed; once more."


@pytest.mark.slow
@pytest.mark.kernel
def test_ray_runs_the_same_sweep_and_survives_a_killed_worker(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'labkit[cluster]'")
    victim = "__import__('psutil').Process(os.getppid()).ppid()"  # kernel -> worker -> Ray's own process
    notebook = write_notebook(tmp_path / "05_x.ipynb", [CRASH_ONCE.format(victim=victim)], finish=NUMBERS)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        outcomes = sweep(notebook, {"seed": "0,1,2"}, name="s", root=tmp_path / "runs", ray=True, say=lambda s: None)
    finally:
        ray.shutdown()
    assert {n: o.status for n, o in outcomes.items()} == {"seed=0": "done", "seed=1": "done", "seed=2": "failed"}
    assert "seed 2 never works" in outcomes["seed=2"].error


def _wait(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.2)


def _runs(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
