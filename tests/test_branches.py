"""A branch from an earlier step: the trunk keeps all that it has, and the branch goes on as a run that had ended there."""

import shutil

import pytest

from labkit.errors import RunError
from labkit.knobs import replay
from labkit.runs import StageFolder
from tests.test_jobs import KNOBS, build, go, numbers, wait  # noqa: F401  (build is a fixture)
from tests.toy_job import toy_job

pytestmark = pytest.mark.slow


def contents(path):
    """Every file of a stage with its bytes."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.fixture
def toy(tmp_path):
    """A toy job whose result says at which step it was left; paused, with snapshots of steps 5, 10, 15 and so on."""

    def leave(to):
        to.model.mkdir(parents=True, exist_ok=True)
        (to.model / "step").write_text(str(job.state.step))
        return to.path.name

    job = toy_job(tmp_path / "ppo", total=20, seconds=0.0)
    job.finish = leave
    yield job
    job.stop()
    wait(lambda: not job.alive)


def left(folder):
    return (folder.model / "step").read_text()


def test_from_an_earlier_step_the_trunk_keeps_steps_snapshots_and_the_result_of_its_own_end(toy):
    toy.start(paused=True)
    go(toy, 13)
    trunk, before = toy.folder, contents(toy.folder.path)
    branch = toy.branch("early", step=5).result(20)
    assert branch.path.name == "ppo@early" and [s.number for s in toy.steps] == [1, 2, 3, 4, 5]
    after = contents(trunk.path)
    assert {k: v for k, v in after.items() if k in before and k != "run.json"} == {
        k: v for k, v in before.items() if k != "run.json"
    }
    assert trunk.status == "stopped" and trunk.manifest["branched_into"] == "ppo@early" and left(trunk) == "13"
    assert branch.snapshots() == branch.kept() == [5] and branch.manifest["parents"]["branch_of"] == "ppo"
    toy.resume()
    assert toy.result(block=True) == "ppo@early" and left(branch) == "20" and left(trunk) == "13"
    assert [s.number for s in branch.steps()] == list(range(1, 21)) and len(trunk.steps()) == 13


def test_a_finished_run_may_be_branched_and_stays_as_it_was_byte_for_byte(toy):
    toy.start()
    assert toy.result(block=True) == "ppo"
    wait(lambda: not toy.alive)
    trunk, before = toy.folder, contents(toy.folder.path)
    branch = toy.branch("again", step=10).result(20)
    assert toy.status == "paused" and toy.folder is branch and branch.status == "running"
    toy.resume()
    assert toy.result(block=True) == "ppo@again" and branch.status == "done"
    assert contents(trunk.path) == before
    assert numbers(branch.steps()) == numbers(trunk.steps()), "nothing was asked, so the branch repeats its trunk"


def test_a_run_that_has_ended_is_branched_from_a_named_step_only(toy):
    toy.start()
    toy.result(block=True)
    wait(lambda: not toy.alive)
    with pytest.raises(RunError, match="ppo has ended, so a branch needs the step .* 10, 15, 20"):
        toy.branch("end").result(20)
    assert toy.status == "done" and not toy.folder.path.with_name("ppo@end").exists()


def test_a_step_without_snapshot_makes_nothing_and_disturbs_nothing(toy):
    toy.start(paused=True)
    go(toy, 7)
    with pytest.raises(RunError, match=r"no snapshot of step 3 in ppo; there are: 5\."):
        toy.branch("none", step=3).result(20)
    (toy.folder.snapshot(5) / "state.json").write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        toy.branch("torn", step=5).result(20)
    assert [p.name for p in toy.folder.path.parent.iterdir()] == ["ppo"]
    go(toy, 8)
    assert toy.folder.path.name == "ppo" and toy.folder.status == "running" and len(toy.folder.steps()) == 8


def test_a_failed_run_may_be_branched_too(toy):
    make = toy.make_loop

    def breaks(schedule):
        for step in make(schedule):
            if step.number == 8 and toy.folder.path.name == "ppo":
                raise RuntimeError("out of memory")
            yield step

    toy.make_loop = breaks
    toy.start()
    wait(lambda: not toy.alive)
    trunk = toy.folder
    toy.branch("on", step=5).result(20)
    toy.resume()
    assert toy.result(block=True) == "ppo@on" and trunk.status == "failed" and toy.error is None


def test_a_branch_of_a_branch_stands_beside_it(toy):
    toy.start(paused=True)
    go(toy, 6)
    toy.branch("a", step=5).result(20)
    go(toy, 11)
    assert toy.branch("b", step=10).result(20).path.name == "ppo@b"
    assert toy.folder.manifest["parents"]["branch_of"] == "ppo@a"
    assert [len(f.steps()) for f in toy.branches] == [6, 11, 10]


def test_a_branch_from_an_earlier_step_goes_on_exactly_and_replays(build):  # noqa: F811
    job = build().start(paused=True)
    go(job, 1)
    job.dial.turn(kl_coef=0.7, why="before the fork")
    go(job, 4)
    job.dial.turn(clip=0.05, why="after it")
    job.dial.release()
    go(job, 6)
    trunk = numbers(job.steps)
    branch = job.branch("early", step=4).result(20)
    assert [(r["knob"], r["step"]) for r in branch.ledger()] == [("kl_coef", 2)], "what the trunk did later is not its past"
    assert job.dial.knobs.clip == KNOBS.clip and not job.dial.auto
    go(job, 5)
    job.dial.turn(policy_lr=1e-3)
    job.resume()
    job.result()
    plain = build("plain").start(paused=True)
    go(plain, 1)
    plain.dial.turn(kl_coef=0.7)
    go(plain, 5)
    plain.stop()
    plain.result()
    assert numbers(branch.steps()[:5]) == numbers(plain.steps) and numbers(branch.steps()[:4]) == trunk[:4]
    again = build("again", schedule=replay(branch.ledger(), KNOBS)).start()
    again.result()
    assert numbers(again.folder.steps()) == numbers(branch.steps())


def test_a_wish_that_waits_at_the_fork_is_the_branchs_first(build):  # noqa: F811
    job = build().start(paused=True)
    go(job, 3)
    job.dial.turn(kl_coef=0.9, why="try it from there")
    job.branch("wish", step=2).result(20)
    go(job, 3)
    assert job.steps[-1].knobs["kl_coef"] == 0.9
    job.stop()
    job.result()


def test_a_branch_is_resumed_by_a_new_job_like_any_stage(build):  # noqa: F811
    job = build().start(paused=True)
    go(job, 5)
    job.branch("early", step=2).result(20)
    go(job, 3)
    job.stop()
    job.result()
    shutil.rmtree(job.folder.snapshot(3))
    again = build("ppo@early").start(resume=True)
    again.result()
    whole = build("whole").start()
    whole.result()
    assert numbers(StageFolder(again.folder.path).steps()) == numbers(whole.steps)
