"""What labelers say in words comes out of the logs: reasons of cards put aside and notes, in exports and in the report."""

import pytest
from typer.testing import CliRunner

from labkit.cli import app
from labkit.disk import read_jsonl, write_jsonl
from labkit.errors import DataError
from labkit.labels.agreement import agreement_of_files
from labkit.labels.cards import keep_cards
from labkit.labels.exchange import kwise_rows, rankings_from_rows, read_rankings_from, remark_rows, to_dataset
from labkit.labels.exchange.files import export
from labkit.labels.remarks import put_aside_sentence, remarks
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_hash, labels_path, read_log, read_rankings
from tests.labels.helpers import draft, tasks


@pytest.fixture
def session(tmp_path):
    """One card ranked with a note, one skipped, one not to be judged, one with a note only, one untouched."""
    made = LabelSession(tasks(6), "ann", labels_path(tmp_path, "ann"))
    made.submit(draft("c1", "c0 c2", comment="was torn"))
    made.skip("too long")
    made.cannot_judge("needs a chemist")
    made.save_draft(draft("c1", comment="come back with a dictionary"))
    made.show(made.tasks[4].id)
    made.note("B quotes a song", made.tasks[0].id)
    made.skip()
    return made


def said(rows):
    return [(row["what"], row["prompt_id"], row["text"]) for row in rows]


ALL = [
    ("skip", "p1", "too long"),
    ("cannot_judge", "p2", "needs a chemist"),
    ("skip", "p4", ""),
    ("comment", "p0", "was torn"),
    ("comment", "p3", "come back with a dictionary"),
    ("note", "p0", "B quotes a song"),
]


def test_every_reason_and_note_is_a_row_with_its_card(session, tmp_path):
    rows = remark_rows([tmp_path / "labels"])
    assert said(rows) == ALL and {row["labeler"] for row in rows} == {"ann"}
    assert [row["ranked"] for row in rows] == [False, False, False, True, False, True]
    asked = {prompt.id: (prompt.text, [c.text for c in drawn]) for prompt, drawn in tasks(6)}
    held = [row for row in rows if row["prompt_id"] != "p3"]  # which is in no event yet but as a draft
    assert all((row["prompt"], row["completions"]) == asked[row["prompt_id"]] for row in held)
    keep_cards(tmp_path, tasks(6))
    assert [row["prompt"] for row in remark_rows([tmp_path / "labels"]) if row["prompt_id"] == "p3"] == ["Question 3?"]
    assert to_dataset(rows).num_rows == len(rows)


def test_what_was_taken_back_or_decided_otherwise_is_said_no_more(session):
    session.undo()
    assert ("skip", "p4", "") not in [(r.what, r.prompt_id, r.text) for r in remarks(session.state)]
    session.show(session.tasks[1].id)
    session.submit(draft("c0", "c1"))
    assert "too long" not in [r.text for r in remarks(session.state)]
    session.show(session.tasks[1].id)
    session.cannot_judge("needs a poet")
    assert ("cannot_judge", "p1", "needs a poet") in [(r.what, r.prompt_id, r.text) for r in remarks(session.state)]


def test_a_note_on_a_card_left_as_it_was_counts_with_its_ranking(session, tmp_path):
    before = labels_hash(tmp_path / "labels")
    session.show(session.tasks[0].id)
    session.save_draft(draft("c0", "c1", comment="still torn"))
    session.skip("looked again")
    (ranking,) = session.rankings
    assert ranking.comment == "still torn" and ranking.groups[0] == ("c1",)
    assert ("leave", "p0", "looked again") in said(remark_rows([tmp_path / "labels"]))
    assert labels_hash(tmp_path / "labels") == before, "a note makes no stage stale: nothing is learnt from it"


def test_a_ranking_carries_its_note_through_every_form(session, tmp_path):
    (stored,) = read_rankings(tmp_path / "labels")
    assert stored.comment == "was torn"
    for again in (kwise_rows([stored]), to_dataset(kwise_rows([stored])), [stored.to_json()]):
        assert rankings_from_rows(again) == [stored]
    export([tmp_path / "labels"], tmp_path / "k.jsonl", "kwise")
    assert read_rankings_from(tmp_path / "k.jsonl") == [stored]
    assert said(remark_rows([tmp_path / "k.jsonl"])) == [("comment", "p0", "was torn")]
    session.undo()
    session.show(session.tasks[0].id)
    session.submit(draft("c0", "c1"))
    assert "comment" not in session.rankings[0].to_json(), "lines of rankings without one are what they were"


def test_an_export_says_what_is_not_in_it_and_how_to_have_it(session, tmp_path):
    labels, out = tmp_path / "labels", tmp_path / "out.jsonl"
    assert "Not in it: 3 cards put aside and 2 notes; --to remarks writes them." in export([labels], out, "kwise")
    assert "Not in it: 3 cards put aside and 3 notes; --to remarks writes them." in export([labels], out, "trl")
    ended = CliRunner().invoke(app, ["labels", "export", str(labels), "--to", "remarks", "--out", str(out)])
    assert ended.exit_code == 0 and "1 labeler: wrote 6 remarks to" in ended.stdout
    assert said(read_jsonl(out)) == ALL


def test_where_there_is_no_ranking_the_words_are_offered(tmp_path):
    desk = LabelSession(tasks(1), "bob", labels_path(tmp_path, "bob"))
    with pytest.raises(DataError, match="no card put aside and no note"):
        export([tmp_path / "labels"], tmp_path / "out.jsonl", "remarks")
    desk.cannot_judge("needs a chemist")
    with pytest.raises(DataError, match="It holds 1 remark: --to remarks writes them"):
        export([tmp_path / "labels"], tmp_path / "out.jsonl", "kwise")


def test_the_report_has_a_line_with_every_reason(session, tmp_path):
    session.show(session.tasks[5].id)
    session.skip("too long")
    line = "Cards put aside: 3 skipped (too long: 2; no reason given), 1 that cannot be judged (needs a chemist). 3 notes."
    assert put_aside_sentence(remarks(read_log(labels_path(tmp_path, "ann")))) == line
    report = agreement_of_files([tmp_path / "labels"])
    assert line in report.text() and line in report.to_json()["notes"]
    assert put_aside_sentence([]) == ""


def test_a_log_from_before_cards_stood_in_it_is_read(session, tmp_path):
    session.close()
    path = labels_path(tmp_path, "ann")
    write_jsonl(path, [{k: v for k, v in row.items() if k != "card"} for row in read_jsonl(path)])
    rows = remark_rows([path])
    assert said(rows) == ALL and [row["prompt"] for row in rows][:4] == ["", "", "", "Question 0?"]
