"""LabelSession: what a labeler does is kept, can be taken back, and stands again after a restart."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.disk import read_jsonl, write_jsonl
from labkit.errors import DataError, SettingsError
from labkit.labels.reports import against_scores, labels_of, self_consistency
from labkit.labels.session import LabelSession
from labkit.labels.state import Draft
from labkit.labels.store import labels_path, read_log, read_rankings
from labkit.types import Completion, Prompt, Ranking, Rating
from tests.labels.helpers import Clock, draft, tasks


@pytest.fixture
def path(tmp_path):
    return labels_path(tmp_path, "ann")


def snapshot(session: LabelSession) -> tuple:
    """All that a labeler could see of where a session stands."""
    state = session.state
    return state.current, dict(state.drafts), dict(state.submitted), dict(state.aside), session.draft


def test_a_ranking_is_stored_with_shown_order_seconds_and_provenance(path):
    clock = Clock()
    session = LabelSession(tasks(2), "ann", path, seed=3, clock=clock)
    card = session.current
    clock.now += 12
    stored = session.submit(draft("c1", "c0 c2", ratings={"c1": Rating(likert=6, flags=("opinion",))}))
    (ranking,) = read_rankings(path)
    assert ranking == stored.ranking == session.rankings[0]
    assert ranking.ranks == {"c1": 1, "c0": 2, "c2": 2}
    assert ranking.shown == card.shown and ranking.seconds == 12 and ranking.labeler == "ann"
    assert {c.id: c.model for c in ranking.completions} == {"c0": "m0", "c1": "m1", "c2": "m2"}
    label = card.labels
    assert f"{label['c1']} > " in stored.echo and "Likert" in stored.echo and "Expresses" not in stored.echo
    assert session.current.prompt.id == "p1"


def test_cards_hide_the_model_and_follow_the_shown_order(path):
    card = LabelSession(tasks(1, k=5), "ann", path).current
    assert [c.id for c in card.cards] == list(card.shown)
    assert [c.label for c in card.cards] == list("ABCDE")
    assert not any("m1" in str(vars(c)) for c in card.cards)


def test_order_differs_between_labelers_and_is_the_same_after_a_restart(tmp_path):
    orders = {}
    for labeler in ("ann", "bob", "eve"):
        session = LabelSession(tasks(6, k=6), labeler, labels_path(tmp_path, labeler), seed=1)
        orders[labeler] = [t.shown for t in session.tasks]
        session.close()
        again = LabelSession(tasks(6, k=6), labeler, labels_path(tmp_path, labeler), seed=99)  # the stored seed stands
        assert [t.shown for t in again.tasks] == orders[labeler]
    assert orders["ann"] != orders["bob"] != orders["eve"]


def test_undo_reaches_back_past_submits_and_restarts(path):
    session = LabelSession(tasks(3), "ann", path)
    session.save_draft(draft("c0"))
    session.submit(draft("c0", "c1"))
    session.skip("too long")
    session.close()
    session = LabelSession(tasks(3), "ann", path)
    assert session.current.prompt.id == "p2"
    assert "skip on prompt p1" in session.undo() and session.current.prompt.id == "p1"
    assert "submit on prompt p0" in session.undo() and session.current.prompt.id == "p0"
    assert session.rankings == [] and session.draft == draft("c0")
    session.undo()
    assert session.draft == Draft() and session.undo() is None and not session.can_undo
    for _ in range(3):
        assert session.redo()
    assert session.redo() is None and session.current.prompt.id == "p2"
    assert len(session.rankings) == 1 and session.state.aside.popitem()[1] == ("skip", "too long")


def test_a_rank_that_nobody_has_yet_stays_in_the_draft_and_leaves_the_ranking(path):
    session = LabelSession(tasks(1), "ann", path)
    gap = draft("c1", "", "c0")  # typed: 1 and 3, with nothing at 2 so far
    session.save_draft(gap)
    session.close()
    session = LabelSession(tasks(1), "ann", path)
    assert session.draft == gap, "the card comes back as it was left"
    session.save_draft(draft("c1", "c0"))
    session.undo()
    assert session.draft == gap, "closing the gap was a move like any other"
    ranking = session.submit().ranking
    assert ranking.groups == (("c1",), ("c0",)) and ranking.ranks == {"c1": 1, "c0": 2}
    session.undo()
    assert session.draft == gap


def test_a_new_action_ends_redo(path):
    session = LabelSession(tasks(2), "ann", path)
    session.save_draft(draft("c0"))
    session.undo()
    session.save_draft(draft("c1"))
    assert not session.can_redo and session.redo() is None


moves = st.lists(
    st.sampled_from(["draft0", "draft1", "submit", "skip", "cannot", "undo", "redo", "reopen"]), max_size=14
)


@settings(max_examples=40, deadline=None)
@given(moves=moves)
def test_undo_and_redo_are_inverse_and_a_restart_changes_nothing(tmp_path_factory, moves):
    path = labels_path(tmp_path_factory.mktemp("log"), "ann")
    session = LabelSession(tasks(3), "ann", path)
    for move in moves:
        session = play(session, move, path)
        if session.can_undo:
            before = snapshot(session)
            session.undo()
            session.redo()
            assert snapshot(session) == before
        assert read_log(path) == session.state


def play(session: LabelSession, move: str, path) -> LabelSession:
    """Make one move; on a reopen, check that nothing is lost."""
    if move == "reopen":
        before = snapshot(session)
        session = LabelSession(tasks(3), "ann", path)
        assert snapshot(session) == before
    elif move in ("undo", "redo"):
        getattr(session, move)()
    elif session.current is not None:
        {
            "draft0": lambda: session.save_draft(draft("c0", "c1")),
            "draft1": lambda: session.save_draft(draft("c2 c1", "c0")),
            "submit": lambda: session.submit(draft("c1", "c2", "c0")),
            "skip": lambda: session.skip(),
            "cannot": lambda: session.cannot_judge("unclear"),
        }[move]()
    return session


def test_silent_repeats_come_later_stay_apart_and_give_self_consistency(path):
    session = LabelSession(tasks(10), "ann", path, repeat_share=0.3, seed=2)
    seen = []
    while session.current:
        seen.append((session.current.prompt.id, session.current.repeat_of))
        turn = session.current.repeat_of is not None and seen[-1][0] == next(p for p, r in seen if r)
        session.submit(draft("c2", "c1", "c0") if turn else draft("c0", "c1", "c2"))
    repeated = [p for p, of in seen if of]
    assert len(seen) == 13 and len(repeated) == 3
    assert all([p for p, _ in seen].index(p) < seen.index((p, of)) for p, of in seen if of)
    assert len(session.rankings) == 10 and len(read_rankings(path)) == 10
    consistency = session.self_consistency()
    assert consistency.cards == 3 and consistency.strict.n == 9
    assert consistency.strict.value == pytest.approx(2 / 3)  # one of three cards was turned round
    assert "67 %" in consistency.sentence and "too few to say" in consistency.sentence
    low, high = consistency.strict.low, consistency.strict.high
    assert f"95 % interval {100 * low:.0f} % to {100 * high:.0f} %" in consistency.sentence and low < 2 / 3 < high


def test_the_repeat_of_a_skipped_card_is_not_asked(path):
    session = LabelSession(tasks(4), "ann", path, repeat_share=1.0)
    while session.current:
        session.skip()
    assert session.progress().skipped == 4 and not session.state.submitted
    assert session.progress().left == 0 and session.progress().total == 4


def test_uncertain_cards_first_with_a_random_share(path, tmp_path):
    score = lambda prompt, completions: int(prompt.id[1:])  # noqa: E731
    session = LabelSession(tasks(12), "ann", path, score=score, random_share=0.0)
    first = [session.current.prompt.id]
    session.skip()
    assert [*first, session.current.prompt.id] == ["p11", "p10"]
    mixed = LabelSession(tasks(40), "bob", labels_path(tmp_path, "bob"), score=score, random_share=0.5)
    while mixed.current:
        mixed.skip()
    why = [e["why"] for e in read_jsonl(labels_path(tmp_path, "bob")) if e["event"] == "shown"]
    assert 8 < why.count("random") < 32 and why.count("uncertain") == 40 - why.count("random")


def test_a_failing_score_does_not_lose_the_submit(path):
    session = LabelSession(tasks(2), "ann", path, score=lambda p, c: 1 / 0, random_share=0.0)
    session.submit(draft("c0", "c1"))
    assert "ZeroDivisionError" in session.score_error and session.current.prompt.id == "p1"
    assert len(read_rankings(path)) == 1


def test_half_a_surrogate_pair_is_labeled_like_any_text(path):
    """Tools that cut strings by their length leave such halves in JSONL."""
    cut = "cut \ud83d"
    given = [(Prompt(cut, cut), [Completion(f"{cut}{j}", cut, f"{cut} {j}") for j in range(2)])]
    with contextlib.closing(LabelSession(given, "ann", path)) as session:
        session.submit(Draft(groups=tuple((c.id,) for c in given[0][1])))
    (ranking,) = read_rankings(path)
    assert ranking.prompt.text == cut and [c.text for c in ranking.completions] == [f"{cut} 0", f"{cut} 1"]
    write_jsonl(path.with_name("out.jsonl"), [ranking.to_json()])
    assert Ranking.from_json(next(iter(read_jsonl(path.with_name("out.jsonl"))))) == ranking


def test_new_completions_for_an_old_prompt_are_a_new_task(path):
    session = LabelSession(tasks(1), "ann", path)
    session.submit(draft("c0", "c1"))
    again = LabelSession(tasks(1, k=4), "ann", path)
    assert again.current is not None and again.rankings == [] and again.undo() is None
    again.submit(draft("c3", "c0"))
    assert len(read_rankings(path)) == 2


def test_contradictions_are_told_and_nothing_is_refused(path):
    session = LabelSession(tasks(1), "ann", path)
    ratings = {"c0": Rating(2), "c1": Rating(6, ("hallucination",)), "c2": Rating(3)}
    stored = session.submit(draft("c0", "c1 c2", ratings=ratings))
    name = stored.task.labels
    text = " ".join(stored.warnings)
    assert f"{name['c0']} is ranked above {name['c1']} but has the lower Likert (2 against 6)" in text
    assert "tied but their Likert" in text and "'Hallucination'" in text
    assert len(stored.warnings) == 4  # c0 above c1, c0 above c2, the tie, Likert 6 with a flag


def test_a_labeler_sees_both_orders_in_the_letters_of_the_card(path):
    session = LabelSession(tasks(1), "ann", path)
    ranking = session.submit(draft("c1", "c0 c2")).ranking
    a, b, c = (labels_of(ranking)[i] for i in ("c0", "c1", "c2"))
    told = against_scores(ranking, {"c0": 2.0, "c1": -1.0, "c2": 0.5})
    assert told == f"Question 0?: you {b} > {'='.join(sorted((a, c)))}, the RM {a} > {c} > {b}"


def test_no_warning_where_all_agree(path):
    session = LabelSession(tasks(1), "ann", path)
    ratings = {"c0": Rating(7), "c1": Rating(4), "c2": Rating(4, ("hallucination",))}
    assert session.warnings(draft("c0", "c1", "c2", ratings=ratings)) == []
    assert session.warnings(draft("c0 c1", ratings={"c0": Rating(5), "c1": Rating(4)})) == [], "one point apart may well be a tie"
    harmless = {"c0": Rating(7, ("satisfies_constraint", "opinion", "moral_judgment")), "c1": Rating(7)}
    assert session.warnings(draft("c0", "c1", ratings=harmless)) == [], "these flags speak against nothing"
    (two,) = session.warnings(draft("c0 c1", ratings={"c0": Rating(5), "c1": Rating(3)}))
    assert "tied but their Likert ratings are" in two


def test_flagged_above_unflagged_is_told(path):
    session = LabelSession(tasks(1), "ann", path)
    ratings = {"c0": Rating(4, ("denigrates",)), "c1": Rating(4)}
    (warning,) = session.warnings(draft("c0", "c1", ratings=ratings))
    assert "Denigrates a protected class" in warning
    assert f"flags {session.current.labels['c0']} denigrates" in session.submit(draft("c0", "c1", ratings=ratings)).echo


def test_a_pair_that_was_tied_once_says_nothing_of_consistency(path):
    session = LabelSession(tasks(2), "ann", path)
    first, second = (session.submit(draft(*groups)).ranking for groups in (("c0 c1", "c2"), ("c1", "c0", "c2")))
    told = self_consistency([(first, second)]).strict
    assert (told.value, told.n) == (1.0, 2)


def test_progress_and_pace_leave_pauses_out(path):
    clock = Clock()
    session = LabelSession(tasks(4), "ann", path, clock=clock)
    assert session.progress().eta_seconds is None
    clock.now += 10
    session.submit(draft("c0", "c1"))
    session.close()
    clock.now += 86_400
    session = LabelSession(tasks(4), "ann", path, clock=clock)
    clock.now += 20
    session.submit(draft("c0", "c1"))
    now = session.progress()
    assert (now.ranked, now.left, now.total) == (2, 2, 4)
    assert now.seconds_per_card == pytest.approx(15) and now.eta_seconds == pytest.approx(30)
    assert now.sentence.startswith("2 of 4 cards done")


def test_position_bias_is_seen_and_its_absence_too(path, tmp_path):
    biased = LabelSession(tasks(40), "ann", path)
    fair = LabelSession(tasks(40), "bob", labels_path(tmp_path, "bob"))
    while biased.current:
        biased.submit(draft(*biased.current.shown))
    while fair.current:
        fair.submit(draft("c0", "c1", "c2"))
    assert biased.position_bias().earlier_wins.value == 1 and biased.position_bias().first_place == (1, 0, 0)
    assert "First places by position: 1: 100 %, 2: 0 %, 3: 0 % of 40 cards." in biased.position_bias().sentence
    tied = LabelSession(tasks(3), "cid", None)
    while tied.current:
        tied.submit(draft("c0 c1", "c2"))
    assert sum(tied.position_bias().first_place) == pytest.approx(1), "who ties for the first place shares it"
    figure = fair.position_bias().earlier_wins
    assert figure.low < 0.5 < figure.high and "no sign" in fair.position_bias().sentence


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda s: s.submit(), "Rank at least two"),
        (lambda s: s.submit(draft("c0", "c9")), "not on this card"),
        (lambda s: s.submit(draft("c0", "c0")), "twice"),
        (lambda s: s.cannot_judge(" "), "needs a reason"),
        (lambda s: s.show("nowhere"), "no task"),
    ],
)
def test_errors_teach_and_leave_the_state_alone(path, act, words):
    session = LabelSession(tasks(1), "ann", path)
    before = snapshot(session)
    with pytest.raises(DataError, match=words):
        act(session)
    assert snapshot(session) == before


def test_rating_alone_can_be_asked_for(path):
    session = LabelSession(tasks(1), "ann", path, require=("rate",))
    with pytest.raises(DataError, match="no Likert"):
        session.submit(Draft(ratings={"c0": Rating(3)}))
    stored = session.submit(Draft(ratings={f"c{j}": Rating(j + 1) for j in range(3)}))
    assert stored.ranking.groups == () and len(stored.ranking.ratings) == 3


@pytest.mark.parametrize(
    ("given", "words"), [([], "nothing to label"), (tasks(1, k=1), "K >= 2"), (tasks(1) * 2, "comes twice")]
)
def test_unusable_tasks_are_refused(path, given, words):
    with pytest.raises(DataError, match=words):
        LabelSession(given, "ann", path)


@pytest.mark.parametrize("name", ["../eve", "a/b", "", ".hidden"])
def test_unsafe_labeler_names_are_refused(tmp_path, name):
    with pytest.raises(SettingsError):
        LabelSession(tasks(1), name, tmp_path / "x.jsonl")
    with pytest.raises(SettingsError):
        labels_path(tmp_path, name)


def test_without_a_path_nothing_is_kept():
    session = LabelSession(tasks(1), "ann", None)
    session.submit(draft("c0", "c1"))
    assert len(session.rankings) == 1 and session.undo()


def test_a_card_worked_on_again_keeps_its_place_and_its_first_ranking(tmp_path):
    session = LabelSession(tasks(3), "ann", labels_path(tmp_path, "ann"))
    while session.current:
        session.submit(draft("c1", "c0 c2"))
    blind = session.rankings
    session.revisit([session.tasks[0].id])
    assert session.current.prompt.id == "p0", "nothing is up, so it comes at once"
    session.submit(draft("c2", "c0 c1"))
    assert session.first_and_now == list(zip(blind, session.rankings, strict=True)) and session.rankings[0] != blind[0]
    again = LabelSession(tasks(3), "ann", labels_path(tmp_path, "ann"))
    assert again.first_and_now == session.first_and_now
    for _ in range(2):
        again.undo()
    again.submit(draft("c0", "c1"))
    assert again.first_and_now[-1][0].groups == (("c0",), ("c1",)), "a submit that was taken back never was"
    again.show(again.tasks[0].id)
    again.cannot_judge("needs a chemist")
    assert [now.prompt.id for _, now in again.first_and_now] == ["p1", "p2"]


def test_whoever_watches_sees_what_is_there_and_takes_nothing_from_whoever_labels(tmp_path):
    path = labels_path(tmp_path, "ann")
    desk = LabelSession(tasks(3), "ann", path)
    desk.submit(draft("c1", "c0 c2"))
    before = path.read_bytes()
    seen = LabelSession(tasks(3), "ann", path, watch=True)
    assert seen.rankings == desk.rankings and seen.current == desk.current and path.read_bytes() == before
    desk.submit(draft("c1", "c0 c2"))
    assert len(read_rankings(path)) == 2, "the board that is open goes on"
    assert LabelSession(tasks(3), "bob", labels_path(tmp_path, "bob"), watch=True).rankings == []
    assert not labels_path(tmp_path, "bob").exists()
