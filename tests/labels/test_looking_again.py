"""Cards that come back: nothing of what was stored on them is lost by a look, and none of them is forgotten or forced upon a hand."""

import pytest

from labkit.disk import read_jsonl, write_jsonl
from labkit.labels.session import LabelSession
from labkit.labels.state import fold
from labkit.labels.store import labels_path, read_log, read_rankings
from labkit.types import Rating
from tests.labels.helpers import draft, tasks


@pytest.fixture
def path(tmp_path):
    return labels_path(tmp_path, "ann")


def ranked(n: int, path, of: int = 0) -> LabelSession:
    """A session that has ranked `n` of its cards."""
    session = LabelSession(tasks(of or n), "ann", path)
    for _ in range(n):
        session.submit(draft("c0", "c1", comment="first thought"))
    return session


def ids(session: LabelSession, *numbers: int) -> list[str]:
    return [session.tasks[n].id for n in numbers]


def up(session: LabelSession) -> str | None:
    return session.current and session.current.prompt.id


# -- a look takes nothing away ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "leave it"])
def test_skip_on_a_ranked_card_leaves_its_ranking(path, reason):
    session = ranked(2, path, of=3)
    before = session.rankings
    session.show(session.tasks[0].id)
    assert session.skip(reason)
    assert session.rankings == before == read_rankings(path) and up(session) == "p2" and not session.state.aside
    assert "left as it was on prompt p0" in session.undo() and up(session) == "p0"
    assert session.redo() and up(session) == "p2" and session.rankings == before
    assert [row.prompt_id for row in session.history()] == ["p1", "p0"], "a look is no decision"


def test_what_was_changed_on_a_card_that_is_left_goes_and_its_note_stays(path):
    session = ranked(1, path)
    session.show(session.tasks[0].id)
    changed = draft("c2", "c1", ratings={"c1": Rating(3)}, comment="second thought")
    session.save_draft(changed)
    session.skip()
    session.show(session.tasks[0].id)
    assert session.draft == draft("c0", "c1", comment="second thought"), "what stands is what is stored"
    session.undo()
    assert session.draft == changed, "undo brings it back"


def test_a_card_put_aside_and_opened_again_keeps_its_reason(path):
    session = LabelSession(tasks(2), "ann", path)
    session.skip("too long")
    session.cannot_judge("needs a chemist")
    for task in session.tasks:
        session.show(task.id)
        assert session.skip()
    assert list(session.state.aside.values()) == [("skip", "too long"), ("cannot_judge", "needs a chemist")]
    session.show(session.tasks[0].id)
    assert not session.skip("not my field"), "a new reason is a new answer"
    assert session.state.aside[session.tasks[0].id] == ("skip", "not my field")


def test_cannot_judge_withdraws_a_ranking_until_it_is_undone(path):
    session = ranked(1, path)
    session.show(session.tasks[0].id)
    session.cannot_judge("needs a chemist")
    assert session.rankings == []
    session.undo()
    assert len(session.rankings) == 1


def test_a_ranking_that_an_older_log_lost_by_a_look_is_there_again(path):
    session = ranked(1, path)
    session.show(session.tasks[0].id)
    session.close()
    rows = list(read_jsonl(path))
    write_jsonl(path, [*rows, {"n": len(rows) + 1, "time": rows[-1]["time"], "event": "skip", "task": session.tasks[0].id, "reason": ""}])
    assert len(read_log(path).rankings) == 1 and not read_log(path).aside
    again = LabelSession(tasks(1), "ann", path)
    assert up(again) is None and "skip on prompt p0" in again.undo() and up(again) == "p0"


# -- none is forgotten -----------------------------------------------------------------------------------------------


def test_revisit_brings_back_decided_cards_in_the_order_asked(path):
    session = ranked(3, path, of=4)
    third, first = ids(session, 2, 0)
    session.revisit([third, first])
    session.submit(draft("c0", "c1"))
    assert session.current.id == third and session.draft == draft("c0", "c1", comment="first thought")
    session.submit(draft("c1", "c0"))
    assert session.current.id == first
    session.submit(draft("c1", "c0"))
    assert session.current is None
    assert [r.ranks["c1"] for r in session.rankings] == [1, 2, 1, 2]
    assert [row.prompt_id for row in session.history()] == ["p0", "p2", "p3", "p1"]


def test_undo_brings_a_card_back_into_the_queue(path):
    session = ranked(4, path)
    session.revisit(ids(session, 0, 1, 2))
    session.submit()
    assert up(session) == "p1" and session.coming == 1
    session.undo()
    assert up(session) == "p0" and session.coming == 2
    seen = []
    while session.current:
        seen.append(up(session))
        session.submit()
    assert seen == ["p0", "p1", "p2"]


def test_a_card_that_another_was_opened_over_comes_back(path):
    session = ranked(5, path)
    session.revisit(ids(session, 0, 1))
    session.show(session.tasks[4].id)
    assert session.coming == 2
    session.submit()
    session.close()
    session = LabelSession(tasks(5), "ann", path)
    assert up(session) == "p0"
    session.skip()
    session.cannot_judge("needs a chemist")
    assert session.current is None and session.coming == 0, "each of the ways to decide takes a card from the queue"


def test_a_newer_revisit_takes_the_place_of_the_older_one(path):
    session = ranked(4, path)
    session.revisit(ids(session, 0, 1))
    session.submit()
    session.revisit(ids(session, 3))
    assert up(session) == "p1"
    session.skip()
    assert up(session) == "p3"
    session.skip()
    assert session.current is None


# -- none is forced upon a hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [True, False])
def test_the_card_that_is_up_stays_up_until_it_is_decided(path, begun):
    """As when a reward model has finished training while the next card is being read, or a reason typed."""
    session = ranked(1, path, of=3)
    if begun:
        session.save_draft(draft("c2"))
    session.revisit(ids(session, 0))
    assert up(session) == "p1" and session.coming == 1
    session.skip("too long")
    assert up(session) == "p0" and session.coming == 0 and len(session.rankings) == 1


def test_a_revisited_card_is_not_put_away_by_the_next_revisit(path):
    session = ranked(3, path)
    session.revisit(ids(session, 0))
    session.save_draft(draft("c2", "c1"))
    session.revisit(ids(session, 1, 2))
    assert up(session) == "p0" and session.draft == draft("c2", "c1")


def test_replay_of_a_log_is_the_state_that_was(path):
    session = ranked(3, path)
    session.revisit(ids(session, 0, 1, 2))
    session.submit()
    session.skip()
    session.undo()
    assert fold(read_jsonl(path)) == session.state and session.state.queue == ids(session, 1, 2)
