"""A job is its loop: pausing, stepping, rolling back and branching change when things happen, never what happens."""

import threading
import time

import pytest

from labkit.disk import read_jsonl
from labkit.errors import InvariantError, RunError
from labkit.jobs import Job, StillRunning
from labkit.knobs import Dial, PPOKnobs, replay
from labkit.ppo import PPOSettings, loop
from labkit.runs import Run
from tests.toy import even_share, save_toy, toy_prompts, toy_state
from tests.toy_job import toy_job

SETTINGS = PPOSettings(steps=8, batch=16, minibatch=8, max_new_tokens=8, warmup=2, ptx_row=32)
KNOBS = PPOKnobs(policy_lr=3e-3, value_lr=3e-3, kl_coef=0.05)


@pytest.fixture
def build(tmp_path):
    init = save_toy(tmp_path / "init", spread=0.05)

    def build(name="ppo", schedule=None, **options):
        state = toy_state(init, SETTINGS)
        make = options.pop("make", lambda schedule: loop(state, toy_prompts(30), even_share, schedule, SETTINGS))
        folder = Run("r", tmp_path / "runs").stage(name)
        return Job(make, folder=folder, schedule=schedule or Dial(KNOBS), total=SETTINGS.steps, settings=SETTINGS.to_json(),
                   state=state, finish=options.pop("finish", lambda to: state), snapshot_every=2, keep_snapshots=10, **options)  # fmt: skip

    return build


def numbers(steps):
    return [{k: v for k, v in s.metrics.items() if not k.startswith("time_")} for s in steps]


def go(job, upto):
    """Single steps until the job stands, paused, after step `upto`."""
    for n in range(len(job.steps) + 1, upto + 1):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")


