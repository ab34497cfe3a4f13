"""The ranking board under a hurried hand: a look takes no label away, no card is swapped under a text, a key held down acts once."""

from __future__ import annotations

from typing import Any

from tests.browser.cards import card, events, has_focus, press, settle, start, stored
from tests.browser.lab import Lab
from tests.browser.test_two_tabs import at_the_door, other, two_tabs  # noqa: F401 -- `other` is a fixture

#: An action that lasts until the test lets it end, and then asks for the first card again.
TRAIN = """, rate=False, actions={"Train": lambda report: (
    ended.wait(60), session.revisit([session.tasks[0].id]), "These cards come next")[-1]}"""
ENDED = "ended = __import__('threading').Event()"


def rank_all(lab: Lab, board: Any) -> None:
    for number in range(5):
        card(board, number).focus()
        press(lab, str(number + 1))
    settle(lab)


def submit(lab: Lab, board: Any) -> None:
    rank_all(lab, board)
    press(lab, "Enter")
    board.locator(".rb-echo").wait_for()
    settle(lab)


def spoken(board: Any) -> str:
    return board.locator("[aria-live=assertive]").inner_text()


def hold(lab: Lab, key: str, times: int = 10) -> None:
    """A key held down: the browser repeats it."""
    lab.page.keyboard.down(key)
    for _ in range(times):
        lab.page.wait_for_timeout(50)
        lab.page.keyboard.down(key)
    lab.page.keyboard.up(key)


def all_ranked(lab: Lab, name: str, count: int) -> Any:
    """A board whose cards are all ranked, and come again."""
    board = start(lab, name, count=count, more=", rate=False")
    lab.page.set_default_timeout(20_000)
    submit_all = "[session.submit(type(session.draft)(groups=tuple((i,) for i in t.shown))) for t in session.tasks]"
    lab.python(f"{submit_all}; session.revisit([t.id for t in session.tasks]); board.refresh()\nTrue")
    board.locator(".rb-tag-strong").wait_for()
    card(board, 0).focus()
    return board


def test_a_card_opened_again_can_be_left_as_it_was(lab: Lab) -> None:
    board = start(lab, "left", more=", rate=False")
    submit(lab, board)
    before = stored(lab, "left")
    board.locator("summary", has_text="Decided cards").click()
    board.get_by_role("button", name="Open prompt p0 again").click()
    board.locator(".rb-tag-strong", has_text="ranked before").wait_for()
    card(board, 0).focus()
    press(lab, "n")
    assert "ranking is withdrawn" in board.locator(".rb-panel").inner_text()
    press(lab, "Escape", "s")
    board.locator(".rb-echo", has_text="Left as it was: prompt p0, ranked.").wait_for()
    settle(lab)
    assert "Left as it was" in spoken(board) and "Next card" in spoken(board)
    assert stored(lab, "left") == before and lab.python("len(session.rankings)") == 1
    assert board.locator("[data-key=skip]").inner_text() == "Skip" and has_focus(card(board, 0))
    press(lab, "u")
    board.locator(".rb-tag-strong").wait_for()
    settle(lab)
    rank_all(lab, board)
    card(board, 0).focus()
    press(lab, "5")
    settle(lab)
    board.get_by_role("button", name="Leave as it was").click()
    board.locator(".rb-echo", has_text="What was changed on it is taken back").wait_for()
    assert lab.python("[len(g) for g in session.rankings[0].groups]") == [1] * 5
    assert lab.complaints() == []


def test_the_end_of_an_action_closes_no_panel_and_swaps_no_card(lab: Lab) -> None:
    board = start(lab, "panel", more=TRAIN)
    lab.python(f"{ENDED}\nTrue")
    submit(lab, board)
    board.get_by_role("button", name="Train", exact=True).click()
    board.locator("[data-key='job:Train'][disabled]").wait_for()
    card(board, 0).focus()
    press(lab, "n", *"needs a ch")
    lab.python("ended.set()\nTrue")
    board.locator(".rb-log", has_text="come next").wait_for()
    settle(lab)
    assert "1 card comes next" in board.locator(".rb-head").inner_text()
    assert "1 card comes next, after this one" in board.locator("[role=log]").inner_text()
    press(lab, *"emist", "Enter")
    board.locator(".rb-tag-strong").wait_for()
    settle(lab)
    assert [(e["task"][:2], e["reason"]) for e in events(lab, "panel") if e["event"] == "cannot_judge"] == [("p1", "needs a chemist")]
    assert lab.python("len(session.rankings)") == 1 and "Question 0" in board.locator(".rb-prompt").inner_text()
    assert "comes next" not in board.locator(".rb-head").inner_text()


