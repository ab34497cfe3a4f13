"""Runs that were stopped, branched, steered and rolled back by hand: they can be used, and replay number for number."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labkit.batch.parents import bring
from labkit.batch.records import is_whole
from labkit.errors import RunError
from labkit.experiment import Experiment, replay_job
from labkit.models import encode_prompt, encode_response, load_policy, load_reward_model, score
from labkit.runs import Run, StageFolder
from tests.experiment.stepped import metrics, metrics_of, stepped

pytestmark = pytest.mark.slow


def test_the_same_seed_gives_the_same_run(lab, tmp_path):
    copy = Run("copy", tmp_path)
    for part in ("prompts", "demonstrations", "rankings", "ppo_init", "reward"):
        shutil.copytree(lab.run.path / part, copy.path / part)
    again = Experiment(copy, scale="smoke")
    again.ppo_job().start().result(block=True)
    assert metrics(again, "ppo_ptx") == metrics(lab, "ppo_ptx")


def test_a_run_replays_from_its_folder(lab, tmp_path):
    job, _ = replay_job(lab, lab.run.path / "ppo_ptx", name="replayed")
    job.start().result(block=True)
    assert metrics(lab, "replayed") == metrics(lab, "ppo_ptx")


def test_a_run_that_was_stopped_or_branched_by_hand_can_be_used_and_replayed(lab):
    job = stepped(lab.ppo_job(name="steered", steps=4), 2)
    trunk, branch = job.folder, job.branch("gentle").result(60)
    job.dial.turn(kl_coef=0.5, why="gentler")
    stepped_on = len(job.steps) + 1
    job.step()
    while len(job.steps) < stepped_on:
        time.sleep(0.01)
    job.stop()
    job.result(block=True)
    assert [f.status for f in (trunk, branch)] == ["stopped", "stopped"] and is_whole(trunk) and is_whole(branch)
    there, here = (load_policy(f.model).state_dict() for f in (trunk, branch))
    assert any(not there[name].equal(here[name]) for name in there), "each folder holds the weights of its own end"
    for source in ("steered", "steered@gentle"):
        again, knobs = replay_job(lab, lab.run.path / source, name="again")
        again.start().result(block=True)
        assert metrics(lab, "again") == metrics(lab, source) and knobs["kl_coef"] == lab.preset.ppo_knobs.kl_coef


def papermill(notebook: Path, folder: Path, run: Run, **parameters: object) -> str:
    """Execute a notebook as a person would on the command line; returns the executed copy's JSON."""
    given = {"run": run.name, "scale": "smoke", **parameters}
    words = [word for name, value in given.items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(notebook), str(folder / "out.ipynb"), *words]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LABKIT")}
    environment = kept | {"LABKIT_RUNS": str(run.path.parent), "PYTHONPATH": str(notebook.parents[1])}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return (folder / "out.ipynb").read_text(encoding="utf-8")


@pytest.mark.kernel
def test_a_steered_run_replays_headless_in_its_notebook_number_for_number(lab, repository, tmp_path):
    job = lab.ppo_job(name="by-hand", steps=4, kl_coef=0.3)
    job.dial.turn(ptx_coef=2.0, why="from the start")
    stepped(job, 1)
    for turn, upto in (({"kl_coef": 0.6}, 2), ({"kl_coef": 5.0}, 3)):
        job.dial.turn(**turn, why="by hand")
        job.step()
        while len(job.steps) < upto or job.status != "paused":
            time.sleep(0.01)
    job.rollback(2).result(60)
    job.dial.release(why="let it")
    job.dial.turn(policy_lr=3e-4, why="slower")
    job.resume()
    job.result(block=True)
    again = Run("again", lab.run.path.parent)
    for part in ("prompts", "demonstrations", "rankings", "sft", "ppo_init", "reward"):
        bring(lab.run.path / part, again.path / part)
    executed = papermill(repository / "notebooks" / "05_ppo_ptx.ipynb", tmp_path, again, replay=lab.run.path / "by-hand")
    for row in ("kl_coef.{,90}0.3.{,90}your choice", "steps.{,90}500.{,90}4.{,90}your choice"):  # of the record, not the parameters'
        assert re.search(row, executed), row
    assert metrics(Experiment(again, scale="smoke"), "ppo_ptx") == metrics(lab, "by-hand")
    assert [s.knobs for s in again.stage("ppo_ptx").steps()] == [s.knobs for s in job.steps]


