"""Every step's completions are kept with all that is needed to draw them again, and what was undone is not read back."""

import json
import shutil

import pytest

from labkit.experiment.batches import FILE, batch_of, batch_steps, with_batches_kept
from labkit.jobs import Job
from labkit.knobs import Dial, PPOKnobs
from labkit.models import load_policy
from labkit.ppo import PPOSettings, loop
from labkit.runs import Run
from labkit.sampling import sample
from tests.test_jobs import go, wait
from tests.toy import END, even_share, save_toy, toy_prompts, toy_state

SETTINGS = PPOSettings(steps=8, batch=16, minibatch=8, max_new_tokens=8, warmup=2, ptx_row=32, samples=3)
KNOBS = PPOKnobs(policy_lr=3e-3, value_lr=3e-3, kl_coef=0.05)
TOLD = {"policy": {"stage": "ppo_init", "weights": "abc"}, "sampling": {"max_new_tokens": 8, "seed": SETTINGS.seed}}


def gold(prompts, texts, finished):
    return [len(t) for t in texts]


@pytest.fixture
def job(tmp_path):
    state = toy_state(save_toy(tmp_path / "init", spread=0.05), SETTINGS)

    def steps(schedule):
        found = loop(state, toy_prompts(30), even_share, schedule, SETTINGS, gold=gold)
        return with_batches_kept(found, state, lambda: made.folder, TOLD)

    made = Job(
        steps, folder=Run("r", tmp_path / "runs").stage("ppo"), schedule=Dial(KNOBS), total=8, state=state, snapshot_every=2, keep_snapshots=10
    )
    yield made
    made.stop()
    wait(lambda: not made.alive)


def texts(folder, number):
    return [row["response"] for row in batch_of(folder, number)["episodes"]]


def ids(folder):
    return {n: [row["token_ids"] for row in batch_of(folder, n)["episodes"]] for n in batch_steps(folder)}


def test_every_episode_of_every_step_is_there_and_steps_grow_by_nothing(job):
    job.start().result(block=True)
    folder = job.folder
    assert batch_steps(folder) == list(range(1, 9))
    for step in folder.steps():
        kept = batch_of(folder, step.number)
        rows = kept["episodes"]
        assert len(rows) == 16 and len(step.samples) == 3
        for shown, row in zip(step.samples, rows, strict=False):
            assert {k: v for k, v in row.items() if k not in ("token_ids", "seed")} == dict(shown)
        means = {name: sum(row[name] for row in rows) / 16 for name in ("score", "kl", "length", "gold")}
        names = {"score": "score", "kl": "kl_k1", "length": "response_length", "gold": "gold"}
        assert all(step.metrics[names[k]] == pytest.approx(v, abs=1e-3) for k, v in means.items())
        assert kept["policy"] == {"stage": "ppo_init", "weights": "abc", "iterations": step.number - 1}
        assert kept["sampling"] == {"temperature": 1.0, "max_new_tokens": 8, "seed": 0}
    assert "token_ids" not in (folder.path / "metrics.jsonl").read_text()


def test_what_is_kept_is_enough_to_draw_the_same_tokens_again(job, tmp_path):
    job.start(paused=True)
    go(job, 2)
    snapshot = toy_state(tmp_path / "init", SETTINGS).load(job.folder.snapshot(2))
    go(job, 3)
    asked = {p.id: [int(w) for w in p.text.split()] for p in toy_prompts(30)}
    for number, policy in ((1, load_policy(tmp_path / "init", device="cpu")), (3, snapshot.plain_policy)):
        kept = batch_of(job.folder, number)
        rows, how = kept["episodes"], kept["sampling"]
        drawn = sample(
            policy, [asked[r["prompt_id"]] for r in rows], max_new_tokens=how["max_new_tokens"], eos_id=END,
            seeds=[r["seed"] for r in rows], temperature=how["temperature"],
        )  # fmt: skip
        assert [s.ids for s in drawn] == [r["token_ids"] for r in rows]
        assert [s.finished for s in drawn] == [r["finished"] for r in rows]


def test_batches_of_undone_steps_are_not_read_back(job):
    job.start(paused=True)
    go(job, 5)
    before = ids(job.folder)
    job.rollback(2).result(20)
    assert batch_steps(job.folder) == [1, 2], "undone, and nothing in their place yet"
    job.dial.turn(policy_lr=1e-4, why="another way on")
    go(job, 4)
    after = ids(job.folder)
    assert sorted(after) == [1, 2, 3, 4] and after[4] != before[4]
    assert {n: after[n] for n in (1, 2, 3)} == {n: before[n] for n in (1, 2, 3)}, "step 3 is drawn by the policy of step 2"
    lines = (job.folder.path / FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 3, 4], "nothing is lost of what was undone"


def test_a_branch_has_the_batches_of_its_past_and_of_itself(job):
    job.start(paused=True)
    go(job, 5)
    trunk, before = job.folder, ids(job.folder)
    first = job.branch("first", step=2).result(20)
    assert batch_steps(first) == []
    second = job.branch("second").result(20)  # of a branch that took no step
    job.dial.turn(policy_lr=1e-4)
    go(job, 4)
    assert batch_steps(second) == [1, 2, 3, 4] and {n: ids(second)[n] for n in (1, 2, 3)} == {n: before[n] for n in (1, 2, 3)}
    assert ids(second)[4] != before[4] and ids(trunk) == before


def test_a_process_that_died_leaves_whole_lines_or_none(job, tmp_path):
    job.start(paused=True)
    go(job, 4)
    job.stop()
    job.result(block=True)
    folder, file = job.folder, job.folder.path / FILE
    steps = (folder.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder.path / "metrics.jsonl").write_text("".join(steps[:3]))
    assert batch_steps(folder) == [1, 2, 3], "kept, but its step was never recorded"
    (folder.path / "metrics.jsonl").write_text("".join(steps))
    file.write_bytes(file.read_bytes()[:-40])
    assert batch_steps(folder) == [1, 2, 3] and len(texts(folder, 3)) == 16 and batch_of(folder, 4) is None


def test_a_resumed_run_reads_as_the_uninterrupted_one(job, tmp_path):
    job.start(paused=True)
    go(job, 5)
    shutil.copytree(job.folder.path, tmp_path / "killed")
    go(job, 8)
    whole = ids(job.folder)
    job.stop()
    job.result(block=True)
    folder = job.folder
    shutil.rmtree(folder.path)
    shutil.copytree(tmp_path / "killed", folder.path)
    job.start(resume=True).result(block=True)
    assert ids(folder) == whole


def test_a_run_from_before_has_none(tmp_path):
    folder = Run("old", tmp_path).stage("ppo")
    folder.begin(settings={})
    assert batch_steps(folder) == [] and batch_of(folder, 1) is None
