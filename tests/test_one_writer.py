"""One job writes one stage folder: whoever comes second is told so, and the first goes on as if nobody had asked."""

import gc
import os
import subprocess
import sys
import time
import weakref

import pytest

from labkit.disk import read_jsonl, write_json
from labkit.errors import RunError
from labkit.jobs import running
from labkit.knobs import PPOKnobs, replay
from labkit.runs import StageFolder
from tests.toy_job import toy_job

REFUSED = r"ppo is being written by another job .*\(running|ppo is being written by another job .*\(paused"


def wait(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@pytest.fixture
def toy(tmp_path):
    """Build toy jobs on `ppo`; whatever still runs at the end of the test is stopped."""
    made = []

    def build(name="ppo", total=30, seconds=0.005):
        made.append(toy_job(tmp_path / name, total=total, seconds=seconds))
        return made[-1]

    yield build
    for job in made:
        job.stop()
    wait(lambda: not any(job.alive for job in made))


def steps_of(job, upto):
    for n in range(len(job.steps) + 1, upto + 1):
        job.step()
        wait(lambda n=n: len(job.steps) == n and job.status == "paused")


def test_the_same_cell_run_twice_leaves_the_first_run_as_it_is(toy, tmp_path):
    first = toy(total=40, seconds=0.01).start()
    wait(lambda: len(first.steps) > 3)
    second = toy(total=40)
    with pytest.raises(RunError, match=REFUSED) as told:
        second.start()
    assert all(word in str(told.value) for word in ("Wait", "stop", "name")), "the sentence says what to do"
    first.result(block=True)
    assert [s.number for s in first.folder.steps()] == list(range(1, 41)) and first.folder.status == "done"
    assert [p.name for p in tmp_path.iterdir()] == ["ppo"], "nothing was moved aside"
    assert second.status == "idle" and not second.steps


def test_a_paused_job_still_owns_its_folder_by_whatever_path(toy, tmp_path, monkeypatch):
    first = toy().start(paused=True)
    steps_of(first, 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "ppo")
    for path in ("ppo", tmp_path / "link", tmp_path / "other" / ".." / "ppo"):
        (tmp_path / "other").mkdir(exist_ok=True)
        with pytest.raises(RunError, match="being written by another job"):
            toy_job(path).start()
    with pytest.raises(RunError, match="being written by another job"):
        toy_job(tmp_path / "ppo").start(resume=True)
    assert len(first.folder.steps()) == 2


def test_a_replay_does_not_write_over_the_run_that_it_replays(toy):
    first = toy(total=40).start(paused=True)
    first.dial.turn(kl_coef=0.1)
    steps_of(first, 3)
    second = toy(total=3)
    second.schedule = replay(first.folder.ledger(), PPOKnobs(ptx_coef=1.0))
    with pytest.raises(RunError, match="being written by another job"):
        second.start()
    first.stop()
    wait(lambda: not first.alive)
    assert len(first.folder.steps()) == 3 and [r["new"] for r in first.folder.ledger()] == [0.1]


@pytest.mark.parametrize("headless", ["0", "1"])
@pytest.mark.parametrize("end", ["done", "stopped", "failed"])
def test_the_folder_of_a_job_that_has_ended_may_be_started_anew(toy, tmp_path, monkeypatch, headless, end):
    monkeypatch.setenv("LABKIT_HEADLESS", headless)
    first = toy(total=4)
    if end == "failed":
        first.make_loop = lambda schedule: iter([1 / 0])
    first.start()
    if end == "stopped":
        first.stop()
    wait(lambda: not first.alive)
    second = toy(total=6).start()
    second.result(block=True)
    assert len(second.folder.steps()) == 6 and len(list(tmp_path.glob("ppo.*.old"))) == 1


def test_a_finished_job_that_nobody_holds_blocks_nothing_and_keeps_no_memory(toy, tmp_path):
    job = toy_job(tmp_path / "ppo", total=2, seconds=0.0).start(paused=True)
    assert [j.folder.path for j in running()] == [tmp_path / "ppo"]
    job.resume()
    job.result(block=True)
    wait(lambda: not running())
    weights = weakref.ref(job.state)
    del job
    gc.collect()
    assert weights() is None, "the register of jobs holds nobody's weights"
    toy(total=3).start().result(block=True)


def test_a_job_that_is_forgotten_while_it_trains_still_owns_its_folder_and_can_be_found(toy, tmp_path):
    toy_job(tmp_path / "ppo", total=4000, seconds=0.01).start()
    gc.collect()
    with pytest.raises(RunError, match=r"labkit\.jobs\.running\(\)"):
        toy().start()
    (found,) = running()
    found.stop()
    found.result(block=True)
    toy(total=2).start().result(block=True)


def test_a_branch_owns_its_own_folder_and_gives_the_trunks_back(toy, tmp_path):
    job = toy().start(paused=True)
    steps_of(job, 3)
    job.branch("hot").result(20)
    with pytest.raises(RunError, match="ppo@hot is being written by another job"):
        toy("ppo@hot").start()
    other = toy().start(paused=True)
    steps_of(other, 1)
    with pytest.raises(RunError, match="ppo@hot is being written by another job"):
        other.branch("hot").result(20)
    steps_of(job, 4)
    assert len(job.folder.steps()) == 4 and len(other.folder.steps()) == 1


def test_an_ended_job_does_not_come_back_to_life_in_a_folder_that_went_to_another(toy, tmp_path):
    first = toy(total=10)
    first.start()
    wait(lambda: first.status == "done" and not first.alive)
    second = toy(total=10).start(paused=True)
    steps_of(second, 6)
    with pytest.raises(RunError, match="being written by another job"):
        first.rollback(5).result(20)
    second.resume()
    second.result(block=True)
    before = (tmp_path / "ppo" / "metrics.jsonl").read_text()
    with pytest.raises(RunError, match="ppo was started anew .*build a new job"):
        first.rollback(5).result(20)
    assert (tmp_path / "ppo" / "metrics.jsonl").read_text() == before and second.folder.status == "done"
    assert second.rollback(5).result(20) == 5, "its own job may go back there"


def test_a_board_says_why_its_start_was_refused(toy):
    from tests.widgets.cockpits import say
    from widgets import Cockpit

    toy().start(paused=True)
    board = Cockpit(toy())
    say(board, kind="do", what="start")
    assert board._notice["bad"] and "being written by another job" in board._notice["text"]
    board.close()


def test_two_starts_at_the_same_moment_are_one_start(toy):
    from concurrent.futures import ThreadPoolExecutor

    jobs = [toy(total=3) for _ in range(4)]
    slow, folder = StageFolder.begin, jobs[0].folder

    def begin(self, **options):
        time.sleep(0.05)
        slow(self, **options)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(4) as pool:
        patch.setattr(StageFolder, "begin", begin)
        for job in jobs:
            job._paused = True
        errors = [f.exception() for f in [pool.submit(job.start, paused=True) for job in jobs]]
    assert sorted(type(e).__name__ for e in errors) == ["NoneType", "RunError", "RunError", "RunError"]
    assert folder.status == "running"


def test_a_folder_that_a_process_of_the_same_number_writes_elsewhere_is_not_taken_over(tmp_path):
    folder = StageFolder(tmp_path / "ppo")
    folder.begin(settings={})
    write_json(folder.path / "run.json", {**folder.manifest, "host": "another-machine"})
    with pytest.raises(RunError, match=f"process {os.getpid()} on another-machine"):
        folder.begin(settings={})


def test_two_processes_do_not_share_a_folder_either(tmp_path):
    toy = toy_job(tmp_path / "ppo", total=4000, seconds=0.01).start()
    wait(lambda: len(toy.steps) > 2)
    code = f"from tests.toy_job import toy_job; toy_job({str(tmp_path / 'ppo')!r}).start()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "being written by process" in ended.stderr
    toy.stop()
    toy.result(block=True)
    numbers = [row["number"] for row in read_jsonl(tmp_path / "ppo" / "metrics.jsonl")]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("told", ["resume", "step", "stop", "snapshot", "turn"])
def test_a_job_that_paused_while_its_folder_went_to_another_writes_nothing_more_there(toy, tmp_path, told):
    job, saved = toy(total=30), []
    job.finish = lambda to: saved.append(to)
    job.start(paused=True)
    steps_of(job, 6)
    StageFolder(tmp_path / "ppo").finish("failed", error="Closed by hand")  # the stage was given up on
    StageFolder(tmp_path / "ppo").begin(settings={"another": True})  # as by another kernel, which has no job of this one's
    before = {p: p.read_bytes() for p in (tmp_path / "ppo").rglob("*") if p.is_file()}
    if told == "turn":
        job.dial.turn(kl_coef=0.3)
    {"turn": job.resume}.get(told, getattr(job, told, None))()
    wait(lambda: not job.alive)
    with pytest.raises(RunError, match="ppo was started anew by another job"):
        job.result(block=True)
    assert {p: p.read_bytes() for p in (tmp_path / "ppo").rglob("*") if p.is_file()} == before and not saved
    assert job.status == "failed" and len(job.steps) == 6


def test_a_job_whose_folder_is_gone_does_not_make_it_again(toy, tmp_path):
    job = toy(total=30).start(paused=True)
    steps_of(job, 2)
    (tmp_path / "ppo").rename(tmp_path / "elsewhere")
    job.resume()
    with pytest.raises(RunError, match="ppo is there no more"):
        job.result(block=True)
    assert not (tmp_path / "ppo").exists()


def test_of_processes_that_begin_a_stage_at_one_moment_one_does_and_no_lock_is_left(tmp_path):
    code = (
        "import sys, time\nfrom labkit.errors import RunError\nfrom labkit.runs import Run\n"
        f"stage = Run('r', {str(tmp_path)!r}).stage('ppo')\nprint('there', flush=True)\nsys.stdin.readline()\n"
        "try:\n    stage.begin(settings={})\n    print('begun', flush=True)\nexcept RunError:\n    print('refused', flush=True)\nsys.stdin.readline()"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.stdout.readline().strip() for process in others] == ["there"] * 3
    for process in others:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = sorted(process.stdout.readline().strip() for process in others)
    for process in others:
        process.communicate("\n")
    assert answers == ["begun", "refused", "refused"]
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["ppo"]
