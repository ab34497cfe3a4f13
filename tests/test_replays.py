"""A run steered by hand is made again from its record: labels, knobs, an early end; numbers and weights are the same."""

import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest

from labkit.disk import read_jsonl, write_json
from labkit.errors import RunError
from labkit.experiment import Experiment, replay_job, replay_whole, tasks_by_hand
from labkit.experiment.replay_whole import compare_stages, facts_of, replay_run
from labkit.labels.session import LabelSession
from labkit.labels.state import Draft
from labkit.labels.store import labels_path, read_rankings
from labkit.models import load_policy
from labkit.runs import Run, StageFolder
from labkit.types import Step

slow = pytest.mark.slow


def stepped(job, upto: int):
    """The job, paused after step `upto`."""
    if not job.alive:
        job.start(paused=True)
    for n in range(len(job.steps) + 1, upto + 1):
        job.step()
        while len(job.steps) < n or job.status != "paused":
            time.sleep(0.01)
    return job


def to_the_end(job) -> None:
    job.resume()
    job.result(block=True)


def rank(desk: LabelSession) -> None:
    """The card that is up, ranked as it is shown: what nobody would guess from its texts."""
    desk.submit(Draft(groups=tuple((i,) for i in desk.current.shown)))


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> Experiment:
    """A run by hand: SFT with a knob turned, two cards ranked, a reward model stopped early, PPO-ptx with β turned."""
    lab = Experiment(Run("old", tmp_path_factory.mktemp("runs")), scale="smoke", model="small")
    lab.prepare()
    sft = stepped(lab.sft_job(), 1)
    sft.dial.turn(lr_scale=0.25, why="slower")
    to_the_end(sft)
    lab.sft_job(init=True).start().result(block=True)
    lab.rank()
    desk = LabelSession(tasks_by_hand(lab, 3), "me", labels_path(lab.run.path, "me"))
    rank(desk)
    rank(desk)
    early = stepped(lab.reward_job(lr=1e-3), 2)
    early.stop()
    early.result(block=True)
    rank(desk)  # after the reward model, which has not learnt from it
    desk.close()
    lab.choose_sft_epoch()
    ptx = stepped(lab.ppo_job(steps=3), 1)
    ptx.dial.turn(kl_coef=0.5, why="KL ran away")
    to_the_end(ptx)
    return lab


@pytest.fixture
def replay(old, monkeypatch, capsys):
    """Call `labkit replay OLD --run NEW` as the console script does; returns exit code, output and errors."""
    from labkit.cli import main

    def call(of: str, run: str) -> tuple[int, str, str]:
        words = ["labkit", "replay", of, "--run", run, "--root", str(old.run.path.parent)]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capsys.readouterr()

    return call