def wait(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_job_gives_the_numbers_of_its_bare_loop_and_leaves_them_on_disk(build, tmp_path):
    job = build().start()
    state = job.result()
    bare = toy_state(tmp_path / "init", SETTINGS)
    expected = list(loop(bare, toy_prompts(30), even_share, Dial(KNOBS), SETTINGS))
    assert numbers(job.steps) == numbers(expected) == numbers(job.folder.steps())
    assert state.step == 8 and job.status == "done" and job.folder.status == "done"


def test_pause_step_resume_and_stop(build):
    job = build().start(paused=True)
    wait(lambda: job.status == "paused")
    assert not job.steps
    for n in (1, 2):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    job.resume()
    wait(lambda: len(job.steps) >= 4)
    job.stop()
    assert job.result().step == len(job.steps)
    assert job.folder.status == "stopped" or len(job.steps) == 8


def test_a_turned_knob_is_in_the_ledger_and_in_the_next_steps_record(build):
    job = build().start(paused=True)
    job.step()
    wait(lambda: len(job.steps) == 1)
    job.dial.turn(kl_coef=0.7, why="test")
    job.resume()
    job.result()
    assert [s.knobs["kl_coef"] for s in job.folder.steps()] == [0.05] + [0.7] * 7
    (row,) = job.folder.ledger()
    assert row["step"] == 2 and row["why"] == "test" and row["outcome"] == "applied"


def test_a_live_run_replays_headless_number_for_number(build):
    job = build().start(paused=True)
    for n, turn in enumerate([{}, {"kl_coef": 0.7}, {"clip": 0.05, "temperature": 1.2}], 1):
        job.dial.turn(**turn)
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    wait(lambda: 2 in job.folder.snapshots())
    job.rollback(2).result(20)
    job.dial.turn(policy_lr=1e-3)
    job.resume()
    job.result()
    again = build("again", schedule=replay(job.folder.ledger(), KNOBS)).start()
    again.result()
    assert numbers(again.folder.steps()) == numbers(job.folder.steps())
    knobs = PPOKnobs(**again.folder.manifest["settings"]["knobs"])  # a replayed run says all that its own replay needs
    once_more = build("once-more", schedule=replay(again.folder.ledger(), knobs)).start()
    once_more.result()
    assert numbers(once_more.folder.steps()) == numbers(job.folder.steps())


def test_after_a_rollback_without_new_orders_the_run_repeats_itself(build):
    job = build().start(paused=True)
    for n in range(1, 6):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    first = numbers(job.steps)
    assert job.rollback(2).result(20) == 2
    assert [s.number for s in job.steps] == [1, 2]
    assert [row["number"] for row in read_jsonl(job.folder.path / "superseded.jsonl")] == [3, 4, 5], "nothing is lost"
    for n in range(3, 6):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    assert numbers(job.steps) == first == numbers(job.folder.steps())
    job.stop()
    job.result()


def test_a_branch_shares_the_past_and_leaves_the_trunk_alone(build):
    job = build().start(paused=True)
    for n in (1, 2, 3):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    trunk = job.folder
    branch = job.branch("hot").result(20)
    job.resume()
    job.result()
    assert branch.path.name == "ppo@hot" and len(branch.steps()) == 8
    assert len(trunk.steps()) == 3 and trunk.status == "stopped"
    assert numbers(branch.steps()[:3]) == numbers(trunk.steps())


def test_a_branch_gets_its_own_result_and_the_trunk_that_of_the_fork(build):
    def leave(to):
        to.model.mkdir(parents=True)
        (to.model / "step").write_text(str(job.state.step))
        return to.path.name

    job = build(finish=leave).start(paused=True)
    go(job, 3)
    trunk, branch = job.folder, job.branch("hot").result(20)
    job.resume()
    assert job.result() == "ppo@hot"
    assert (branch.model / "step").read_text() == "8" and (trunk.model / "step").read_text() == "3"


def test_what_a_rollback_superseded_is_offered_no_more_and_is_not_resumed_from(build):
    job = build().start(paused=True)
    go(job, 5)
    job.snapshot().result(20)
    job.rollback(2).result(20)
    assert job.folder.snapshots() == [2]
    kept = [p.name for p in (job.folder.path / "state").iterdir() if p.name.startswith("superseded")]
    assert len(kept) == 1 and "000005" in kept[0], "what somebody asked to keep for good is moved aside"
    assert [s.number for s in job.folder.steps()] == [1, 2]
    job.stop()
    job.result()
    again = build().start(resume=True, paused=True)
    assert len(again.steps) == 2
    again.stop()
    again.result()


def test_a_rollback_under_the_controller_repeats_the_run(build):
    job = build().start(paused=True)
    go(job, 1)
    job.dial.release()
    go(job, 5)
    job.dial.hold()
    go(job, 6)
    first, beta = numbers(job.steps), [s.knobs["kl_coef"] for s in job.steps]
    assert job.rollback(4).result(20) == 4 and job.dial.auto
    go(job, 5)
    assert numbers(job.steps) == first[:5] and [s.knobs["kl_coef"] for s in job.steps] == beta[:5]
    job.stop()
    job.result()
    again = build("again", schedule=replay(job.folder.ledger(), KNOBS)).start(paused=True)
    go(again, 5)
    assert numbers(again.steps) == first[:5]
    again.stop()
    again.result()


def test_a_wish_of_the_hand_outlives_a_rollback(build):
    job = build().start(paused=True)
    go(job, 3)
    job.dial.turn(kl_coef=0.9, why="try")
    job.rollback(2).result(20)
    go(job, 3)
    assert job.steps[-1].knobs["kl_coef"] == 0.9
    job.stop()
    job.result()


def test_a_resumed_run_keeps_its_start_its_controller_and_can_be_replayed(build):
    job = build().start(paused=True)
    job.dial.turn(kl_coef=0.7)
    job.dial.release()
    go(job, 4)
    job.dial.turn(clip=0.1)
    go(job, 5)
    job.folder.prune(1)  # as if the process had died before the snapshot after step 5
    job.snapshot_every = 0
    job.stop()
    job.result()
    again = build().start(resume=True, paused=True)
    assert again.dial.auto and again.folder.manifest["settings"]["knobs"] == KNOBS.to_json()
    again.dial.turn(policy_lr=1e-3)
    again.resume()
    again.result()
    assert [s.knobs["clip"] for s in again.folder.steps()][4:] == [KNOBS.clip] * 4
    once_more = build("once-more", schedule=replay(again.folder.ledger(), KNOBS)).start()
    once_more.result()
    assert numbers(once_more.folder.steps()) == numbers(again.folder.steps())


@pytest.mark.slow
def test_a_replay_may_be_rolled_back_and_resumed(build):
    job = build().start(paused=True)
    for n, value in ((1, 0.3), (3, 0.6), (6, 0.1)):
        go(job, n - 1)
        job.dial.turn(kl_coef=value)
        go(job, n)
    job.resume()
    job.result()
    again = build("again", schedule=replay(job.folder.ledger(), KNOBS)).start(paused=True)
    go(again, 4)
    again.rollback(2).result(20)
    go(again, 5)
    again.stop()
    again.result()
    last = build("again", schedule=replay(job.folder.ledger(), KNOBS)).start(resume=True)
    last.result()
    assert numbers(last.folder.steps()) == numbers(job.folder.steps())


@pytest.mark.slow
def test_after_a_broken_promise_one_can_roll_back_and_go_on(build, monkeypatch):
    monkeypatch.setenv("LABKIT_HEADLESS", "0")
    job = build()
    make, job.broken = job.make_loop, True

    def breaks(schedule):
        for step in make(schedule):
            if step.number == 5 and job.broken:
                raise InvariantError("Step 5: policy_loss is nan. Roll back and turn a knob.")
            yield step

    job.make_loop = breaks
    job.start()
    wait(lambda: not job.alive)
    assert job.status == "failed" and job.folder.status == "failed"
    with pytest.raises(InvariantError):
        job.result()
    with pytest.raises(RunError, match="no snapshot of step 3"):
        job.rollback(3).result(20)
    job.broken = False
    job.dial.turn(policy_lr=1e-3)
    assert job.rollback(4).result(20) == 4
    wait(lambda: job.status == "paused")
    assert job.error is None and job.folder.status == "running"
    with pytest.raises(StillRunning):
        job.result(block=False)
    job.resume()
    assert job.result(block=True).step == 8
    assert [s.knobs["policy_lr"] for s in job.folder.steps()] == [3e-3] * 4 + [1e-3] * 4
    again = build("again", schedule=replay(job.folder.ledger(), KNOBS)).start()
    again.result(block=True)
    assert numbers(again.steps) == numbers(job.folder.steps())


@pytest.mark.parametrize(("said", "waits"), [("0", False), ("no", False), ("1", True), ("true", True)])
def test_headless_means_the_same_here_as_everywhere(build, monkeypatch, said, waits):
    monkeypatch.setenv("LABKIT_HEADLESS", said)
    job = build().start(paused=True)
    threading.Timer(0.3, job.stop).start()
    if waits:
        job.result()
    else:
        with pytest.raises(StillRunning):
            job.result()
    job.stop()
    job.result(block=True)


def test_a_script_that_imported_a_kernel_is_none(build):
    import ipykernel.kernelapp  # noqa: F401  as papermill and some widget libraries do

    job = build().start(paused=True)
    threading.Timer(0.3, job.stop).start()
    job.result()  # waits, for nobody sits there


def test_a_failed_loop_is_told_where_the_result_is_asked(build):
    def broken(schedule):
        yield from ()
        raise ValueError("the reward is broken")

    job = build(make=broken).start()
    with pytest.raises(ValueError, match="the reward is broken"):
        job.result()
    assert job.status == job.folder.status == "failed" and "the reward is broken" in job.folder.manifest["error"]


def test_by_hand_a_result_that_is_not_there_stops_with_one_line(build):
    job = build().start(paused=True)
    with pytest.raises(StillRunning, match="Run Selected Cell and All Below") as caught:
        job.result(block=False)
    assert caught.value._render_traceback_() == [str(caught.value)]
    job.stop()
    job.result()


def test_resume_continues_from_the_newest_snapshot(build):
    job = build().start(paused=True)
    for n in range(1, 6):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")
    job.stop()
    job.result()
    whole = build("whole").start()
    whole.result()
    again = build().start(resume=True)
    again.result()
    assert numbers(again.folder.steps()) == numbers(whole.steps)


def test_one_job_owns_a_model_and_a_listener_cannot_break_training(build):
    job = build().start(paused=True)
    other = build("other")
    other.state = job.state
    with pytest.raises(RunError, match="training this very model"):
        other.start()
    seen = []
    job.listen(lambda step: seen.append(threading.current_thread().name))
    job.listen(lambda step: 1 / 0)
    job.resume()
    job.result()
    assert len(seen) >= 8 and set(seen) == {"job-ppo"}


def test_errors_teach(build):
    job = build()
    with pytest.raises(RunError, match="never started"):
        job.result()
    job.start(paused=True)
    with pytest.raises(RunError, match="no snapshot of step 77"):
        job.rollback(77).result(20)
    job.stop()
    job.result()
    with pytest.raises(RunError, match="not running"):
        job.ask(lambda: 1).result(5)


def test_what_was_kept_for_good_is_kept_by_a_resumed_job_too(build):
    job = build().start(paused=True)
    go(job, 1)
    assert job.snapshot().result(20) == 1
    go(job, 3)
    assert job.snapshot().result(20) == 3
    job.stop()
    job.result()
    again = build()
    again.keep_snapshots = again.spread_snapshots = 1
    again.start(resume=True, paused=True)
    go(again, 7)
    assert {1, 3} <= set(again.folder.snapshots()) and again.folder.kept() == [1, 3]
    again.rollback(1).result(20)
    aside = [p.name for p in (again.folder.path / "state").iterdir() if p.name.startswith("superseded")]
    assert len(aside) == 1 and "000003" in aside[0], "moved aside, not deleted, though an earlier process kept it"
    assert again.folder.kept() == [1]
    again.stop()
    again.result()


def test_an_automatic_snapshot_of_the_same_step_takes_the_mark_off_none(build):
    job = build().start(paused=True)
    go(job, 1)
    job.snapshot().result(20)
    go(job, 3)
    job.rollback(1).result(20)
    job.stop()
    job.result()  # its end writes the snapshot of the same step once more
    assert job.folder.kept() == [1]


@pytest.mark.parametrize(("headless", "count"), [("0", 8), ("1", 3)])
def test_a_person_may_go_back_over_the_whole_run_and_headless_keeps_what_a_resume_needs(tmp_path, monkeypatch, headless, count):
    monkeypatch.setenv("LABKIT_HEADLESS", headless)
    job = toy_job(tmp_path / "ppo", total=100, seconds=0.0).start()
    job.result(block=True)
    found = job.folder.snapshots()
    assert len(found) == count and found[-3:] == [90, 95, 100]
    assert headless == "1" or found[0] <= 30
