"""A job after something went wrong: stopped, failed, half rolled back, killed; what it says, and from where it goes on."""

import subprocess
import sys
import threading

import pytest

from labkit.errors import RunError
from labkit.jobs.waiting import StillRunning
from labkit.ppo import loop
from tests.test_jobs import SETTINGS, build, go, numbers, wait  # noqa: F401  (build is a fixture)
from tests.toy import even_share, toy_prompts


def test_a_job_that_was_stopped_goes_on_and_one_that_has_ended_does_not_begin_anew(build):  # noqa: F811
    job = build().start(paused=True)
    go(job, 4)
    job.stop()
    job.result()
    with pytest.raises(RunError, match="has ended, and its model is trained; build a new job"):
        job.start()
    job.start(resume=True).result()
    assert job.status == "done" and [s.number for s in job.steps] == list(range(1, SETTINGS.steps + 1))


def test_an_error_that_was_mended_is_not_told_again(build):  # noqa: F811
    broken = [True]

    def make(schedule):
        for step in loop(job.state, toy_prompts(30), even_share, schedule, SETTINGS):
            if broken[0] and step.number == 5:
                raise ValueError("the reward is broken")
            yield step

    job = build(make=make)
    job.start()
    with pytest.raises(ValueError, match="broken"):
        job.result()
    broken[0] = False
    assert job.start(resume=True).result() is job.state and job.error is None and job.status == "done"


@pytest.mark.parametrize("fails", ["append_ledger", "ledger"])
def test_a_rollback_that_fails_half_way_ends_the_job_and_can_be_asked_for_again(build, monkeypatch, fails):  # noqa: F811
    """Whatever failed, no step is made of one step's weights under another one's number."""

    def full(*_, **__):
        raise RunError("No space left")

    job = build().start(paused=True)
    go(job, 5)
    with monkeypatch.context() as patch:
        patch.setattr(job.folder, fails, full)
        waiting = job.rollback(2), job.snapshot()
        for future in waiting:
            with pytest.raises(RunError):
                future.result(20)
    job.wait()
    assert job.status == job.folder.status == "failed" and "No space left" in job.error
    assert job.rollback(2).result(20) == 2 and [s.number for s in job.folder.steps()] == [1, 2]
    go(job, 4)
    job.stop()
    job.result()
    whole = build("whole").start(paused=True)
    go(whole, 4)
    assert numbers(job.steps) == numbers(whole.steps)
    whole.stop()
    whole.result()


def test_what_is_asked_of_a_job_that_is_just_ending_is_answered(build):  # noqa: F811
    """A slow listener keeps the thread alive after the last boundary: nobody would come back for the question."""
    job = build().start(paused=True)
    answers = []

    def ask_at_the_end(step):
        if job.status in ("stopped", "done"):
            answers.append(job.ask(lambda: "too late"))

    job.listen(ask_at_the_end)
    job.stop()
    go(job, 0)
    job.wait()
    for future in answers:
        with pytest.raises(RunError, match="not running|has ended"):
            future.result(1)


def test_while_the_model_is_written_nobody_is_told_that_training_goes_on(build):  # noqa: F811
    writing, free = threading.Event(), threading.Event()
    job = build()
    job.finish = lambda folder: writing.set() or free.wait(20)
    job.start()
    assert writing.wait(60)
    with pytest.raises(StillRunning, match="the model is being written"):
        job.result(block=False)
    free.set()
    job.wait()
    assert job.result(block=False) is True


def test_a_rollback_that_is_killed_is_resumed_from_where_it_was_going(build, monkeypatch):  # noqa: F811
    """The snapshots of what is superseded are out of the way before the ledger says so."""
    job = build().start(paused=True)
    go(job, 5)
    seen, append = [], job.folder.append_ledger
    monkeypatch.setattr(job.folder, "append_ledger", lambda row: (seen.append(job.folder.snapshots()), append(row)))
    job.rollback(2).result(20)
    assert seen == [[2]]
    job.stop()
    job.result()


def test_half_a_line_of_a_killed_writer_does_not_spoil_the_record_of_the_resumed_run(build):  # noqa: F811
    job = build().start(paused=True)
    go(job, 4)
    job.stop()
    job.result()
    with open(job.folder.path / "metrics.jsonl", "a") as out:
        out.write('{"stage": "ppo", "num')
    build().start(resume=True).result()
    assert [s.number for s in job.folder.steps()] == list(range(1, SETTINGS.steps + 1))


def test_a_last_snapshot_that_finds_no_room_takes_nothing_from_a_saved_model(build, monkeypatch, capsys):  # noqa: F811
    def finish(to):
        to.model.mkdir()
        monkeypatch.setattr(job.state, "save", full)
        return "the model"

    def full(folder):
        raise RunError(f"The snapshot {folder} could not be written: No space left on device.")

    job = build(finish=finish).start(paused=True)
    go(job, 3)
    job.stop()
    assert job.result() == "the model" and job.status == "stopped" and job.error is None
    assert job.folder.has_model and job.folder.snapshots() == [2]
    assert "000003 could not be written" in job.folder.manifest["snapshot_error"] and "snapshot of its last step" in capsys.readouterr().out


