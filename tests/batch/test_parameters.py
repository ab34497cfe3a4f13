"""Parameters of notebooks: what is read, what is refused, before anything runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit.batch import begin, check_parameters, read_parameters
from labkit.batch.parameters import find_notebook, injected_names, parse_assignments
from labkit.errors import RunError, SettingsError
from labkit.knobs import PPOKnobs
from labkit.runs import runs_root
from tests.batch.tiny import PARAMETERS, write_notebook


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write_notebook(tmp_path / "05_tiny.ipynb")


def test_reads_names_defaults_comments_and_bounds(notebook: Path) -> None:
    found = read_parameters(notebook)
    assert list(found) == ["run", "seed", "kl_coef", "scale", "quick", "pairs"]
    assert (found["pairs"].default, found["pairs"].low, found["pairs"].high) == (200, 10, 5000)
    assert found["pairs"].doc == "Comparisons to show."
    assert found["scale"].choices == ("small", "full")


def test_bounds_of_a_knob_come_from_the_knob(notebook: Path) -> None:
    meta = PPOKnobs.__dataclass_fields__["kl_coef"].metadata
    found = read_parameters(notebook)["kl_coef"]
    assert (found.low, found.high) == (meta["low"], meta["high"])


def test_a_meaning_that_begins_with_a_symbol_keeps_it(tmp_path: Path) -> None:
    cell = "run = 'x'  # name of the run\nkl_coef = 0.1  # β: weight of the KL penalty"
    found = read_parameters(write_notebook(tmp_path / "x.ipynb", parameters=cell))
    assert [p.doc for p in found.values()] == ["Name of the run.", "β: weight of the KL penalty."]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kl_cof": 0.1}, ["kl_cof", "Did you mean kl_coef", "05_tiny"]),
        ({"kl_coef": 11.0}, ["kl_coef", "11", "0 and 10"]),
        ({"kl_coef": float("nan")}, ["kl_coef", "nan"]),
        ({"kl_coef": "0.1"}, ["kl_coef", "a number"]),
        ({"seed": 1.5}, ["seed", "whole number"]),
        ({"seed": True}, ["seed", "whole number"]),
        ({"quick": 1}, ["quick", "True or False"]),
        ({"pairs": 9}, ["pairs", "10 and 5000"]),
        ({"scale": "huge"}, ["scale", "small, full"]),
        ({"run": 5}, ["run", "a text"]),
    ],
)
def test_refuses_with_a_sentence_that_names_the_parameter(notebook: Path, given: dict, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        check_parameters(read_parameters(notebook), given, "05_tiny")
    assert all(word in str(caught.value) for word in words)


def test_whole_numbers_serve_where_a_number_is_asked(notebook: Path) -> None:
    values = check_parameters(read_parameters(notebook), {"kl_coef": 1}, "05_tiny")
    assert values["kl_coef"] == 1.0 and isinstance(values["kl_coef"], float)
    assert values["pairs"] == 200


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("\n".join(f"p{i} = {i}  # number {i}" for i in range(8)), "8 parameters"),
        ("kl_coef = 0.02", "no comment"),
        ("kl_coef = [1, 2]  # a list", "one number"),
        ("kl_coef = 1 / 50  # an expression", "one number"),
        ("a, b = 1, 2  # two at once", "no plain"),
        ("import os  # not a parameter", "no plain"),
    ],
)
def test_a_parameters_cell_is_plain(tmp_path: Path, cell: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_parameters(write_notebook(tmp_path / "x.ipynb", parameters=cell))


def test_damaged_notebooks_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ipynb"
    broken.write_text('{"cells": [')
    with pytest.raises(SettingsError, match=r"broken\.ipynb is not a notebook"):
        read_parameters(broken)
    with pytest.raises(SettingsError, match="0 cells tagged 'parameters'"):
        broken.write_text('{"cells": []}')
        read_parameters(broken)


def test_command_line_values_are_parsed_by_the_type_of_the_default(notebook: Path) -> None:
    found = read_parameters(notebook)
    assert found["kl_coef"].parse("1e-3", "05_tiny") == 1e-3
    assert found["quick"].parse("false", "05_tiny") is False
    assert found["run"].parse("7", "05_tiny") == "7"
    for name, text in [("seed", "1.5"), ("kl_coef", "much"), ("quick", "perhaps"), ("pairs", "1")]:
        with pytest.raises(SettingsError, match=name):
            found[name].parse(text, "05_tiny")


def test_assignments_of_the_command_line() -> None:
    assert parse_assignments(["a=1", "b = x=y"]) == {"a": "1", "b": "x=y"}
    for bad in (["a"], ["=1"], ["2a=1"], ["a=1", "a=2"]):
        with pytest.raises(SettingsError):
            parse_assignments(bad)


def test_unknown_notebook_lists_the_known_ones(notebook: Path) -> None:
    assert find_notebook("05_tiny", notebook.parent) == notebook
    assert find_notebook(notebook) == notebook
    with pytest.raises(SettingsError, match="There are 05_tiny"):
        find_notebook("06_tiny", notebook.parent)


def test_an_unknown_notebook_names_each_folder_once(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(SettingsError) as caught:
        find_notebook("99_x")
    assert str(caught.value).count(str(repository / "notebooks")) == 1


def test_only_the_injected_cell_counts_as_given() -> None:
    history = ["", "run = 'x'", "# Parameters\nkl_coef = 0.1\nbogus = 1\n", "later = 3"]
    assert injected_names({"In": history}) == ["kl_coef", "bogus"]


def test_the_folder_of_runs_may_be_named_from_home_or_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_RUNS", "~/runs")
    assert runs_root() == tmp_path.resolve() / "runs"
    monkeypatch.setenv("LABKIT_RUNS", "mine")
    monkeypatch.chdir(tmp_path)
    root = runs_root()
    monkeypatch.chdir("/")
    assert root == tmp_path.resolve() / "mine", "a folder, wherever the kernel goes afterwards"


def test_in_notebooks_the_runs_beside_it_are_meant_and_where_there_are_two_a_line_says_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LABKIT_RUNS", raising=False)
    stray, beside = tmp_path / "notebooks" / "runs", tmp_path / "runs"
    stray.parent.mkdir()
    monkeypatch.chdir(stray.parent)
    assert runs_root() == beside
    stray.mkdir()
    assert runs_root() == stray and capsys.readouterr().err == "", "there is no other"
    beside.mkdir()
    assert (runs_root(), runs_root()) == (stray, stray)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(stray) in said and f"LABKIT_RUNS={beside}" in said
    monkeypatch.chdir(tmp_path)
    assert runs_root() == beside
    monkeypatch.setenv("LABKIT_RUNS", str(stray))
    assert runs_root() == stray and capsys.readouterr().err == ""


@pytest.mark.parametrize(("given", "meant"), [([], "../runs/none"), (["--root", "runs"], "runs/none")])
def test_a_command_given_in_notebooks_makes_no_runs_of_its_own_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: list[str], meant: str
) -> None:
    """They would be those of every notebook that is opened there from then on."""
    from labkit.cli import app

    monkeypatch.delenv("LABKIT_RUNS", raising=False)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    error = CliRunner().invoke(app, ["close", "none", *given]).exception
    assert isinstance(error, RunError) and Path(str(error).split(" does not exist")[0]).resolve() == Path(meant).resolve()


def test_begin_checks_what_stands_in_the_namespace(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_RUNS", str(notebook.parent / "runs"))
    namespace: dict = {}
    exec(PARAMETERS, namespace)
    session = begin(namespace, notebook=notebook)
    assert session.parameters["kl_coef"] == 0.02
    assert session.run.path == notebook.parent / "runs" / "tiny"
    namespace["kl_coef"] = -1.0  # edited by hand in the cell
    with pytest.raises(SettingsError, match="kl_coef"):
        begin(namespace, notebook=notebook)
    with pytest.raises(SettingsError, match="bogus"):
        begin({**namespace, "kl_coef": 0.1, "bogus": 1, "In": ["# Parameters\nbogus = 1\n"]}, notebook=notebook)
    with pytest.raises(SettingsError, match="run is not defined; run the parameters cell"):
        begin({}, notebook=notebook)
