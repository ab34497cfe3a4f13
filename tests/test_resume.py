"""A run that is resumed stays one run: what decides its numbers is as it was, and what changed is told in its record."""

import json
import re

import pytest

from labkit.errors import RunError
from labkit.runs import StageFolder
from tests.test_jobs import wait
from tests.toy_job import toy_job

BEGUN_WITH = {"settings": {"batch": 64, "steps": 20, "micro_batch": 8, "dropout": 0.1}, "seed": 0, "parents": {"reward": "aaaa", "ppo_init": "cccc"}}


def toy(path, total=20, *, settings=(), parents=None, seed=0, seconds=0.0):
    job = toy_job(path, total=total, seconds=seconds)
    job.settings, job.seed = {**BEGUN_WITH["settings"], **dict(settings)}, seed
    job.parents = BEGUN_WITH["parents"] if parents is None else parents
    return job


def stopped_at(path, step, **given):
    """The folder of a toy run that a person stopped after this step."""
    job = toy(path, **given).start(paused=True)
    for n in range(1, step + 1):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    job.stop()
    job.result(block=True)
    return job.folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"seed": 7}, "the seed was 0, here it is 7"),
        ({"settings": {"batch": 8}}, "the setting batch was 64, here it is 8"),
        ({"settings": {"seed": 3}}, "the setting seed was 0, here it is 3"),
        ({"parents": {"reward": "bbbb", "ppo_init": "cccc"}}, "the content of reward was aaaa, here it is bbbb"),
        ({"parents": {"reward": "aaaa", "sft": "dddd"}}, "the content of ppo_init was cccc, here it is not given"),
    ],
    ids=["seed", "setting", "the seed among the settings", "another reward model", "another reference"],
)
def test_a_run_is_not_resumed_as_another_and_its_folder_stays_as_it_was(tmp_path, other, said):
    stopped_at(tmp_path / "ppo", 12, settings={"seed": 0})
    before = contents(tmp_path)
    job = toy(tmp_path / "ppo", **{**other, "settings": {"seed": 0, **other.get("settings", {})}})
    with pytest.raises(RunError, match=re.escape(said)):
        job.start(resume=True)
    assert contents(tmp_path) == before and not job.alive and job.state.step == 0


def test_a_resumed_run_may_be_longer_and_use_memory_otherwise_and_the_record_tells_both(tmp_path):
    folder = stopped_at(tmp_path / "ppo", 12)
    first = folder.manifest
    job = toy(tmp_path / "ppo", total=30, settings={"steps": 30, "micro_batch": 2}).start(resume=True)
    job.result(block=True)
    told = folder.manifest
    assert [s.number for s in folder.steps()] == [*range(1, 31)] and told["settings"]["steps"] == 30
    (start,) = told["resumed"]
    assert start["settings"] == first["settings"] and start["started"] == first["started"] and start["status"] == "stopped"
    assert "seed" not in start and "parents" not in start, "what was the same is told once"
    toy(tmp_path / "ppo", total=31, settings={"steps": 31}).start(resume=True).result(block=True)
    assert [row["settings"]["steps"] for row in folder.manifest["resumed"]] == [20, 30]


def test_a_record_from_before_a_parent_was_named_is_resumed_as_it_ever_was(tmp_path):
    folder = stopped_at(tmp_path / "ppo", 12, parents={"reward": "aaaa"})
    told = folder.manifest
    del told["settings"]["dropout"], told["seed"]
    (folder.path / "run.json").write_text(json.dumps(told))
    toy(tmp_path / "ppo", parents={"reward": "aaaa", "pretraining": "eeee"}).start(resume=True).result(block=True)
    assert folder.status == "done" and folder.manifest["parents"] == {"reward": "aaaa", "pretraining": "eeee"}


def test_in_the_same_kernel_a_stopped_job_goes_on_whatever_lies_on_the_disk_by_now(tmp_path):
    job = toy(tmp_path / "ppo", seconds=0.01).start()
    wait(lambda: len(job.steps) >= 3)
    job.stop()
    job.result(block=True)
    job.start(resume=True).result(block=True)
    assert [s.number for s in job.folder.steps()] == [*range(1, 21)]


