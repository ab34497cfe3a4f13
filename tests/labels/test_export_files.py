"""`labkit labels export`: from the logs of a run to K-wise rows and TRL's pairs, with nothing lost and nothing overwritten."""

import json

import pytest
from typer.testing import CliRunner

from labkit.cli import app
from labkit.disk import read_jsonl
from labkit.errors import DataError
from labkit.labels.exchange import kwise_rows, pair_rows, read_rankings_from
from labkit.labels.exchange.files import export
from labkit.labels.reports import position_bias
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path, read_rankings
from labkit.types import Rating
from tests.labels.helpers import draft, tasks


@pytest.fixture
def labels(tmp_path):
    """Two labelers' logs of one run, with repeats, a card put aside and a remark."""
    for labeler in ("ann", "bob"):
        session = LabelSession(tasks(6), labeler, labels_path(tmp_path, labeler), repeat_share=0.3)
        session.skip("too long")
        session.submit(draft("c1", "c0 c2", ratings={"c1": Rating(6, ("opinion",))}, comment=f"{labeler} was torn"))
        while session.current:
            session.submit(draft("c0", "c1"))
        session.close()
    return tmp_path / "labels"


def test_what_is_exported_is_what_the_logs_say(labels, tmp_path):
    said = export([labels], tmp_path / "k.jsonl", "kwise")
    back = read_rankings_from(tmp_path / "k.jsonl")
    stored = read_rankings(labels)
    assert sorted(back, key=str) == sorted(stored, key=str) and len(back) == 10
    assert position_bias(back).earlier_wins.value == pytest.approx(position_bias(stored).earlier_wins.value)
    assert "10 rankings" in said and "2 labelers" in said and "5 prompts" in said and str(tmp_path / "k.jsonl") in said
    comments = {row["labeler"]: row["comment"] for row in read_jsonl(tmp_path / "k.jsonl") if row["comment"]}
    assert comments == {"ann": "ann was torn", "bob": "bob was torn"}


def test_pairs_have_the_margin_that_was_asked_for(labels, tmp_path):
    for margin in ("rank", "likert", "none"):
        export([labels / "ann.jsonl"], tmp_path / "t.jsonl", "trl", margin)
        rows = list(read_jsonl(tmp_path / "t.jsonl"))
        assert rows == pair_rows(read_rankings(labels / "ann.jsonl"), margin=None if margin == "none" else margin)


def test_any_file_of_rankings_can_be_turned_into_another_form(labels, tmp_path):
    export([labels], tmp_path / "k.jsonl", "kwise")
    export([tmp_path / "k.jsonl"], tmp_path / "t.jsonl", "trl")
    export([labels], tmp_path / "direct.jsonl", "trl")
    direct, round_about = (sorted(map(str, read_jsonl(tmp_path / n))) for n in ("direct.jsonl", "t.jsonl"))
    assert direct == round_about


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"out": "labels/ann.jsonl"}, "holds labels by hand"),
        ({"files": ["rows.jsonl"], "out": "rows.jsonl"}, "to be read and written"),
        ({"out": "labels/new.jsonl"}, "taken for one"),
        ({"to": "csv"}, "no form 'csv'; the forms are kwise, trl"),
        ({"to": "trl", "margin": "gap"}, "no margin 'gap'"),
        ({"files": ["labels/eve.jsonl"]}, "nothing to export"),
        ({"files": ["nobody.jsonl"]}, "There is no file or folder"),
        ({"files": ["empty"]}, "no .jsonl file"),
    ],
)
def test_what_cannot_be_exported_is_said_and_nothing_is_lost(labels, tmp_path, how, words):
    (tmp_path / "empty").mkdir()
    LabelSession(tasks(1), "eve", labels / "eve.jsonl").close()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in kwise_rows(read_rankings(labels / "ann.jsonl"))))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.jsonl")}
    asked = {"files": ["labels/ann.jsonl"], "out": "new.jsonl", "to": "kwise", "margin": "rank"} | how
    with pytest.raises(DataError, match=words):
        export([tmp_path / f for f in asked["files"]], tmp_path / asked["out"], asked["to"], asked["margin"])
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.jsonl")} == before


def test_the_command_writes_the_file_and_says_so(labels, tmp_path):
    out = tmp_path / "pairs.jsonl"
    ended = CliRunner().invoke(app, ["labels", "export", str(labels), "--to", "trl", "--out", str(out), "--margin", "likert"])
    assert ended.exit_code == 0 and "pairs" in ended.stdout
    assert {"prompt", "chosen", "rejected", "margin"} <= set(next(read_jsonl(out)))


def test_a_wrong_name_is_told_here_and_a_folder_is_no_file_to_write(labels, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    for missing in ("nope", "labels/nope"):
        with pytest.raises(DataError, match=f"There is no file or folder {missing}"):
            export([missing], tmp_path / "k.jsonl", "kwise")
    with pytest.raises(DataError, match=r"is a folder; name a file in it, such as --out .*\.jsonl"):
        export([labels], tmp_path, "kwise")
