"""Two tabs on one kernel: each board takes for its own answer only what was said to it, and both end with the same card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.cards import card, events, press, settle, start
from tests.browser.lab import Lab, LabServer

#: Messages wait at the door until the test lets them in, one by one, in the order in which they came.
DOOR = """
held, at_once = [], board._receive
board._receive = held.append
def let_in(count):
    for content in [held.pop(0) for _ in range(count)]:
        at_once(content)
"""


@pytest.fixture
def other(lab_server: LabServer, browser: Any) -> Iterator[Lab]:
    """A second tab."""
    tab = Lab(lab_server, browser)
    yield tab
    tab.close()


def two_tabs(lab: Lab, other: Lab, name: str) -> tuple[Any, Any]:
    """The board of one notebook in both tabs, behind one kernel, with messages waiting at the door."""
    mine = start(lab, name, more=", rate=False")
    for tab in (lab, other):
        tab.page.set_default_timeout(15_000)
    lab.command("docmanager:save")
    other.visit(f"{name}.ipynb")
    theirs = other.page.locator(".rb")
    theirs.wait_for()
    settle(other)
    assert other.kernel_pid() == lab.kernel_pid()
    lab.python(DOOR)
    return mine, theirs


def rank(lab: Lab, board: Any, number: int, key: str) -> None:
    """Press, and wait until what was pressed has come to the door."""
    before = lab.python("len(held)")
    card(board, number).focus()
    press(lab, key)
    at_the_door(lab, before + 1)


def at_the_door(lab: Lab, count: int) -> None:
    for _ in range(100):
        if lab.python("len(held)") >= count:
            return
        lab.page.wait_for_timeout(30)
    pytest.fail(f"{count} messages never came")


def test_an_answer_to_the_other_tab_takes_no_move_back(lab: Lab, other: Lab) -> None:
    mine, theirs = two_tabs(lab, other, "tabs")
    rank(other, theirs, 4, "5")
    rank(lab, mine, 0, "1")
    lab.python("let_in(1)")
    settle(other)
    lab.page.wait_for_timeout(300)  # their answer has come here too, and says nothing of A
    assert mine.locator(".rb-formula").inner_text() == "A" and mine.locator(".rb-saved").inner_text() == "saving …"
    rank(lab, mine, 1, "2")
    lab.python("let_in(2)")
    settle(lab)
    assert mine.locator(".rb-formula").inner_text() == "A > B"
    theirs.locator(".rb-formula", has_text="A > B").wait_for()
    assert [e["draft"]["groups"] for e in events(lab, "tabs") if e["event"] == "draft"][-1] == lab.python("session.draft.groups")


def test_a_tab_that_is_loaded_anew_answers_for_nobody_else(lab: Lab, other: Lab) -> None:
    mine, _ = two_tabs(lab, other, "anew")
    rank(lab, mine, 0, "1")
    other.reload()
    other.page.locator(".rb").wait_for()
    at_the_door(lab, 2)
    lab.python("held.reverse(); let_in(1)")  # the new page's hello overtakes
    settle(other)
    lab.page.wait_for_timeout(300)
    assert mine.locator(".rb-formula").inner_text() == "A", "the hello of another page is no answer to this one's move"
    lab.python("let_in(1)")
    settle(lab)
    other.page.locator(".rb-formula", has_text="A").wait_for()


def test_what_is_refused_to_one_tab_is_no_error_in_the_other(lab: Lab, other: Lab) -> None:
    mine, theirs = two_tabs(lab, other, "refused")
    rank(lab, mine, 0, "1")
    rank(lab, mine, 1, "2")
    press(lab, "Enter", "Enter")
    at_the_door(lab, 3)
    rank(other, theirs, 3, "1")  # on a card that will have been submitted by then
    lab.python("let_in(4)")
    theirs.locator(".rb-error", has_text="no longer up").wait_for()
    lab.page.wait_for_timeout(300)
    assert mine.locator(".rb-error").count() == 0 and mine.locator(".rb-saved").inner_text() == "saved"
    assert theirs.locator(".rb-saved").inner_text() == "not stored"