def test_a_controller_that_held_beta_from_the_start_holds_it_in_the_resumed_run_too(tmp_path):
    job = toy(tmp_path / "ppo")
    job.dial.auto = True
    job.start(paused=True).step()
    wait(lambda: len(job.steps) == 1 and job.status == "paused")
    job.stop()
    job.result(block=True)
    again = toy(tmp_path / "ppo").start(resume=True, paused=True)
    assert again.dial.auto
    again.stop()
    again.result(block=True)


def test_a_resumed_branch_still_names_its_trunk(tmp_path):
    job = toy(tmp_path / "ppo", seconds=0.01).start(paused=True)
    for n in range(1, 7):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    job.branch("early", step=5).result(10)
    job.stop()
    job.result(block=True)
    toy(tmp_path / "ppo@early").start(resume=True).result(block=True)
    assert StageFolder(tmp_path / "ppo@early").manifest["parents"]["branch_of"] == "ppo"


def test_what_is_asked_for_and_finds_no_further_step_is_refused_in_the_ledger(tmp_path):
    job = toy(tmp_path / "ppo").start(paused=True)
    job.step()
    wait(lambda: len(job.steps) == 1 and job.status == "paused")
    job.dial.turn(kl_coef=0.5, why="KL ran away")
    job.dial.release()
    job.stop()
    job.result(block=True)
    rows = [(r["knob"], r["asked"], r["step"], r["outcome"], r["reason"], r["why"]) for r in job.folder.ledger()]
    ended = "the job ended before its next step"
    assert rows == [("kl_coef", 0.5, 1, "refused", ended, "KL ran away"), ("auto", 1.0, 1, "refused", ended, "")]
    assert not job.dial.pending and job.dial.ledger == job.folder.ledger()
    again = toy(tmp_path / "ppo").start(resume=True)
    again.result(block=True)
    assert {s.knobs["kl_coef"] for s in again.steps} == {again.steps[0].knobs["kl_coef"]} and not again.dial.auto
    assert len(again.folder.ledger()) == 2, "nothing had to be superseded"


def test_a_resume_says_which_steps_are_done_again_and_which_turns_hold_no_more(tmp_path, capsys):
    job = toy(tmp_path / "ppo").start(paused=True)
    for n in range(1, 10):
        if n == 8:
            job.dial.turn(kl_coef=0.5, why="KL ran away")
            job.dial.turn(kl_coef=1e9)  # refused
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    job.snapshot_every = 0  # as if it had been killed here
    job.stop()
    job.result(block=True)
    capsys.readouterr()
    again = toy(tmp_path / "ppo").start(resume=True)
    again.result(block=True)
    said = capsys.readouterr().out
    assert "ppo goes on from the snapshot of step 5; what came after it, up to step 9, is done again" in said
    assert said.count("kl_coef = ") == 1 and "kl_coef = 0.5 at step 8" in said
    again.start(resume=True).result(block=True)
    assert not capsys.readouterr().out, "from the last step there is nothing to do again"


def test_knobs_that_a_resumed_run_does_not_take_are_named(tmp_path, capsys):
    stopped_at(tmp_path / "ppo", 10)
    job = toy(tmp_path / "ppo", seconds=0.01)
    job.dial.knobs = job.dial.knobs.turned(kl_coef=0.07)
    job.start(resume=True)
    wait(lambda: len(job.steps) >= 12)
    assert "goes on with the knobs of its record, not with kl_coef = 0.07;" in capsys.readouterr().out
    job.dial.turn(kl_coef=0.09)
    wait(lambda: len(job.steps) >= 14)
    job.stop()
    job.result(block=True)
    job.start(resume=True).result(block=True)
    assert "not with" not in capsys.readouterr().out and job.steps[-1].knobs["kl_coef"] == 0.09, "it was turned, and stands"


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_whoever_begins_a_broken_off_run_anew_is_told_where_it_lies_and_how_to_go_on(tmp_path, capsys, status):
    folder = stopped_at(tmp_path / "ppo", 12)
    folder.finish(status)
    toy(tmp_path / "ppo").start().result(block=True)
    said = capsys.readouterr().err
    if status == "stopped":  # by a person, whose model is there
        assert not said
        return
    (aside,) = tmp_path.glob("*.old")
    assert f"a snapshot of step 12 of 20, lies in {aside}; to go on" in said
    folder.path.rename(tmp_path / "elsewhere")
    aside.rename(folder.path)  # as the line says
    toy(tmp_path / "ppo").start(resume=True).result(block=True)
    assert [s.number for s in folder.steps()] == [*range(1, 21)]