def test_a_text_half_typed_is_kept_when_the_card_goes_and_its_rest_commands_nothing(lab: Lab) -> None:
    """As when another tab decides the card; s, n, o and digits would be commands on the next one."""
    board = start(lab, "swap", more=", rate=False")
    lab.page.set_default_timeout(20_000)
    note = board.locator('[data-key="note"]')
    note.click()
    note.press_sequentially("B is t")
    lab.python("session.skip('elsewhere'); board.refresh()\nTrue")
    board.locator(".rb-prompt", has_text="Question 1").wait_for()
    press(lab, *"oo short, no sun 1")
    settle(lab)
    assert "Another card came up while you typed. The text is kept" in board.locator(".rb-info").inner_text()
    assert [(e["task"][:2], e["text"]) for e in events(lab, "swap") if e["event"] == "note"] == [("p0", "B is t")]
    assert board.locator(".rb-panel").count() == 0 and lab.python("session.draft.groups") == []
    assert lab.python("session.current.prompt.id") == "p1"
    lab.page.wait_for_timeout(900)
    card(board, 0).focus()
    press(lab, "n", *"needs")
    lab.python("session.skip('elsewhere'); board.refresh()\nTrue")
    board.locator(".rb-prompt", has_text="Question 2").wait_for()
    press(lab, *" a chemist", "Enter")
    settle(lab)
    assert [e["text"] for e in events(lab, "swap") if e["event"] == "note"] == ["B is t", "needs"]
    assert lab.python("session.current.prompt.id") == "p2" and lab.python("session.draft.groups") == []
    lab.page.wait_for_timeout(900)
    press(lab, "1")
    settle(lab)
    assert board.locator(".rb-formula").inner_text() == "A", "after a rest the keys work again"


def test_a_key_held_down_submits_skips_and_undoes_once(lab: Lab) -> None:
    board = all_ranked(lab, "held", 5)
    lab.page.wait_for_timeout(500)
    hold(lab, "Enter")
    settle(lab)
    assert lab.python("session.current.prompt.id") == "p1"
    lab.page.wait_for_timeout(500)
    board.locator("[data-key=submit]").focus()
    hold(lab, "Enter")
    settle(lab)
    assert lab.python("session.current.prompt.id") == "p2", "nor does a button that is held down"
    hold(lab, "u")
    settle(lab)
    assert lab.python("session.current.prompt.id") == "p1"
    hold(lab, "s")
    settle(lab)
    assert lab.python("session.current.prompt.id") == "p2" and lab.python("len(session.rankings)") == 5
    card(board, 0).focus()
    hold(lab, "ArrowDown", 3)
    settle(lab)
    assert "A at rank 5" in card(board, 0).get_attribute("aria-label"), "moves may be held"


def test_two_enters_before_the_answer_are_one_submit_and_no_error(lab: Lab, other: Lab) -> None:  # noqa: F811
    mine, _ = two_tabs(lab, other, "twice")
    lab.python("let_in(len(held))\nTrue")
    for number in range(5):
        card(mine, number).focus()
        press(lab, str(number + 1))
    at_the_door(lab, 5)
    press(lab, "Enter", "Enter", "2")
    at_the_door(lab, 6)
    lab.page.wait_for_timeout(300)
    assert lab.python("[m['do'] for m in held]") == ["draft"] * 5 + ["submit"]
    lab.python("let_in(6)\nTrue")
    settle(lab)
    mine.locator(".rb-prompt", has_text="Question 1").wait_for()
    assert mine.locator(".rb-error").count() == 0 and len(stored(lab, "twice")) == 1
    assert lab.python("session.draft.groups") == []


def test_a_double_click_on_submit_does_not_store_the_next_card_unseen(lab: Lab) -> None:
    board = all_ranked(lab, "double", 3)
    lab.page.wait_for_timeout(500)
    press(lab, "Enter")
    board.locator(".rb-prompt", has_text="Question 1").wait_for()
    lab.page.evaluate("() => document.querySelector('[data-key=submit]').click()")
    settle(lab)
    assert lab.python("session.current.prompt.id") == "p1" and "has just come up" in board.locator(".rb-info").inner_text()
    lab.page.wait_for_timeout(500)
    press(lab, "Enter")
    board.locator(".rb-prompt", has_text="Question 2").wait_for()


def test_a_row_is_the_same_card_after_a_decision_in_another_tab(lab: Lab, other: Lab) -> None:  # noqa: F811
    mine, theirs = two_tabs(lab, other, "rows")
    lab.python("let_in(len(held)); session.skip('first'); session.skip('second'); board.refresh()\nTrue")
    mine.locator("summary", has_text="Decided cards (2)").click()
    mine.get_by_role("button", name="Open prompt p1 again").click()
    at_the_door(lab, 1)
    lab.python("session.skip('third'); let_in(1)\nTrue")
    mine.locator(".rb-prompt", has_text="Question 1").wait_for()
    theirs.locator(".rb-prompt", has_text="Question 1").wait_for()