@pytest.mark.kernel
def test_without_pretraining_gradients_the_notebook_trains_plain_ppo_and_calls_it_so(lab, repository, tmp_path):
    run = Run("plain", tmp_path / "runs")
    for part in ("prompts", "demonstrations", "rankings", "sft", "ppo_init", "reward"):
        bring(lab.run.path / part, run.path / part)
    papermill(repository / "notebooks" / "05_ppo_ptx.ipynb", tmp_path, run, ptx_coef=0.0)
    assert run.stage("ppo_ptx").status == "missing" and run.stage("ppo").status == "done"
    assert {s.knobs["ptx_coef"] for s in run.stage("ppo").steps()} == {0.0}
    assert StageFolder(run.path / "notebooks" / "05_ppo_ptx").manifest["stages"] == ["ppo"]
    again, knobs = replay_job(Experiment(run, scale="smoke"), run.path / "ppo")
    assert again.folder.path == run.path / "ppo" and knobs["ptx_coef"] == 0.0, "so is its replay"


def test_a_replay_on_something_else_is_refused_with_what_differs(lab, tmp_path):
    def recorded_with(**changes):
        path = tmp_path / "other" / "ppo_ptx"
        shutil.copytree(lab.run.path / "ppo_ptx", path, dirs_exist_ok=True)
        manifest = json.loads((lab.run.path / "ppo_ptx" / "run.json").read_text())
        (path / "run.json").write_text(json.dumps({**manifest, **changes}))
        return path

    settings, parents = (lab.run.stage("ppo_ptx").manifest[k] for k in ("settings", "parents"))
    with pytest.raises(RunError, match="the seed was 7, here it is 0"):
        replay_job(lab, recorded_with(seed=7))
    with pytest.raises(RunError, match="the setting old_name was 32, here it is None"):
        replay_job(lab, recorded_with(settings={**settings, "old_name": 32}))
    with pytest.raises(RunError, match="the content of reward was abc"):
        replay_job(lab, recorded_with(parents={**parents, "reward": "abc"}))
    before = {name: parents[name] for name in ("prompts", "ppo_init", "reward")}  # as runs of earlier versions have it
    assert replay_job(lab, recorded_with(parents=before), name="replay-of-an-older-one")[0].total == 2


def test_a_reward_model_that_was_stopped_is_centred_too(lab):
    job = stepped(lab.reward_job(name="early"), 1)
    job.stop()
    state = job.result(block=True)
    assert job.folder.status == "stopped" and state.shift is not None and is_whole(job.folder)


def test_a_reward_model_that_was_branched_and_stopped_is_centred_on_its_own_last_weights(lab, monkeypatch):
    """A branch centres the trunk on the way, and then trains on."""
    monkeypatch.setenv("LABKIT_HEADLESS", "0")  # a person is there
    job = stepped(lab.reward_job(name="forked", lr=3e-2), 1)
    job.branch("on").result(60)
    for n in (2, 3):
        job.step()
        while len(job.steps) < n or job.status != "paused":
            time.sleep(0.01)
    job.stop()
    state = job.result(block=True)
    assert state.centred_at == 3
    written = lab.demonstrations("train")
    model = load_reward_model(job.folder.model, device="cpu")
    prompts = [encode_prompt(lab.tokenizer, d.prompt.text) for d in written]
    scores = score(model, prompts, [encode_response(lab.tokenizer, d.text) for d in written])
    assert abs(float(scores.mean())) < 1e-4


def test_the_cockpit_steers_a_real_reward_job_and_goes_back(lab, monkeypatch):
    from widgets import Cockpit

    monkeypatch.setenv("LABKIT_HEADLESS", "0")  # a person is there: snapshots are taken
    job = lab.reward_job(name="watched")
    board = Cockpit(job)
    assert [k["name"] for k in board.spec["knobs"]] == ["lr_scale"] and board.spec["snapshots"]
    stepped(job, 2)
    board._hear(board, {"kind": "turn", "changes": {"lr_scale": 0.5}, "why": "slower"})
    board._hear(board, {"kind": "do", "what": "step"})
    while len(job.steps) < 3 or job.status != "paused":
        time.sleep(0.01)
    board.refresh()
    assert job.steps[2].metrics["lr"] == pytest.approx(job.steps[2].knobs["lr_scale"] * lr_of(job, 3))
    assert board.state["marks"][0]["step"] == 3 and "slower" in board.state["marks"][0]["text"]
    assert board.state["snapshots"] == [1, 2, 3]
    first = metrics_of(job.steps)
    board._hear(board, {"kind": "rollback", "step": 2})
    while "Rolled back to step 2" not in board._notice.get("text", ""):
        time.sleep(0.01)
    assert job.dial.knobs.lr_scale == 1.0 and len(job.steps) == 2
    job.dial.turn(lr_scale=0.5)
    job.resume()
    job.result(block=True)
    assert metrics_of(job.steps)[:3] == first
    figure, tables = board.static()
    assert "image/png" in figure and "rollback" in tables["text/plain"] and "loss" in tables["text/plain"]
    board.close()


def lr_of(job, number: int) -> float:
    """The scheduled learning rate of a step, before any knob."""
    from labkit.stepwise.trainer import cosine

    return job.settings["lr"] * cosine((number - 1) / job.total, job.settings["lr_floor"])
