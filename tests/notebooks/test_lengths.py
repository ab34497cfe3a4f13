"""How long 02 and 05 train is a parameter: every job of theirs is told, and another length makes what is done stale.

That the executed notebooks then train so long, and say so, is in test_whole.py.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.batch.notebooks import resolve_parameters
from labkit.batch.parameters import read_parameters
from labkit.batch.records import inputs_of, record_of, stale
from labkit.errors import SettingsError
from labkit.runs import Run
from tests.conftest import REPOSITORY

SFT, PPO = (REPOSITORY / "notebooks" / f"{name}.ipynb" for name in ("02_sft", "05_ppo_ptx"))
LENGTHS = pytest.mark.parametrize(("notebook", "name"), [(SFT, "epochs"), (PPO, "steps")], ids=["02", "05"])


def calls(notebook: Path, name: str) -> Iterator[dict[str, str]]:
    """The keywords of each call of lab.NAME in the notebook's cells, as they are written."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for node in ast.walk(ast.parse("".join(cell["source"]))) if cell["cell_type"] == "code" else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
                yield {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}


@LENGTHS
def test_the_length_is_asked_for_and_nothing_asked_is_the_scales(notebook: Path, name: str) -> None:
    assert resolve_parameters(notebook, {}, "x")[name] == 0
    assert resolve_parameters(notebook, {name: "20"}, "x")[name] == 20
    assert "the scale says" in read_parameters(notebook)[name].doc
    for bad in ("-1", "1000000", "2.5"):
        with pytest.raises(SettingsError, match=name):
            resolve_parameters(notebook, {name: bad}, "x")


def test_every_job_is_told() -> None:
    assert [told.get("steps") for told in calls(PPO, "ppo_job")] == ["steps", "steps"], "PPO-ptx, and PPO beside it"
    assert [told.get("epochs") for told in calls(SFT, "sft_job")] == ["epochs", None], "the PPO init has its own"


@LENGTHS
def test_another_length_makes_what_is_done_stale(tmp_path: Path, notebook: Path, name: str) -> None:
    run = Run("x", tmp_path)
    values = resolve_parameters(notebook, {}, run.name)
    inputs = inputs_of(run, notebook, values)
    record_of(run, notebook.stem).begin(settings=values)
    record_of(run, notebook.stem).finish("done", inputs=inputs)
    assert stale(run, notebook, values) == ""
    assert stale(run, notebook, {**values, name: 180}) == f"{name} was 0, is 180"