def content(folder: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of every file."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


def numbers(stage: StageFolder) -> list[tuple]:
    return [(s.number, s.knobs, {k: v for k, v in s.metrics.items() if not k.startswith("time_")}) for s in stage.steps()]


@slow
def test_a_run_by_hand_is_made_again_from_start_to_end(old, replay):
    before = content(old.run.path)
    code, out, err = replay("old", "new")
    assert code == 0, out + err
    new = Run("new", old.run.path.parent)
    for name in ("sft", "ppo_init", "reward", "ppo_ptx"):
        assert numbers(new.stage(name)) == numbers(old.run.stage(name)), name
        assert new.stage(name).status == old.run.stage(name).status
        weights = [s.model / "model.safetensors" for s in (new.stage(name), old.run.stage(name))]
        assert weights[0].read_bytes() == weights[1].read_bytes(), name
    assert [s.knobs["lr_scale"] for s in new.stage("sft").steps()][:2] == [1.0, 0.25]
    assert [s.knobs["kl_coef"] for s in new.stage("ppo_ptx").steps()] == [0.1, 0.5, 0.5]
    assert new.stage("reward").status == "stopped" and len(new.stage("reward").steps()) == 2
    assert {row["by"] for name in ("sft", "ppo_ptx") for row in new.stage(name).ledger()} == {"replay"}
    told = json.loads((new.path / "replay.json").read_text())
    assert [p["part"] for p in told["parts"]] == ["prompts", "sft", "ppo_init", "rankings", "reward", "epoch of sft", "ppo_ptx"]
    assert {p["numbers"] for p in told["parts"]} == {"equal"} and {p["weights"] for p in told["parts"]} == {"equal", ""}
    logs = [read_rankings(run.path / "labels") for run in (old.run, new)]
    assert len(logs[0]) == 3 and logs[0] == logs[1], "the third label, too late for the reward model, is there as well"
    assert content(old.run.path) == before, "the old run is only read"


def test_labels_of_a_run_that_nobody_may_write_may_be_written_in_the_new_one(tmp_path):
    old, new = Run("old", tmp_path), Run("new", tmp_path)
    (old.path / "labels" / "cards").mkdir(parents=True)
    (old.path / "labels" / "me.jsonl").write_text("")
    shut = [old.path / "labels", *(old.path / "labels").rglob("*")]
    for path in shut:
        path.chmod(path.stat().st_mode & ~0o222)
    replay_whole._bring_labels(old, new)
    for path in shut:
        path.chmod(path.stat().st_mode | 0o200)
    assert all(path.stat().st_mode & 0o200 for path in [new.path / "labels", *(new.path / "labels").rglob("*")])


@slow
def test_the_labels_by_hand_are_those_that_the_reward_model_learnt_from(old, replay, tmp_path):
    """With other labels it would be another reward model: the comparison is no formality."""
    other = Run("relabeled", old.run.path.parent)
    ignored = shutil.ignore_patterns("ppo_*", "notebooks")
    shutil.copytree(old.run.path, other.path, ignore=ignored)
    (log,) = (other.path / "labels").glob("*.jsonl")
    assert len(read_rankings(log)) == 3
    rows = [{**row, "time": 0.0} for row in read_jsonl(log)]  # the third too is said to be older than the reward model
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = replay("relabeled", "relabeled-again")
    made = Run("relabeled-again", old.run.path.parent)
    assert len(read_rankings(made.path / "labels")) == 3
    assert code == 1 and "the content of labels was" in err and "reward was not replayed, so there is nothing" in err, out + err
    assert "Traceback" not in err and numbers(made.stage("sft")) == numbers(old.run.stage("sft"))


@slow
def test_what_cannot_be_made_again_says_why_in_a_sentence(old, replay):
    code, _, err = replay("old", "old")
    assert code == 1 and "is not empty; give the replay a name of its own" in err
    code, _, err = replay("nobody", "new-one")
    assert code == 1 and "nobody was not prepared" in err
    swept = Run("swept", old.run.path.parent)
    write_json(swept.path / "prompts" / "experiment.json", {**old.facts, "data_seed": 7})
    with pytest.raises(RunError, match="point of a sweep: its prompts came from a run with seed 7"):
        facts_of(swept)
    gone = Run("gone", old.run.path.parent)
    write_json(gone.path / "prompts" / "experiment.json", {**old.facts, "data": "no/such/folder"})
    code, out, err = replay("gone", "gone-again")
    assert code == 1 and err.count("\n") == 1 and "There is no folder no/such/folder" in err, out + err
    with pytest.raises(RunError, match="holds a stage of sft, not of ppo; choose a stage of ppo"):
        replay_job(old, old.run.path / "sft", only="ppo")


@slow
def test_rankings_are_drawn_again_from_the_epoch_that_drew_them(old, tmp_path):
    """Who ranks again after 04_reward has chosen an epoch draws from that one, not from the one of least loss."""
    lab, made = (Experiment(Run(name, tmp_path), **facts_of(old.run)) for name in ("ranked-later", "again"))
    for part in ("prompts", "demonstrations"):
        shutil.copytree(old.run.path / part, lab.run.path / part)
    state = lab.sft_job(epochs=2).start().result(block=True)
    (other,) = {1, 2} - {state.chosen["epoch"]}
    shutil.copytree(lab.run.path, made.run.path)
    lab.rank({"base": load_policy(lab.model), "sft": load_policy(lab.run.path / "sft" / "epochs" / f"{other:02d}")})
    assert replay_whole.redrawn(lab.run, made).same
    lab.rank({"base": load_policy(lab.model), "sft": load_policy(lab.model)})  # as if SFT had been trained again since
    with pytest.raises(RunError, match="drawn from an SFT model that is none of the epochs"):
        replay_whole.redrawn(lab.run, made)


@slow
def test_a_model_trained_anew_leaves_its_children_without_a_parent(old, tmp_path):
    run = Run("retrained", tmp_path)
    for part in ("prompts", "demonstrations", "ppo_init", "reward", "ppo_ptx"):
        shutil.copytree(old.run.path / part, run.path / part)
    manifest = run.stage("ppo_ptx").manifest
    write_json(run.path / "ppo_ptx" / "run.json", {**manifest, "parents": {**manifest["parents"], "reward": "abc"}})
    shutil.rmtree(run.path / "reward" / "model")  # and a stage that left nothing
    said = []
    rows = {r.part: r for r in replay_run(run, Experiment(Run("x", tmp_path), **facts_of(run)), say=said.append)}
    assert rows["ppo_init"].same and not rows["reward"].same and not rows["ppo_ptx"].same
    assert "reward is stopped and left no model" in rows["reward"].note
    assert all(rows[name].numbers == "not replayed" for name in ("reward", "ppo_ptx"))


@slow
def test_an_sft_stopped_within_its_last_epoch_keeps_the_weights_of_its_last_step(old):
    """A loop that ends puts the best epoch back; one that is stopped does not, nor may its replay."""
    job = stepped(old.sft_job(name="early", epochs=2), 3)
    job.dial.turn(lr_scale=10.0, why="too fast by far: the second epoch is the worse one")
    stepped(job, 6)
    job.stop()  # after the very last step, before the loop has come to its end
    job.result(block=True)
    again, knobs = replay_job(old, old.run.path / "early", name="early-again")
    again.start().result(block=True)
    assert again.status == "stopped" and knobs == {"lr_scale": 1.0} and again.settings["epochs"] == 2
    assert compare_stages(job.folder, again.folder).same
    ended = stepped(old.sft_job(name="ended", epochs=2), 3)
    ended.dial.turn(lr_scale=10.0)
    to_the_end(ended)
    here, there = (load_policy(j.folder.model).state_dict() for j in (again, ended))
    assert ended.state.chosen["epoch"] == 1 and any(not here[n].equal(there[n]) for n in here)
    assert replay_job(old, old.run.path / "ended", name="ended-again")[1] == {"lr_scale": 1.0}


@slow
def test_a_reward_model_that_was_rolled_back_is_replayed_and_so_is_its_replay(old, monkeypatch):
    monkeypatch.setenv("LABKIT_HEADLESS", "0")  # a person is there: snapshots are taken
    job = stepped(old.reward_job(name="back"), 2)
    job.rollback(1, why="too fast").result(60)
    job.dial.turn(lr_scale=0.5, why="slower")
    stepped(job, 2)
    monkeypatch.delenv("LABKIT_HEADLESS")
    to_the_end(job)
    folder = job.folder
    for name in ("back-again", "back-once-more"):
        again, _ = replay_job(old, folder.path, name=name)
        again.start().result(block=True)
        row = compare_stages(folder, again.folder)
        assert row.same and again.status == "done", row
        folder = again.folder


def record(path: Path, **metrics: float) -> StageFolder:
    stage = StageFolder(path)
    stage.begin(settings={})
    stage.append_step(Step("sft", 1, metrics, {"lr_scale": 1.0}))
    stage.finish()
    return stage


def test_a_comparison_sees_the_last_digit_and_no_seconds(tmp_path):
    first = record(tmp_path / "a" / "sft", loss=0.1 + 0.2, time_total=1.0)
    assert compare_stages(first, record(tmp_path / "b" / "sft", loss=0.1 + 0.2, time_total=2.0)).same
    other = compare_stages(first, record(tmp_path / "c" / "sft", loss=0.3, time_total=1.0))
    assert not other.same and "Step 1: loss was 0.30000000000000004, here it is 0.3." in other.note
    longer = record(tmp_path / "d" / "sft", loss=0.1 + 0.2)
    longer.append_step(Step("sft", 2, {"loss": 0.2}, {"lr_scale": 1.0}))
    assert "It had 1 steps, here it has 2." in compare_stages(first, longer).note
    assert not compare_stages(longer, first).same


def test_a_comparison_names_other_versions_and_threads_where_something_differs(tmp_path):
    first, second = record(tmp_path / "a" / "sft", loss=1.0), record(tmp_path / "b" / "sft", loss=2.0)
    manifest = first.manifest
    write_json(first.path / "run.json", {**manifest, "threads": 4, "versions": {**manifest["versions"], "torch": "1.0"}})
    note = compare_stages(first, second).note
    assert "torch 1.0 then and" in note and "threads 4 then and None here" in note
