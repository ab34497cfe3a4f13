"""What a point of a sweep gets of the run that it starts from: whole, its own from then on, and never under a notebook at work."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.batch.parents import bring, bring_parents
from labkit.batch.records import pipeline_notebooks, record_of
from labkit.batch.session import Session
from labkit.batch.sweep import sweep
from labkit.disk import append_jsonl, read_jsonl, write_json, write_jsonl
from labkit.errors import RunError
from labkit.runs import Run, StageFolder
from labkit.types import Prompt, Step
from tests.batch.tiny import write_notebook


def test_stages_under_way_and_later_ones_are_not_brought(tmp_path: Path) -> None:
    """A base whose 05 is at work, or which the tour made: no record says which stages are later than the notebook."""
    notebook = write_notebook(tmp_path / "05_ppo_ptx.ipynb", makes=["ppo", "ppo_ptx"])
    write_notebook(tmp_path / "06_evaluate.ipynb", makes=["evaluate"])
    base, run = Run("base", tmp_path), Run("seed=0", tmp_path / "s")
    for stage in ("reward", "evaluate", "ppo", "ppo_ptx@gentle", "sft"):
        base.stage(stage).begin(settings={})
        if stage != "sft":
            base.stage(stage).finish()
    bring_parents(base, run, notebook)
    assert {s.path.name for s in run.stages()} == {"reward"}


def test_what_the_notebook_and_later_ones_make_is_not_brought_whoever_made_it(tmp_path: Path, repository: Path) -> None:
    """The tour made everything in one go; a point that trains SFT anew must not meet a reward model of the old one."""
    base = Run("tour", tmp_path)
    for name in ("prompts", "demonstrations", "rankings", "labels"):
        write_jsonl(base.path / name / "train.jsonl", [])
    for stage in ("sft", "ppo_init", "reward", "ppo", "ppo_ptx", "evaluate"):
        base.stage(stage).begin(settings={})
        base.stage(stage).finish()
    order = ["prompts demonstrations", "sft ppo_init", "rankings labels", "reward", "ppo ppo_ptx", "evaluate"]
    for place, notebook in enumerate(pipeline_notebooks(repository / "notebooks")):
        run = Run(notebook.stem, tmp_path / "s")
        bring_parents(base, run, notebook)
        there = {p.name for p in run.path.iterdir()} - {".brought.json"}
        assert there == set(" ".join(order[:place]).split()), notebook.stem


def test_a_notebook_that_makes_more_than_it_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "runs"))
    session = Session(write_notebook(tmp_path / "05_x.ipynb", makes=["ppo"]), {"run": "mine"})
    for stage in ("ppo", "ppo@gentle", "other"):
        (made := StageFolder(session.run.path / stage)).begin(settings={})
        made.finish()
    session.finish(stages=["ppo", "ppo@gentle"])
    with pytest.raises(RunError, match=r"05_x made other, but its metadata say that it makes ppo; name it there"):
        session.finish(stages=["ppo", "other"])


def test_another_epoch_chosen_after_the_end_is_noticed(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb")
    base, run = Run("base", tmp_path), Run("seed=0", tmp_path / "s")
    base.stage("sft").begin(settings={})
    base.stage("sft").finish()
    for epoch in (1, 3):
        write_json(base.stage("sft").path / "epochs.json", {"chosen": epoch})
        bring_parents(base, run, notebook)
    assert json.loads((run.stage("sft").path / "epochs.json").read_text()) == {"chosen": 3}


def test_a_worker_that_stands_elsewhere_is_given_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr("labkit.batch.sweep.ray_engine", lambda tasks, jobs, say: given.extend(tasks) or {})
    monkeypatch.chdir(tmp_path)
    sweep(write_notebook(tmp_path / "05_x.ipynb"), {"seed": "0,1"}, name="s", root=Path("runs"), ray=True)
    assert len(given) == 2 and all(run.path.is_absolute() and tmp_path in run.path.parents for _, run, _ in given)


def test_parents_are_brought_once_and_again_where_the_base_changed(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb")
    base, run = Run("base", tmp_path), Run("seed=0", tmp_path / "s")
    write_jsonl(base.path / "labels" / "ada.jsonl", [{"rank": 1}])
    for stage in ("reward", "ppo"):
        base.stage(stage).begin(settings={})
        (base.stage(stage).model).mkdir()
        (base.stage(stage).model / "weights").write_text("old")
        base.stage(stage).finish()
    record = record_of(base, "05_x")
    record.begin(settings={})
    record.finish(stages=["ppo"])
    bring_parents(base, run, notebook)
    assert run.stage("reward").status == "done" and run.stage("ppo").status == "missing"
    assert os.path.samefile(base.stage("reward").model / "weights", run.stage("reward").model / "weights")
    assert not os.path.samefile(base.path / "labels" / "ada.jsonl", run.path / "labels" / "ada.jsonl")

    run.stage("ppo").begin(settings={})
    run.stage("ppo").finish()
    append_jsonl(run.path / "labels" / "ada.jsonl", {"rank": 2})
    bring_parents(base, run, notebook)
    assert len(list(read_jsonl(run.path / "labels" / "ada.jsonl"))) == 2, "what the point made itself stays"
    assert not list(run.path.glob("*.old")) and run.stage("ppo").status == "done"

    base.stage("reward").begin(settings={"again": True})
    base.stage("reward").finish()
    bring_parents(base, run, notebook)
    assert run.stage("reward").manifest["settings"] == {"again": True}
    assert len(list(run.path.glob("reward*.old"))) == 1
    with pytest.raises(RunError, match="does not exist"):
        bring_parents(Run("nobody", tmp_path), run, notebook)


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_is_brought_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "demonstrations", tmp_path / "round" / "demonstrations"
    write_jsonl(source / "train.jsonl", [{"n": i} for i in range(3)])
    write_jsonl(source / "valid.jsonl", [{"n": 4}])
    with monkeypatch.context() as patched:  # killed before all of it was there
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            bring(source, target)
    assert not target.exists()
    bring(source, target)
    assert sorted(p.name for p in target.iterdir()) == ["train.jsonl", "valid.jsonl"]
    assert len(list(read_jsonl(target / "train.jsonl"))) == 3


def test_what_the_base_appends_later_does_not_come_into_the_point(tmp_path: Path) -> None:
    """A rollback of an ended stage, or its resume, writes on in the files that are there."""
    source, target = StageFolder(tmp_path / "base" / "reward"), StageFolder(tmp_path / "point" / "reward")
    source.begin(settings={})
    request = {"time": 1.0, "knob": "lr_scale", "asked": 0.5, "step": 1, "old": 1.0, "new": 0.5, "by": "hand", "outcome": "applied"}
    source.append_ledger(request)
    source.append_step(Step("reward", 1, {}, {}))
    source.finish("stopped")
    for name in ("model", "epochs/01", "adapters"):
        (source.path / name).mkdir(parents=True)
        (source.path / name / "weights").write_text("w")
    bring(source.path, target.path)
    source.append_ledger({**request, "knob": "rollback", "new": 0})
    source.append_step(Step("reward", 2, {}, {}))
    assert len(target.ledger()) == len(target.steps()) == 1
    target.append_evaluation({"step": 1})
    assert not source.evaluations()
    for name in ("model", "epochs/01", "adapters"):
        assert os.path.samefile(source.path / name / "weights", target.path / name / "weights"), "weights are never written into"


def test_what_is_brought_from_a_run_that_nobody_may_write_is_the_points_own_to_write(tmp_path: Path) -> None:
    """A teacher's run, made safe by chmod -R a-w; weights that are linked stay as they are there."""
    source = StageFolder(tmp_path / "base" / "sft")
    source.begin(settings={})
    source.append_step(Step("sft", 1, {}, {}))
    source.finish()
    source.model.mkdir()
    (source.model / "weights").write_text("w")
    write_jsonl(tmp_path / "base" / "labels" / "ada.jsonl", [{"rank": 1}])
    theirs = [tmp_path / "base", *(tmp_path / "base").rglob("*")]
    try:
        for path in theirs:
            path.chmod(path.stat().st_mode & ~0o222)
        for name in ("sft", "labels"):
            bring(tmp_path / "base" / name, tmp_path / "mine" / name)
        shut = {p.relative_to(tmp_path / "mine") for p in (tmp_path / "mine").rglob("*") if not p.stat().st_mode & 0o200}
        assert shut <= {Path("sft/model/weights")} and not any(p.stat().st_mode & 0o222 for p in theirs)
    finally:
        for path in theirs:
            path.chmod(path.stat().st_mode | 0o200)