@pytest.mark.parametrize(("steps", "expected"), [(4, [2, 4]), (5, [2, 4, 5])])
def test_no_snapshot_is_written_twice(build, monkeypatch, steps, expected):  # noqa: F811
    job = build()
    save, written = job.state.save, []
    monkeypatch.setattr(job.state, "save", lambda folder: (written.append(int(folder.name)), save(folder)))
    job.start(paused=True)
    go(job, steps)
    job.stop()
    job.result()
    assert written == job.folder.snapshots() == expected


def test_a_run_that_went_back_and_made_the_same_number_of_steps_again_has_its_own_last_snapshot(build):  # noqa: F811
    job = build().start(paused=True)
    go(job, 4)
    job.rollback(2).result(20)
    job.dial.turn(kl_coef=0.7)
    job.snapshot_every = 3  # none is due at 4
    go(job, 4)
    job.stop()
    job.result()
    assert job.folder.snapshots()[-1] == 4
    again = build().start(resume=True, paused=True)
    assert again.steps[-1].knobs["kl_coef"] == again.state.knobs["kl_coef"] == 0.7
    again.stop()
    again.result()


@pytest.mark.parametrize("newer_line", [True, False])
def test_a_run_whose_newest_snapshots_are_damaged_goes_on_from_the_newest_whole_one(build, capsys, newer_line):  # noqa: F811
    job = build().start(paused=True)
    go(job, 6)
    job.snapshot_every = 0  # as if it had been killed here
    job.stop()
    job.result()
    (job.folder.snapshot(6) / "policy.safetensors").write_bytes(b"torn")
    (job.folder.snapshot(4) / "ema.safetensors").unlink()
    if not newer_line:  # lost with the snapshot
        lines = (job.folder.path / "metrics.jsonl").read_text().splitlines(keepends=True)
        (job.folder.path / "metrics.jsonl").write_text("".join(lines[:2]))
    again = build().start(resume=True)
    again.result()
    said = capsys.readouterr().out
    assert "ppo: the snapshot of step 6 is passed over" in said and "the snapshot of step 4 is passed over" in said
    whole = build("whole").start()
    whole.result()
    assert numbers(again.folder.steps()) == numbers(whole.steps)
    assert again.folder.ledger()[0]["by"] == "resume" and again.folder.ledger()[0]["new"] == 2


def test_a_run_without_a_whole_snapshot_says_so_and_one_of_another_model_is_not_passed_over(build, monkeypatch):  # noqa: F811
    job = build().start(paused=True)
    go(job, 4)
    job.stop()
    job.result()

    def foreign(folder):
        raise RunError(f"The snapshot {folder} belongs to another model.")

    again = build()
    with monkeypatch.context() as patch:
        patch.setattr(again.state, "load", foreign)
        with pytest.raises(RunError, match="000004 belongs to another model"):
            again.start(resume=True)
    for number in job.folder.snapshots():
        (job.folder.snapshot(number) / "state.json").write_text("")
    with pytest.raises(RunError, match="has no whole snapshot to resume from; start it without resume"):
        again.start(resume=True)
    assert again.folder.status == "stopped"


def test_a_resume_clears_what_the_killed_process_left(build):  # noqa: F811
    job = build().start(paused=True)
    go(job, 3)
    job.stop()
    job.result()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = [job.folder.path / "state" / f".000004.{gone.pid}.tmp", job.folder.path / f".model.{gone.pid}.tmp"]
    for path in left:
        path.mkdir()
    again = build().start(resume=True, paused=True)
    assert not any(path.exists() for path in left)
    again.stop()
    again.result()


def test_a_snapshot_on_the_way_that_finds_no_room_pauses_a_job_by_hand_and_ends_a_headless_one(build, monkeypatch):  # noqa: F811
    def full(folder):
        raise RunError(f"The snapshot {folder} could not be written: No space left on device. Free some space.")

    job = build().start(paused=True)
    monkeypatch.setenv("LABKIT_HEADLESS", "0")
    with monkeypatch.context() as patch:
        patch.setattr(job.state, "save", full)
        go(job, 1)
        job.resume()
        wait(lambda: len(job.steps) == 2 and job.status == "paused")
    assert [s.number for s in job.steps] == [1, 2] and "000002 could not be written" in job.error and job.alive
    job.resume()
    job.result(block=True)
    assert job.status == "done" and job.error is None and job.folder.snapshots() == [4, 6, 8]
    whole = build("whole").start()
    assert numbers(job.steps) == numbers(whole.result(block=True) and whole.steps)
    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    headless = build("headless")
    monkeypatch.setattr(headless.state, "save", full)
    with pytest.raises(RunError, match="No space left"):
        headless.start().result()
    assert headless.folder.status == "failed"
