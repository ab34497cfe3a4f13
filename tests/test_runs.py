"""Run folders lose nothing, tell the truth about dead writers, and let no name out of runs/."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import labkit
from labkit.batch.closing import close_gone
from labkit.disk import append_jsonl, file_hash, read_all, read_jsonl, write_json, write_jsonl
from labkit.errors import DataError, RunError, SettingsError
from labkit.experiment import Experiment
from labkit.runs import FACTS, Run, StageFolder, check_name
from labkit.types import Completion, Prompt, Ranking, Step


def step(number, value=0.0):
    return Step("ppo", number, {"score": value}, {"kl_coef": 0.1})


def test_a_stage_from_begin_to_finish(tmp_path):
    folder = Run("mine", tmp_path).stage("ppo")
    assert folder.status == "missing"
    folder.begin(settings={"steps": 2}, seed=3, parents={"sft": "abc"})
    assert folder.status == "running"
    folder.append_step(step(1))
    folder.append_step(step(2))
    folder.finish(result=7)
    assert folder.status == "done" and folder.manifest["result"] == 7
    assert folder.manifest["seed"] == 3 and folder.manifest["versions"]["python"]
    assert [s.number for s in folder.steps()] == [1, 2] and folder.steps()[0] == step(1)
    assert [s.path.name for s in Run("mine", tmp_path).stages()] == ["ppo"]


def test_starting_a_stage_again_moves_the_old_files_aside(tmp_path):
    folder = Run("mine", tmp_path).stage("ppo")
    for value in (1.0, 2.0, 3.0):
        folder.begin(settings={})
        folder.append_step(step(1, value))
        folder.finish()
    kept = sorted(p for p in folder.path.parent.iterdir() if p.name.endswith(".old") or ".old" in p.name)
    assert len(kept) == 2 and folder.steps()[0].metrics["score"] == 3.0
    assert {next(read_jsonl(p / "metrics.jsonl"))["metrics"]["score"] for p in kept} == {1.0, 2.0}


def test_a_stage_whose_process_died_reads_as_dead(tmp_path):
    code = f"from labkit.runs import Run; import os; Run('mine', {str(tmp_path)!r}).stage('ppo').begin(settings={{}}); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert Run("mine", tmp_path).stage("ppo").status == "dead"


def test_a_stage_that_another_process_writes_is_not_taken_over(tmp_path):
    folder = Run("mine", tmp_path).stage("ppo")
    folder.begin(settings={})
    told = {**folder.manifest, "pid": os.getppid()}
    told.pop("process_began", None)  # a record from before it was told is believed by its number
    write_json(folder.path / "run.json", told)
    with pytest.raises(RunError, match="being written by process"):
        folder.begin(settings={})


@pytest.mark.parametrize("told_by", ["/proc", "ps"])
def test_a_process_that_got_the_number_of_a_killed_writer_does_not_block_its_stage(tmp_path, monkeypatch, told_by):
    if not (Path("/proc/self/stat").exists() if told_by == "/proc" else shutil.which("ps")):
        pytest.skip(f"This system has no {told_by}.")
    if told_by == "ps":  # as on macOS
        monkeypatch.setattr("labkit.processes.Path", lambda _: tmp_path / "nothing")
    folder = Run("mine", tmp_path).stage("ppo")
    folder.begin(settings={"lr": 1})
    told = folder.manifest
    for now in ({"pid": 1}, {"process_began": "00000000 1"}):  # the last as in a container that was started again
        write_json(folder.path / "run.json", {**told, **now})
        assert folder.status == "dead"
    StageFolder(folder.path).begin(settings={"lr": 2})
    assert folder.status == "running" and folder.manifest["settings"] == {"lr": 2}


def test_one_damaged_record_hides_itself_alone_and_what_to_do_loses_nothing(tmp_path, capsys):
    run = Run("mine", tmp_path)
    for name, text in (("sft", None), ("ppo", '{"stage": "ppo", "st'), ("reward", '{"stage": "reward"}'), ("x", "[1]")):
        run.stage(name).begin(settings={})
        run.stage(name).finish()
        if text:
            (run.stage(name).path / "run.json").write_text(text)
            with pytest.raises(RunError, match="put it aside") as error:
                _ = run.stage(name).status
            assert "Remove" not in str(error.value)
    assert [s.path.name for s in run.stages()] == ["sft"] == [s.path.name for s in run.stages()]
    assert close_gone(run).rows == ()
    said = capsys.readouterr().err
    assert all(said.count(f"{run.stage(name).path} is left out: ") == 1 for name in ("ppo", "reward", "x"))


def test_damaged_facts_of_a_run_are_a_sentence(tmp_path):
    write_json(tmp_path / "mine" / "prompts" / "experiment.json", {"scale": "smoke"})
    assert Run("mine", tmp_path).facts == {"scale": "smoke"}
    (tmp_path / "mine" / "prompts" / "experiment.json").write_text('{"scale": "smo')
    with pytest.raises(RunError, match="experiment.json is not complete JSON"):
        _ = Run("mine", tmp_path).facts


def test_what_was_put_aside_or_is_half_brought_is_no_stage_and_no_stage_takes_such_a_name(tmp_path):
    run = Run("mine", tmp_path)
    for _ in range(2):
        run.stage("reward").begin(settings={})
        run.stage("reward").finish()
    shutil.copytree(run.stage("reward").path, run.path / ".reward.123.brought")
    assert [s.path.name for s in run.stages()] == ["reward"]
    with pytest.raises(SettingsError, match=r"before\.old"):
        run.stage("ppo@before.old").begin(settings={})
    assert not (run.path / "ppo@before.old").exists()


def test_the_commit_is_the_labs_own_or_none(tmp_path):
    code = "from labkit.runs import Run; import sys; s = Run('r', sys.argv[1]).stage('ppo'); s.begin(settings={}); print(s.manifest['commit'])"
    theirs, own = tmp_path / "theirs", tmp_path / "theirs" / "site-packages"
    shutil.copytree(Path(labkit.__file__).parent, own / "labkit", ignore=shutil.ignore_patterns("__pycache__", "world"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    for folder, expected in ((theirs, "None"), (own, None)):
        subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], cwd=folder, check=True)
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout
        told = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], cwd=own, env={**os.environ, "PYTHONPATH": str(own)}, capture_output=True, text=True, check=True
        ).stdout.strip()
        assert told == expected if expected else head.startswith(told.removesuffix("-dirty"))


def test_a_torn_last_line_is_skipped_and_does_not_swallow_the_next(tmp_path):
    file = tmp_path / "x.jsonl"
    append_jsonl(file, {"a": 1}, sync=True)
    with open(file, "a") as out:
        out.write('{"a": 2')
    assert list(read_jsonl(file)) == [{"a": 1}]
    append_jsonl(file, {"a": 3})
    assert list(read_jsonl(file)) == [{"a": 1}, {"a": 3}], "it gives way, or it would be a bad line amid others"
    with open(file, "a") as out:
        out.write('{"a": 4}')  # whole, but for its end
    append_jsonl(file, {"a": 5})
    assert [row["a"] for row in read_jsonl(file)] == [1, 3, 4, 5]
    file.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(RunError, match="line 2 is not JSON"):
        list(read_jsonl(file))


def test_a_bad_last_line_that_has_its_end_was_edited_by_hand_and_is_an_error(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"a": 1}\n{"a": 2, note}\n')
    with pytest.raises(RunError, match="x.jsonl, line 2 is not JSON"):
        list(read_jsonl(file))
    file.write_text('{"a": 1}\n{"a": 2, note}')
    assert list(read_jsonl(file)) == [{"a": 1}], "of a writer that was killed"


TURN = {"knob": "kl_coef", "step": 3, "old": 0.02, "new": 0.05, "outcome": "applied"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        *[({k: v for k, v in TURN.items() if k != name}, f"no '{name}'") for name in TURN],
        ({"knob": "rollback", "old": 5, "new": 3}, "no 'step'"),
        ({**TURN, "step": "three"}, "step = 'three'"),
        ([1, 2], "no 'knob'"),
        (7, "no 'knob'"),
    ],
)
def test_a_row_of_a_ledger_that_lacks_something_is_named_by_file_and_line(tmp_path, row, said):
    folder = StageFolder(tmp_path / "ppo")
    folder.append_ledger(TURN)
    folder.append_ledger({"knob": "rollback", "old": 5, "new": 3, "step": 5})
    assert [r["knob"] for r in folder.ledger()] == ["kl_coef", "rollback"]
    with open(folder.path / "ledger.jsonl", "a") as out:
        out.write(json.dumps(row) + "\n")
    with pytest.raises(RunError, match=f"ledger.jsonl, line 3 .*{said}"):
        folder.ledger()


@pytest.mark.parametrize("row", [7, [1, 2], {"stage": "ppo"}, {"stage": "ppo", "number": 2, "metrix": {}}])
def test_a_line_that_is_no_step_is_named_by_file_and_line(tmp_path, row):
    folder = StageFolder(tmp_path / "ppo")
    folder.append_step(step(1))
    with open(folder.path / "metrics.jsonl", "a") as out:
        out.write(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="metrics.jsonl, line 2: "):
        folder.steps()


def test_a_line_that_found_no_room_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "x.jsonl"
    append_jsonl(file, {"a": 1})
    before = file.read_bytes()
    code = (
        "import resource, signal, sys; from pathlib import Path; from labkit.runs import append_jsonl\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        f"append_jsonl(Path({str(file)!r}), {{'text': 'x' * 100}})"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Could not append to" in ended.stderr and file.read_bytes() == before


def test_a_folder_that_may_not_be_written_is_named_with_another_remedy_than_a_full_disk(tmp_path, monkeypatch):
    """By the system's own answers: the tests may run as root, who may write everywhere."""
    folder = Run("theirs", tmp_path).stage("ppo")
    folder.begin(settings={})
    folder.append_step(step(1))
    folder.finish()

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("labkit.disk.open", refuse, raising=False)
    monkeypatch.setattr("pathlib.Path.rename", refuse)
    for write in (folder.finish, lambda: folder.append_ledger({}), lambda: folder.begin(settings={})):
        with pytest.raises(RunError, match=rf"{folder.path}.*Permission denied. You may not write there: ask its owner") as caught:
            write()
        assert "Free some space" not in str(caught.value) and "LABKIT_RUNS" in str(caught.value)


