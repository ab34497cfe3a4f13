"""A notebook with every board, run by nbclient without a person: static twins, no widgets, under one megabyte."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    "import sys; sys.path.insert(0, {root!r})\n"
    "from widgets import Cockpit, KnobPanel, RankingBoard, RewardInspector\n"
    "from labkit.labels.session import LabelSession\nfrom labkit.labels.store import Draft\n"
    "from tests.toy_job import toy_job\nfrom tests.toy_inspector import rows, scorer, explain, rankings",
    "sft = toy_job('run/sft', total=60, seconds=0, stage='sft')\nCockpit(sft)",
    "sft.start(); sft.result()\nCockpit(sft)",
    "ppo = toy_job('run/ppo', total=200, seconds=0, hostile=True)\nboard = Cockpit(ppo)\nboard",
    "ppo.start(); ppo.result()\nboard.report()",
    "KnobPanel(ppo.dial)",
    "RewardInspector(rows(hostile=True), scorer=scorer, explain=explain, rankings=rankings())",
    "tasks = [(r.prompt, r.completions) for r in rankings(20)]\n"
    "session = LabelSession(tasks, 'ann', None)\n"
    "session.submit(Draft(groups=tuple((i,) for i in session.current.shown)))\nRankingBoard(session)",
]


@pytest.mark.kernel
def test_all_boards_leave_figures_and_tables_in_a_small_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(c.replace("{root!r}", repr(str(ROOT)))) for c in CELLS]
    )
    NotebookClient(
        book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}, store_widget_state=True
    ).execute()
    outputs = [[o.get("data", {}) for o in cell.outputs if o.output_type == "display_data"] for cell in book.cells]
    assert [len(o) for o in outputs] == [0, 2, 2, 2, 3, 1, 7, 2]
    assert [sum("image/png" in d for d in o) for o in outputs] == [0, 0, 1, 0, 2, 0, 6, 1]
    everything = json.dumps(book)
    assert "widget-view" not in everything and "widgets" not in book.metadata
    assert len(everything) < 1_000_000, f"{len(everything)} bytes"
    for data in (d for o in outputs for d in o):
        assert data["text/plain"].strip()
        assert "<img" not in data.get("text/html", "") and "<script" not in data.get("text/html", "")
