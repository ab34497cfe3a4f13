"""A folder of one's own is the same one from wherever a command is given: it is stored by its absolute path."""

from pathlib import Path

import pytest

from labkit.batch.pipeline import plan
from labkit.batch.records import stale
from labkit.batch.session import begin
from labkit.batch.sweep import grid
from labkit.disk import write_json
from labkit.errors import RunError, SettingsError
from labkit.experiment import Experiment
from labkit.runs import FACTS, Run
from tests.batch.test_records import finish
from tests.batch.tiny import write_notebook

PARAMETERS = """\
run = "tiny"  # name of the folder under runs/
seed = 0  # every random draw comes from it
kl_coef = 0.02  # β: weight of the KL penalty
model = "medium"  # what the policy starts from
judge = ""  # what the reward model starts from; empty: the reader for the world's bases, else the same model
data = "world"  # "world", or a folder of your own"""

#: A model and data as they are typed in a folder, and what a run from before stored of that.
TYPED = {"model": "mine/model", "data": "mine"}
OLD = {"scale": "tour", "seed": 0, "reward_base": "mine/model", **TYPED}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the first commands are given, which holds the model and the data."""
    write_json(tmp_path / "here" / "mine" / "model" / "config.json", {})
    (tmp_path / "here" / "mine" / "demonstrations.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder in which the same words name other files."""
    write_json(tmp_path / "elsewhere" / "mine" / "model" / "config.json", {"another": True})
    (tmp_path / "elsewhere" / "mine" / "demonstrations.jsonl").write_text('{"another": 1}\n')
    return tmp_path / "elsewhere"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("tiny", tmp_path / "runs")


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write_notebook(tmp_path / "01_tiny.ipynb", parameters=PARAMETERS)


def whole(here: Path) -> dict[str, str]:
    return {name: str(here / word) for name, word in TYPED.items()}


def test_an_experiment_finds_its_folders_from_everywhere(
    here: Path, elsewhere: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Experiment(run, **TYPED)
    assert made.facts == {**OLD, **whole(here), "reward_base": str(here / "mine" / "model")}
    write_json(run.path / FACTS, made.facts)
    monkeypatch.chdir(elsewhere)
    later = Experiment(run)
    assert (later.source.folder, later.model, later.reward_base) == (here / "mine", *[str(here / "mine" / "model")] * 2)
    assert Experiment(run, **whole(here)).facts == made.facts
    with pytest.raises(RunError, match=f"was prepared with data = '{here / 'mine'}', now it is '{elsewhere / 'mine'}'"):
        Experiment(run, data="mine")


@pytest.mark.parametrize("given", [{"model": "medium", "data": "world"}, {"model": "some/hub-model"}, {"model": "gone/model", "data": "gone"}, {}])
def test_names_stay_also_where_a_folder_is_called_so(here: Path, run: Run, given: dict[str, str]) -> None:
    for name in ("medium", "world", "reader"):
        (here / name).mkdir()
    facts = Experiment(run, **given).facts
    assert facts == {**facts, **given} and not any(str(here) in str(value) for value in facts.values())


def test_what_was_stored_before_as_it_was_typed_works_where_it_was_typed(here: Path, run: Run, notebook: Path) -> None:
    write_json(run.path / FACTS, OLD)
    assert Experiment(run).source.folder == here / "mine"
    for given in ({}, TYPED, whole(here), {**TYPED, "judge": "mine/model"}):
        assert Experiment(run, **{n: v for n, v in given.items() if n != "judge"}).data == str(here / "mine"), given
        assert [row.action for row in plan(run, [notebook], given)] == ["run"], "and is no other data"
    (here / "other").mkdir()
    with pytest.raises(RunError, match="was prepared with data"):
        Experiment(run, data="other")
    with pytest.raises(SettingsError, match="was prepared with data = 'mine', not 'other'"):
        plan(run, [notebook], {"data": "other"})


def test_what_is_done_holds_whichever_way_its_folders_are_named(
    here: Path, elsewhere: Path, run: Run, notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(run.path / FACTS, {**OLD, **whole(here), "reward_base": str(here / "mine" / "model")})
    finish(run, notebook, **TYPED)
    for given in ({}, TYPED, whole(here)):
        assert [row.action for row in plan(run, [notebook], given)] == ["skip"], given
    monkeypatch.chdir(elsewhere)
    for given in ({}, whole(here)):
        assert [row.action for row in plan(run, [notebook], given)] == ["skip"], given
    with pytest.raises(SettingsError, match="was prepared with"):
        plan(run, [notebook], TYPED)


def test_a_record_from_before_is_not_stale_for_the_way_it_names_its_folders(
    here: Path, run: Run, notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(run.path / FACTS, OLD)
    finish(run, notebook, **TYPED)
    record = run.path / "notebooks" / notebook.stem / "run.json"
    record.write_text(record.read_text().replace(str(here) + "/", ""))
    assert str(here) not in record.read_text()
    for given in ({}, TYPED, whole(here)):
        assert [(row.action, row.why) for row in plan(run, [notebook], given)] == [("skip", "done and unchanged")], given


def test_a_notebook_by_hand_states_its_folders_whole(here: Path, notebook: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "runs"))
    names: dict = {}
    exec(PARAMETERS, names)
    session = begin({**names, **TYPED}, notebook=notebook)
    assert session.parameters == {**session.parameters, **whole(here), "judge": ""}
    session.finish()
    assert stale(session.run, notebook, session.parameters) == ""


def test_a_sweeps_points_are_called_as_typed_and_state_their_folders_whole(here: Path, notebook: Path) -> None:
    points = grid(notebook, {"data": "mine,world", "seed": "00"})
    assert [p.name for p in points] == ["seed=0,data=mine", "seed=0,data=world"]
    assert [(p.given["data"], p.parameters["data"]) for p in points] == [(str(here / "mine"),) * 2, ("world",) * 2]