def test_a_refused_name_says_which_letters_and_how_many():
    """A student by the name of Jörg was told to use letters."""
    with pytest.raises(SettingsError, match="'Jörg' cannot name a labeler: use the letters a to z"):
        check_name("Jörg", "labeler")
    with pytest.raises(SettingsError, match="at most 121 characters"):
        check_name("a" * 122)
    assert check_name("a" * 121)


def test_rewritten_steps_supersede_the_later_ones(tmp_path):
    folder = StageFolder(tmp_path / "ppo")
    for number, value in [(1, 0.1), (2, 0.2), (3, 0.3), (2, 0.9)]:
        folder.append_step(step(number, value))
    assert [(s.number, s.metrics["score"]) for s in folder.steps()] == [(1, 0.1), (2, 0.9)]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a..b", "x" * 200, "a\nb"])
def test_no_name_leaves_the_folder(name):
    with pytest.raises(SettingsError):
        check_name(name)


def test_a_missing_or_damaged_stage_is_named(tmp_path):
    folder = Run("mine", tmp_path).stage("sft")
    with pytest.raises(RunError, match="never started"):
        _ = folder.manifest
    folder.path.mkdir(parents=True)
    (folder.path / "run.json").write_text('{"half')
    with pytest.raises(RunError, match="not complete JSON"):
        _ = folder.manifest
    with pytest.raises(RunError, match="does not exist"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_json(file, {"v": 1})
    write_jsonl(tmp_path / "b.jsonl", [{"v": 1}])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for action in (lambda: write_json(file, {"v": 2}), lambda: write_jsonl(tmp_path / "b.jsonl", [{"v": 2}]),
                   lambda: append_jsonl(tmp_path / "b.jsonl", {"v": 2}, sync=True)):  # fmt: skip
        with pytest.raises(RunError, match="No space left"):
            action()
    assert json.loads(file.read_text()) == {"v": 1}
    assert {p.name for p in tmp_path.iterdir()} == {"a.json", "b.jsonl"}


def automatic(folder, upto, *, every=1, newest=3, spread=5):
    """Snapshots of every `every`-th step, pruned after each as a job does; the most there ever were."""
    most = 0
    for n in range(every, upto + 1, every):
        folder.snapshot(n).mkdir(parents=True)
        folder.prune(newest, spread=spread)
        most = max(most, len(folder.snapshots()))
    return most


def test_pruning_keeps_the_newest_and_those_that_were_asked_for(tmp_path):
    folder = StageFolder(tmp_path / "ppo")
    for n in (1, 2, 3, 4, 5):
        folder.snapshot(n).mkdir(parents=True)
    folder.keep(1)
    folder.prune(2)
    assert folder.snapshots() == [1, 4, 5] and folder.kept() == [1]
    folder.keep(1)
    assert StageFolder(tmp_path / "ppo").kept() == [1], "the mark is on the disk, for whoever comes later"


def test_a_folder_is_another_where_a_file_has_other_content_or_another_name(tmp_path):
    (tmp_path / "a").write_text("one")
    hashes = [file_hash(tmp_path)]
    for change in (lambda: (tmp_path / "a").write_text("two"), lambda: (tmp_path / "a").rename(tmp_path / "b")):
        change()
        hashes.append(file_hash(tmp_path))
    assert len(set(hashes)) == 3


@pytest.mark.parametrize(("upto", "every"), [(30, 2), (60, 1), (500, 10), (1000, 1), (997, 3)])
def test_a_long_run_keeps_few_snapshots_that_reach_over_all_of_it(tmp_path, upto, every):
    folder = StageFolder(tmp_path / "ppo")
    assert automatic(folder, upto, every=every) <= 8
    found = folder.snapshots()
    assert len(found) == 8 and found[-3:] == [upto - upto % every - k * every for k in (2, 1, 0)]
    gaps = [b - a for a, b in zip([0, *found], found, strict=False)]
    assert max(gaps) <= upto / 2, f"no half of the run is without one: {found}"
    assert found[0] <= upto / 3


def test_kept_snapshots_are_not_counted_among_the_few(tmp_path):
    folder = StageFolder(tmp_path / "ppo")
    for n in (5, 6, 7):
        folder.snapshot(n).mkdir(parents=True)
        folder.keep(n)
    for n in range(8, 60):
        folder.snapshot(n).mkdir(parents=True)
        folder.prune(3, spread=5)
    assert folder.kept() == [5, 6, 7] and len(folder.snapshots()) == 3 + 8


def dead_process():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def test_what_a_killed_process_left_half_written_goes_and_what_it_had_moved_away_comes_back(tmp_path):
    folder, dead = StageFolder(tmp_path / "ppo"), dead_process()
    state = folder.path / "state"
    for name in ("000002", "000004", f".000006.{dead}.tmp", f".000002.{dead}.old", f".000003.{dead}.old", f".000007.{os.getppid()}.tmp"):
        (state / name).mkdir(parents=True)
        (state / name / "state.json").write_text(name)
    (folder.path / f".model.{dead}.tmp").mkdir()
    (folder.path / f".run.json.{dead}.tmp").write_text("{")
    (folder.path / "notes.tmp").write_text("mine")
    folder.prune(5)
    assert {p.name for p in state.iterdir()} == {"000002", "000003", "000004", f".000007.{os.getppid()}.tmp"}
    assert (state / "000002" / "state.json").read_text() == "000002" and "old" in (state / "000003" / "state.json").read_text()
    assert {p.name for p in folder.path.iterdir()} == {"state", "notes.tmp"}


def test_a_snapshot_that_is_being_removed_is_no_snapshot_any_more(tmp_path, monkeypatch):
    folder = StageFolder(tmp_path / "ppo")
    for n in (1, 2):
        folder.snapshot(n).mkdir(parents=True)

    def killed(path, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.prune(1)
    assert folder.snapshots() == [2]


def test_a_ranking_that_names_an_unknown_completion_is_named_by_file_and_line(tmp_path):
    prompt, shown = Prompt("p1", "Why?"), (Completion("a", "p1", "So."), Completion("b", "p1", "No."))
    good = Ranking(prompt, shown, (("a",), ("b",)), "L1").to_json()
    file = tmp_path / "rankings.jsonl"
    write_jsonl(file, [good, {**good, "groups": [["a"], ["z"]]}])
    with pytest.raises(DataError, match=r"rankings.jsonl, line 2: .*'p1' by labeler 'L1' names completion 'z'.*\(a, b\)"):
        read_all(Ranking, file)
    write_jsonl(file, [good, {"prompt": good["prompt"]}])
    with pytest.raises(DataError, match="rankings.jsonl, line 2: This Ranking is not complete: it has no 'completions'"):
        read_all(Ranking, file)
    write_jsonl(file, [good, good])
    assert len(read_all(Ranking, file)) == 2


@pytest.mark.parametrize("content", ['{"sca', "[1]", "null", b"\xff"])
def test_a_torn_statement_of_what_a_run_was_prepared_with_is_one_sentence(tmp_path, content):
    run = Run("torn", tmp_path)
    file = run.path / FACTS
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for ask in (lambda: run.facts, lambda: Experiment(run, scale="smoke", model="small")):
        with pytest.raises(RunError, match=r"experiment.json is not complete JSON.*Remove it and run 01_prompts again.*--only 01_prompts --again"):
            ask()
    file.unlink()
    assert run.facts == {}
