"""A notebook with boards, executed headless: static twins in the outputs, no widget state, and small."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.kernel

CELLS = [
    """
from labkit.labels.session import LabelSession
from labkit.labels.store import Draft
from labkit.types import Completion, Prompt
from widgets import RankingBoard

prompt = Prompt(id="p0", text="What does the heron eat?\\n")
texts = ["Fish <b>and</b> frogs.", "Bread.", "Turned \\u202e text."]
completions = [Completion(id=str(i), prompt_id="p0", text=t, model="m") for i, t in enumerate(texts)]
session = LabelSession([(prompt, completions)], "ann", "labels.jsonl")
board = RankingBoard(session)
board
""",
    "session.submit(Draft(groups=(('0',), ('1', '2'))))\nboard",
]


@pytest.mark.parametrize("variable", ["1", None], ids=["said by the runner", "guessed from the cell id"])
def test_the_executed_notebook_holds_static_twins(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.delenv("LABKIT_HEADLESS", raising=False)
    if variable:
        monkeypatch.setenv("LABKIT_HEADLESS", variable)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source.strip()) for source in CELLS])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    first, second = (cell.outputs[-1].data for cell in notebook.cells)
    figures = [cell.outputs[-2].data for cell in notebook.cells]
    assert all({"image/png", "application/vnd.plotly.v1+json"} <= set(data) for data in figures)
    assert "on the cards" in figures[0]["text/plain"] and "Who wins" in figures[1]["text/plain"]
    assert set(first) == {"text/plain", "text/html"}
    assert "Fish &lt;b&gt;and&lt;/b&gt; frogs." in first["text/html"] and "hidden until ranked" in first["text/html"]
    assert "1 of 1 cards done" in second["text/plain"]
    assert not notebook.metadata.get("widgets", {}), "no widget state in an executed notebook"
    assert len(json.dumps(notebook)) < 120_000
