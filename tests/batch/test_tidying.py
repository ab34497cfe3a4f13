"""What lies aside is listed, and freed only where a person names it; whatever may be in use stays, and nothing else is touched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.batch.parents import bring
from labkit.batch.records import record_of
from labkit.batch.tidying import tidy
from labkit.disk import write_json
from labkit.errors import RunError
from labkit.runs import Run, StageFolder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("mine", tmp_path / "runs")


@pytest.fixture(scope="module")
def dead() -> int:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def trained(stage: StageFolder, content: str = "weights") -> StageFolder:
    stage.begin(settings={})
    stage.model.mkdir()
    (stage.model / "model.safetensors").write_text(content)
    stage.finish()
    return stage


def put_aside(stage: StageFolder, content: str = "weights", **told: object) -> Path:
    """Train a stage again; returns where the one before lies, of which `told` is said."""
    before = set(stage.path.parent.glob("*.old"))
    trained(stage if stage.has_model else trained(stage, content))
    (aside,) = set(stage.path.parent.glob("*.old")) - before
    write_json(aside / "run.json", {**StageFolder(aside).manifest, **told})
    return aside


def half(path: Path, process: int, kind: str = "tmp") -> Path:
    made = path.with_name(f".{path.name}.{process}.{kind}")
    made.mkdir(parents=True)
    (made / "model.safetensors").write_text("half of it")
    return made


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def test_looking_lists_what_lies_aside_with_size_and_age_and_frees_nothing(run: Run, dead: int) -> None:
    first = put_aside(run.stage("ppo"), "w" * 5_000_000)
    record = put_aside(record_of(run, "05_x"))
    point = put_aside(Run("seed=1", run.path).stage("ppo"))
    snapshot, brought = half(run.stage("ppo").snapshot(2), dead), half(run.path / "seed=1" / "sft", dead, "brought")
    for own in ("ppo@before.old", "notes.old", "drafts.20261127.old", ".mine.tmp"):
        (run.path / own).mkdir()
    before = tree(run.path)
    found = tidy(run.path, silent=0)
    assert {row.part: row.what for row in found.rows} == {
        first.name: "put aside", f"notebooks/{record.name}": "put aside", f"seed=1/{point.name}": "put aside",
        f"ppo/state/{snapshot.name}": "half written or removed", f"seed=1/{brought.name}": "half brought",
    }  # fmt: skip
    (row,) = (row for row in found.rows if row.part == first.name)
    assert row.size > 5_000_000 and "5 MB" in found.text() and "0 min ago" in found.text() and "Nothing was freed" in found.text()
    assert tree(run.path) == before and not found.refused and not any(row.freed for row in found.rows)
    assert {r.part for r in tidy(run.path.parent, silent=0).rows} == {f"mine/{r.part}" for r in found.rows}, "of all runs"


def test_only_what_is_named_is_freed(run: Run, dead: int) -> None:
    first, second, other = put_aside(run.stage("ppo")), put_aside(run.stage("ppo")), put_aside(run.stage("sft"))
    snapshot = half(run.stage("ppo").snapshot(2), dead)
    before = tree(run.path)
    assert [r.part for r in tidy(run.path, [first.name], silent=0).rows if r.freed] == [first.name]
    kept = {name: content for name, content in before.items() if not name.startswith(first.name)}
    assert tree(run.path) == kept
    found = tidy(run.path, ["ppo.*.old", "ppo/*"], silent=0)
    assert not second.exists() and not snapshot.exists() and other.exists() and "Freed" in found.text()
    with pytest.raises(RunError, match=f"called 'ppo'; there is {other.name}. Nothing was freed"):
        tidy(run.path, ["*", "ppo"], silent=0)
    assert other.exists() and trained(run.stage("ppo")).has_model


@pytest.mark.parametrize("told", [{}, {"host": "node7", "pid": 4711}])
def test_a_stage_whose_owner_lives_or_may_live_stays(run: Run, dead: int, told: dict[str, object]) -> None:
    """As that of a job which is paused while its stage is begun anew; from here nobody can look at another machine."""
    aside = put_aside(run.stage("ppo"), status="running", **told)
    record = put_aside(Run("rounds", run.path).stage("x"))
    (record / "2").mkdir()
    write_json(record / "2" / "run.json", {**StageFolder(aside).manifest})
    writing = trained(run.stage("sft"))
    write_json(writing.path / "run.json", {**writing.manifest, "status": "running", **told})
    inside = half(writing.snapshot(3), dead)
    before = tree(run.path)
    found = tidy(run.path, ["*"], silent=0)
    assert tree(run.path) == before and len(found.refused) == 3
    assert all(path.name in " ".join(found.refused) for path in (aside, record, inside))
    assert "says that it is writing" in found.refused[0]
    for stage in (aside, record / "2", writing.path):
        write_json(stage / "run.json", {**StageFolder(stage).manifest, "host": os.uname().nodename, "pid": dead})
    assert not tidy(run.path, ["*"], silent=0).refused and not aside.exists() and not inside.exists()


def test_what_is_half_done_stays_where_somebody_may_be_at_work_on_it(run: Run, dead: int) -> None:
    living, fresh = half(run.path / "sft", os.getpid(), "brought"), half(run.path / "sft", dead, "brought")
    found = tidy(run.path, ["*"])
    assert living.exists() and fresh.exists()
    assert f"process {os.getpid()} may be at work" in " ".join(found.refused) and "another machine" in " ".join(found.refused)
    assert not tidy(run.path, [fresh.name], silent=0).refused and not fresh.exists()
    assert tidy(run.path, ["*"], silent=0).refused and living.exists()


def test_what_was_to_be_replaced_stays_where_nothing_took_its_place(run: Run, dead: int) -> None:
    only = half(run.path / "sft" / "model", dead, "old")
    found = tidy(run.path, ["*"], silent=0)
    assert "all that there is of model" in found.refused[0] and only.exists()
    (run.path / "sft" / "model").mkdir()
    assert not tidy(run.path, ["*"], silent=0).refused and not only.exists()


def test_a_record_that_tells_nothing_stays(run: Run) -> None:
    aside = put_aside(run.stage("ppo"))
    (aside / "run.json").write_text("{")
    assert "cannot be read" in tidy(run.path, ["*"]).refused[0] and aside.exists()


def test_links_go_and_what_they_lead_to_stays(run: Run, tmp_path: Path) -> None:
    """Weights that a sweep's point shares with its base, a stage that lies on another disk, and a link inside of one."""
    stage, base = run.stage("ppo"), trained(Run("base", tmp_path / "runs").stage("ppo"), "w" * 100_000)
    bring(base.path, stage.path)
    (stage.path / "more").symlink_to(base.path)
    bring(base.path, stage.path)
    far = trained(StageFolder(tmp_path / "far" / "sft"))
    run.stage("sft").path.symlink_to(far.path)
    run.stage("sft").begin(settings={})
    before = tree(base.path), tree(far.path)
    found = tidy(run.path, ["*"])
    assert len(found.rows) == 2 and all(row.freed and row.size < 100_000 for row in found.rows) and not list(run.path.glob("*.old"))
    assert (tree(base.path), tree(far.path)) == before and stage.has_model


def test_the_command_lists_frees_and_refuses(run: Run, tmp_path: Path) -> None:
    def labkit(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "labkit.cli", "tidy", *arguments, "--root", str(tmp_path / "runs")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    aside, living = put_aside(run.stage("ppo")), half(run.path / "sft", os.getpid())
    looked = labkit("mine")
    assert looked.returncode == 0 and aside.name in looked.stdout and "--free" in looked.stdout and aside.exists()
    assert f"mine/{aside.name}" in labkit().stdout
    freed = labkit("mine", "--free", "*", "--json")
    assert {r["part"]: r["freed"] for r in json.loads(freed.stdout)["aside"]} == {aside.name: True, living.name: False}
    assert freed.returncode == 1 and "at work" in freed.stderr and "Traceback" not in freed.stderr and not aside.exists()
    assert labkit("nobody").returncode == 1 and labkit("mine", "--free", "ppo").returncode == 1
    assert run.stage("ppo").has_model
