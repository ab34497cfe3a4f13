"""RankingBoard without a page: what the page may see, what it may ask, what becomes of it; and the static twin."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import DataError, SettingsError
from labkit.labels.session import LabelSession
from labkit.labels.store import read_rankings
from labkit.types import FLAGS, Completion, Prompt
from widgets import ranking_twin
from widgets.ranking import RankingBoard
from widgets.ranking_page import FLAG_CHIPS

MODELS = ("sft-9f", "ppo-77", "base-01", "ptx-42")


def tasks(count: int = 3, texts: tuple[str, ...] = ("one", "two", "three", "four")) -> list[Any]:
    made = []
    for n in range(count):
        prompt = Prompt(id=f"p{n}", text=f"Question {n}?\n", use_case="open_qa")
        responses = [
            Completion(id=f"{prompt.id}/{model}", prompt_id=prompt.id, text=text, model=model, seed=n)
            for text, model in zip(texts, MODELS, strict=True)
        ]
        made.append((prompt, responses))
    return made


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "ann.jsonl"


@pytest.fixture
def board(log: Path) -> RankingBoard:
    return RankingBoard(LabelSession(tasks(), "ann", log, seed=3))


def draft(groups: list[Any], likert: Any = None, flags: Any = None, comment: str = "") -> dict[str, Any]:
    return {"groups": groups, "likert": likert or [None] * 4, "flags": flags or [[]] * 4, "comment": comment}


def ask(board: RankingBoard, do: str, **more: Any) -> str:
    """Send what a page would send; returns the error shown."""
    board._receive({"do": do, "turn": board.card["turn"], **more})
    return board.view["error"]


def test_a_submit_is_stored_as_shown(board: RankingBoard, log: Path) -> None:
    shown = board.session.current.shown
    error = ask(board, "submit", draft=draft([[2], [0, 3]], [5, None, 7, 2], [[], [], ["opinion"], []], "close call"))
    assert error == ""
    (stored,) = read_rankings(log)
    assert stored.groups == ((shown[2],), (shown[0], shown[3])), "the tray is in no group"
    assert stored.shown == shown
    assert stored.ratings[shown[2]].likert == 7 and stored.ratings[shown[2]].flags == ("opinion",)
    assert shown[1] not in stored.ratings
    assert stored.completions[0].model == MODELS[0] and stored.completions[0].seed == 0, "provenance is kept"
    assert board.card["prompt"] == "Question 1?\n"


def test_models_and_ids_stay_hidden_until_the_submit(board: RankingBoard) -> None:
    on_the_page = json.dumps([board.card, board.view, board.jobs])
    assert not [model for model in MODELS if model in on_the_page]
    ask(board, "submit", draft=draft([[0], [1], [2], [3]]))
    rows = board.view["echo"]["rows"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert sorted(row["model"] for row in rows) == sorted(MODELS)
    assert not [model for model in MODELS if model in json.dumps(board.card)], "the next card is hidden again"


@pytest.mark.parametrize(
    "message",
    [
        {"do": "draft", "draft": draft([[0, 0]])},
        {"do": "draft", "draft": draft([[9]])},
        {"do": "draft", "draft": draft([[True]])},
        {"do": "draft", "draft": draft([["0"]])},
        {"do": "draft", "draft": draft([0])},
        {"do": "draft", "draft": draft([[0]], [8, None, None, None])},
        {"do": "draft", "draft": draft([[0]], [1.5, None, None, None])},
        {"do": "draft", "draft": draft([[0]], [None])},
        {"do": "draft", "draft": draft([[0]], None, [["<b>"], [], [], []])},
        {"do": "draft", "draft": draft([[0]], comment="x" * 5000)},
        {"do": "draft", "draft": None},
        {"do": "draft", "turn": 99, "draft": draft([[0], [1]])},
        {"do": "submit", "draft": draft([[0]])},
        {"do": "cannot_judge", "reason": "  "},
        {"do": "show", "row": 0},
        {"do": "action", "name": "none"},
        {"do": "__init__"},
        {},
        "nonsense",
    ],
)
def test_what_the_page_sends_is_checked(board: RankingBoard, message: Any) -> None:
    before = board.session.state.events
    sent = {"turn": board.card["turn"], **message} if isinstance(message, dict) else message
    board._receive(sent)
    assert len(board.view["error"]) > 20 and board.view["refused"]
    assert board.session.state.events == before, "a refused request leaves no event"


def test_each_page_is_answered_by_its_own_name_and_number(board: RankingBoard) -> None:
    ask(board, "draft", draft=draft([[0]]), client="one", seq=4)
    ask(board, "hello", client="two", seq=1)
    assert board.view["acks"] == {"one": 4, "two": 1} and (board.view["by"], board.view["refused"]) == ("two", False)
    ask(board, "draft", draft=draft([[9]]), client="one", seq=5)
    assert board.view["acks"] == {"two": 1, "one": 5} and (board.view["by"], board.view["refused"]) == ("one", True)
    for number in range(40):
        ask(board, "hello", client=f"reload {number}", seq=1)
    assert len(board.view["acks"]) < 40 and "reload 39" in board.view["acks"] and "one" not in board.view["acks"]
    for unnamed in ({"client": 3, "seq": 1}, {"client": "x", "seq": True}, {"seq": 2}, {}):
        before = board.view["acks"]
        ask(board, "hello", **unnamed)
        assert (board.view["acks"], board.view["by"]) == (before, "")


def test_the_page_cannot_write_traits(board: RankingBoard) -> None:
    view = dict(board.view)
    board.set_state({"view": {"error": "hacked"}, "card": {}})
    assert board.view == view and board.card["cards"]


def test_every_flag_has_a_chip_and_a_key_of_its_own() -> None:
    assert list(FLAG_CHIPS) == list(FLAGS)
    keys = [key for _, key in FLAG_CHIPS.values()]
    assert len(set(keys)) == len(keys) and not set(keys) & set("usnr?")


def test_drafts_undo_and_redo_reach_past_a_submit(board: RankingBoard, log: Path) -> None:
    ask(board, "draft", draft=draft([[1]]))
    ask(board, "submit", draft=draft([[1], [0]]))
    assert board.card["prompt"] == "Question 1?\n"
    ask(board, "undo")
    assert board.card["prompt"] == "Question 0?\n" and board.view["draft"]["groups"] == [[1]]
    assert read_rankings(log) == []
    ask(board, "redo")
    assert len(read_rankings(log)) == 1
    again = RankingBoard(LabelSession(tasks(), "ann", log))
    assert again.card["prompt"] == "Question 1?\n", "a new kernel stands where the old one stood"


def test_a_gap_between_ranks_is_there_again_in_a_new_kernel_and_not_in_what_is_stored(
    board: RankingBoard, log: Path
) -> None:
    assert ask(board, "draft", draft=draft([[1], [], [0, 3]])) == ""
    again = RankingBoard(LabelSession(tasks(), "ann", log))
    assert again.view["draft"]["groups"] == [[1], [], [0, 3]]
    shown = again.session.current.shown
    assert ask(again, "submit", draft=draft([[1], [], [0, 3]])) == ""
    assert read_rankings(log)[0].groups == ((shown[1],), (shown[0], shown[3]))


@pytest.mark.parametrize("off", ["rate", "rank"])
def test_a_part_that_is_switched_off_stays_as_it_was_stored(board: RankingBoard, log: Path, off: str) -> None:
    likert, flags = [5, None, 7, 2], [[], [], ["opinion"], []]
    ask(board, "submit", draft=draft([[2], [0, 3]], likert, flags))
    (first,) = read_rankings(log)
    again = RankingBoard(LabelSession(tasks(), "ann", log, require=("rank" if off == "rate" else "rate",)), **{off: False})
    ask(again, "show", row=again.view["history"][0]["key"])
    if off == "rate":
        sent = [draft([[1], [2]]), draft([[2], [1]])]
    else:
        sent = [draft([], [1, 1, 1, None]), draft([], [1, 1, 1, 4])]
    assert ask(again, "draft", draft=sent[0]) == ask(again, "submit", draft=sent[1]) == ""
    (second,) = read_rankings(log)
    if off == "rate":
        assert second.ratings == first.ratings and second.groups != first.groups
    else:
        assert second.groups == first.groups and {r.likert for r in second.ratings.values()} == {1, 4}


def test_skip_and_cannot_judge_go_on(board: RankingBoard) -> None:
    assert ask(board, "skip", reason="") == ""
    assert ask(board, "cannot_judge", reason="needs a chemist") == ""
    assert [row["what"] for row in board.view["history"]] == ["cannot_judge", "skip"]
    assert board.view["progress"]["done"] == 2
    ask(board, "show", row=board.view["history"][1]["key"])
    assert board.card["prompt"] == "Question 0?\n"


def test_a_row_of_the_history_is_the_same_card_after_a_decision_in_another_tab(board: RankingBoard) -> None:
    ask(board, "skip", reason="")
    ask(board, "skip", reason="")
    seen = board.view["history"]  # what a tab shows while another one decides
    ask(board, "skip", reason="")
    assert ask(board, "show", row=seen[0]["key"]) == "" and board.card["prompt"] == "Question 1?\n"
    third = board.view["history"][0]["key"]
    ask(board, "undo")
    assert "not among the decided" in ask(board, "show", row=third) and board.view["refused"]


def test_what_is_put_aside_is_echoed_with_its_reason_and_the_way_back(board: RankingBoard) -> None:
    ask(board, "skip", reason="too long")
    assert board.view["echo"]["text"] == "Skipped prompt p0: too long. It can be opened again under Decided cards."
    ask(board, "skip", reason="")
    assert board.view["echo"]["text"] == "Skipped prompt p1. It can be opened again under Decided cards."
    ask(board, "cannot_judge", reason=" needs a chemist ")
    assert board.view["echo"]["text"] == "Stored: prompt p2 cannot be judged: needs a chemist."
    assert board.view["closing"] and [row["text"] for row in board.view["history"]][0] == "needs a chemist"


def test_a_look_at_a_decided_card_takes_nothing_away_and_says_so(board: RankingBoard, log: Path) -> None:
    ask(board, "submit", draft=draft([[0], [1], [2], [3]]))
    ask(board, "skip", reason="too long")
    before = read_rankings(log)
    board.session.show(board.session.tasks[0].id)
    board.refresh()
    assert board.card["decided"] == "ranked"
    ask(board, "draft", draft=draft([[3], [1], [2], [0]]))
    assert ask(board, "skip", reason="") == "" and read_rankings(log) == before
    assert board.view["echo"]["text"] == "Left as it was: prompt p0, ranked. What was changed on it is taken back; undo brings it again."
    board.session.show(board.session.tasks[1].id)
    board.refresh()
    assert board.card["decided"] == "skip"
    ask(board, "skip", reason="")
    assert board.view["echo"]["text"] == "Left as it was: prompt p1, skipped: too long."
    board.session.show(board.session.tasks[0].id)
    board.refresh()
    ask(board, "cannot_judge", reason="needs a chemist")
    assert board.view["echo"]["text"] == "Stored: prompt p0 cannot be judged: needs a chemist. Its ranking is withdrawn; undo brings it back."
    ask(board, "undo")
    assert read_rankings(log) == before


def test_a_card_whose_ranking_is_taken_back_while_it_is_up_no_longer_says_ranked_before(board: RankingBoard) -> None:
    ask(board, "submit", draft=draft([[0], [1], [2], [3]]))
    ask(board, "show", row=board.view["history"][0]["key"])
    turn = board.card["turn"]
    ask(board, "undo")
    assert (board.card["prompt"], board.card["decided"]) == ("Question 0?\n", "") and board.card["turn"] > turn


def test_the_end_says_what_there_is_to_say(board: RankingBoard) -> None:
    for _ in range(3):
        ask(board, "submit", draft=draft([[0], [1], [2], [3]]))
    assert board.card["cards"] == [] and board.view["draft"] is None
    assert any("earlier won 100 %" in line for line in board.view["closing"])
    assert ask(board, "draft", draft=draft([[0]])) != ""


def test_the_end_of_an_action_leaves_the_card_that_is_up(log: Path) -> None:
    session = LabelSession(tasks(), "ann", log)
    board = RankingBoard(session, actions={"Train": lambda report: session.revisit([session.tasks[0].id])})
    ask(board, "submit", draft=draft([[0], [1], [2], [3]]))
    before = board.card
    ask(board, "action", name="Train")
    wait(board)
    board.refresh()
    assert board.card == before and board.view["coming"] == 1
    ask(board, "skip", reason="")
    assert board.card["decided"] == "ranked" and board.view["coming"] == 0


def test_a_text_half_typed_when_the_card_went_is_kept_with_that_card(board: RankingBoard) -> None:
    turn, first = board.card["turn"], board.session.current.id
    board.session.skip()
    board.refresh()
    assert ask(board, "note", turn=turn, text="long thoughts on B") == ""
    assert [(n["task"], n["text"]) for n in board.session.state.notes] == [(first, "long thoughts on B")]
    for unknown in (99, True, [1], None):
        assert "never showed" in ask(board, "note", turn=unknown, text="lost")


def test_errors_of_callbacks_are_shown_and_the_label_stays(log: Path) -> None:
    def fails(ranking: Any) -> None:
        raise ValueError("disk of the caller")

    board = RankingBoard(LabelSession(tasks(), "ann", log), on_submit=fails, reveal=lambda ranking: {}["rm"])
    ask(board, "submit", draft=draft([[0], [1]]))
    assert "on_submit failed: ValueError: disk of the caller" in board.view["error"]
    assert not board.view["refused"]
    assert len(read_rankings(log)) == 1


def test_reveal_comes_with_the_echo_only(log: Path) -> None:
    reveal = lambda ranking: {c.id: f"RM {c.model[-2:]}" for c in ranking.completions}  # noqa: E731
    board = RankingBoard(LabelSession(tasks(), "ann", log), reveal=reveal)
    assert "RM " not in json.dumps([board.card, board.view])
    ask(board, "submit", draft=draft([[0], [1]]))
    assert all(row["extra"] == f"RM {row['model'][-2:]}" for row in board.view["echo"]["rows"])


def wait(board: RankingBoard) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while board.jobs[0]["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    return board.jobs[0]


def test_an_action_reports_and_its_error_is_shown(log: Path) -> None:
    def train(report: Any) -> str:
        report("accuracy 0.6")
        report("accuracy 0.7")
        return "done"

    board = RankingBoard(LabelSession(tasks(), "ann", log), actions={"Train": train})
    ask(board, "action", name="Train")
    assert wait(board)["lines"] == ["accuracy 0.6", "accuracy 0.7", "done"]

    board = RankingBoard(LabelSession(tasks(), "ann", log), actions={"Train": lambda report: 1 / 0})
    ask(board, "action", name="Train")
    assert wait(board)["lines"] == ["Failed: ZeroDivisionError: division by zero"]


def test_the_loop_brings_back_the_cards_that_the_rm_contradicts(board: RankingBoard) -> None:
    for _ in range(3):
        ask(board, "submit", draft=draft([[0], [1], [2], [3]]))

    def scores(ranking: Any) -> dict[str, float]:
        sign = -1.0 if ranking.prompt.id == "p1" else 1.0
        return {i: -sign * rank for i, rank in ranking.ranks.items()}

    worst = board.worst_disagreements(scores, count=1)
    assert [r.prompt.id for r in worst] == ["p1"]
    board.revisit(worst)
    assert board.card["prompt"] == "Question 1?\n" and board.card["decided"] == "ranked"
    assert board.view["draft"]["groups"] == [[0], [1], [2], [3]]


def test_parts_can_be_switched_off(log: Path) -> None:
    board = RankingBoard(LabelSession(tasks(), "ann", log, require=("rate",)), rank=False)
    assert board.view["modes"] == ["rate"]
    assert ask(board, "submit", draft=draft([[0], [1]], [1, 2, 3, 4])) == ""
    (stored,) = read_rankings(log)
    assert stored.groups == () and len(stored.ratings) == 4, "what is switched off is not stored"


def test_wrong_arguments_teach(log: Path) -> None:
    session = LabelSession(tasks(), "ann", log)
    with pytest.raises(TypeError, match="no argument 'ranks'; it takes"):
        RankingBoard(session, ranks=False)
    with pytest.raises(SettingsError, match="session requires it"):
        RankingBoard(session, rank=False)
    with pytest.raises(SettingsError, match="at least one"):
        RankingBoard(session, rank=False, rate=False)
    many = [Completion(id=str(i), prompt_id="p", text=str(i)) for i in range(10)]
    with pytest.raises(DataError, match="at most 9"):
        RankingBoard(LabelSession([(Prompt(id="p", text="?"), many)], "ann", log.with_name("b.jsonl")))


def test_a_note_that_no_file_can_hold_is_mended(board: RankingBoard) -> None:
    assert ask(board, "draft", draft=draft([[0]], comment="half \ud800 pair")) == ""
    assert board.view["draft"]["comment"] == "half ? pair"


def test_the_static_twin_is_escaped_and_hides_models_until_ranked(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    hostile = ("<img src=x onerror=alert(1)>", " ", "turn\u202ened", "d" * 3000)
    board = RankingBoard(LabelSession(tasks(2, hostile), "ann", log))
    assert board.comm is None, "no widget state in a headless run"
    bundle = board._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "<img" not in bundle["text/html"] and "&lt;img src=x" in bundle["text/html"]
    assert "\u202e" not in bundle["text/html"] + bundle["text/plain"]
    assert "(empty answer)" in bundle["text/html"]
    assert not [m for m in MODELS if m in bundle["text/html"]]
    before = json.dumps(ranking_twin.figure(board.session))
    assert not [m for m in MODELS if m in before], "a figure that named them would give the models away"
    ask(board, "submit", draft=draft([[0], [1], [2], [3]]))
    assert all(m in json.dumps(ranking_twin.figure(board.session)) for m in MODELS)
    bundle = board._repr_mimebundle_()
    assert all(m in bundle["text/html"] for m in MODELS)
    assert "1 of 2 cards done" in bundle["text/plain"]