def test_what_cannot_be_brought_is_one_sentence_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = StageFolder(tmp_path / "theirs" / "reward")
    stage.begin(settings={})
    stage.finish()
    target = tmp_path / "mine" / "reward"
    bring(stage.path, target)
    before = (target / "run.json").read_bytes()

    def refuse(source: str, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(source))

    monkeypatch.setattr("shutil.copy2", refuse)
    monkeypatch.setattr("labkit.disk.open", refuse, raising=False)
    with pytest.raises(RunError, match=rf"^{stage.path} could not be brought to {target}: .*You may not read .*chmod"):
        bring(stage.path, target)
    assert [p.name for p in target.parent.iterdir()] == ["reward"] and (target / "run.json").read_bytes() == before


@contextlib.contextmanager
def another_process_in(stage: Path) -> Iterator[None]:
    """Inside, a process of its own has begun that stage, and lives."""
    code = f"from labkit.runs import StageFolder; StageFolder({str(stage)!r}).begin(settings={{}}); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        yield
        process.stdin.close()


def test_a_point_at_work_is_left_to_whoever_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same line in a second terminal, after the base trained its reward model anew, swapped it under the running point."""
    notebook, base = write_notebook(tmp_path / "05_x.ipynb"), Run("base", tmp_path)
    monkeypatch.setattr("labkit.batch.sweep.local_engine", lambda tasks, *_: {run.name: None for _, run, _ in tasks})
    said: list[str] = []

    def again(what: str) -> tuple[list[str], list[str]]:
        """Which points run, and what each has, after the base has another reward model."""
        base.stage("reward").begin(settings={})
        base.stage("reward").model.mkdir()
        (base.stage("reward").model / "weights").write_text(what)
        base.stage("reward").finish()
        said.clear()
        ran = sweep(notebook, {"seed": "0,1"}, name="s", root=tmp_path, base=base, say=said.append)
        points = [tmp_path / "s" / point for point in ("seed=0", "seed=1")]
        return sorted(ran), [(point / "reward" / "model" / "weights").read_text() for point in points]

    assert again("old") == (["seed=0", "seed=1"], ["old", "old"])
    with another_process_in(record_of(Run("seed=0", tmp_path / "s"), "05_x").path):
        assert again("new") == (["seed=1"], ["old", "new"])
        assert said[0].startswith("seed=0 is being run by another process") and "2 points, 0 done, 1 under way elsewhere, 1 to run" in said[1]
    assert again("newer") == (["seed=0", "seed=1"], ["newer", "newer"]), "that process is gone"


def test_rounds_of_the_base_are_not_brought(tmp_path: Path) -> None:
    base, run = Run("base", tmp_path), Run("seed=0", tmp_path / "s")
    for name in ("rounds/2/rankings/train.jsonl", "rankings/train.jsonl", "benchmarks/results.json", "evaluate-methods/samples.jsonl"):
        write_jsonl(base.path / name, [{"n": 1}])
    bring_parents(base, run, write_notebook(tmp_path / "05_x.ipynb"))
    assert {p.name for p in run.path.iterdir()} == {"rankings", ".brought.json"}, "what was measured of the base is not the point's"


def test_a_point_states_its_own_seed_and_keeps_that_of_the_data(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "05_x.ipynb")
    base, run = Run("base", tmp_path), Run("seed=1", tmp_path / "s")
    write_json(base.path / "prompts" / "experiment.json", {"scale": "small", "seed": 0})
    for _ in range(2):
        bring_parents(base, run, notebook, seed=1)
        stated = json.loads((run.path / "prompts" / "experiment.json").read_text())
        assert stated == {"scale": "small", "seed": 1, "data_seed": 0}
    assert json.loads((base.path / "prompts" / "experiment.json").read_text())["seed"] == 0
    assert not list(run.path.glob("*.old"))


def test_a_point_with_another_seed_trains_on_the_same_shares_of_prompts(tmp_path: Path) -> None:
    """What PPO learns from at seed 1 is not what SFT learnt from at the base run's seed 0."""
    from labkit.experiment import Experiment

    rows = [Prompt(f"p{i}", f"prompt {i}", split="train").to_json() for i in range(90)]
    facts = {"scale": "smoke", "seed": 0, "model": "small", "reward_base": "reader", "data": "world"}
    shares = []
    for name, stated in (("base", facts), ("seed=1", {**facts, "seed": 1, "data_seed": 0})):
        run = Run(name, tmp_path)
        write_jsonl(run.path / "prompts" / "train.jsonl", rows)
        write_json(run.path / "prompts" / "experiment.json", stated)
        lab = Experiment(run, scale="smoke", seed=stated["seed"])
        shares.append([[p.id for p in lab.prompts("train", use)] for use in ("sft", "reward", "ppo")])
    assert shares[0] == shares[1] and all(shares[0])
