"""How long 02 trains is a parameter: its SFT job is told, and another length makes what is done stale.

That the executed notebook then trains so long, and says so, is in test_whole.py.
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

SFT = REPOSITORY / "notebooks" / "02_sft.ipynb"


def calls(notebook: Path, name: str) -> Iterator[dict[str, str]]:
    """The keywords of each call of lab.NAME in the notebook's cells, as they are written."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        for node in ast.walk(ast.parse("".join(cell["source"]))) if cell["cell_type"] == "code" else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
                yield {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}


def test_the_length_is_asked_for_and_nothing_asked_is_the_scales() -> None:
    assert resolve_parameters(SFT, {}, "x")["epochs"] == 0
    assert resolve_parameters(SFT, {"epochs": "20"}, "x")["epochs"] == 20
    assert "the scale says" in read_parameters(SFT)["epochs"].doc
    for bad in ("-1", "1000000", "2.5"):
        with pytest.raises(SettingsError, match="epochs"):
            resolve_parameters(SFT, {"epochs": bad}, "x")


def test_the_job_is_told() -> None:
    assert [told.get("epochs") for told in calls(SFT, "sft_job")] == ["epochs", None], "the PPO init has its own"


def test_another_length_makes_what_is_done_stale(tmp_path: Path) -> None:
    run = Run("x", tmp_path)
    values = resolve_parameters(SFT, {}, run.name)
    inputs = inputs_of(run, SFT, values)
    record_of(run, SFT.stem).begin(settings=values)
    record_of(run, SFT.stem).finish("done", inputs=inputs)
    assert stale(run, SFT, values) == ""
    assert stale(run, SFT, {**values, "epochs": 16}) == "epochs was 0, is 16"
