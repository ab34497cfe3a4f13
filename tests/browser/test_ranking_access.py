"""The ranking board for a screen reader, and an axe-core scan of it in both themes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.axe import violations
from tests.browser.cards import TEXTS, card, has_focus, press, settle, start
from tests.browser.lab import Lab


def test_a_screen_reader_hears_every_move(lab: Lab) -> None:
    board = start(lab, "spoken", more=", rate=False")
    live = board.locator("[aria-live=assertive]")

    def hears(text: str) -> None:
        live.filter(has_text=text).wait_for(state="attached")

    box = board.get_by_role("listbox")
    assert box.get_by_role("option").count() == 5
    card(board, 0).focus()
    press(lab, "2")
    hears("A moved to rank 2 of 5")
    card(board, 2).focus()
    press(lab, "2")
    hears("C moved to rank 2 of 5, tied with A")
    assert card(board, 2).get_attribute("aria-label") == "Response C at rank 2 of 5, tied with A"
    assert [card(board, n).get_attribute("aria-posinset") for n in (0, 2)] == ["1", "2"]
    assert card(board, 2).get_attribute("aria-setsize") == "5"
    assert box.get_by_role("group", name="Rank 2").get_by_role("option").count() == 2
    assert has_focus(card(board, 2)), "the focus follows the card"
    press(lab, "ArrowUp")
    hears("C moved to rank 1 of 5")
    press(lab, "Backspace")
    hears("C moved to the unranked tray")
    press(lab, "9")
    hears("There are 5 ranks; 9 is none of them")
    described = card(board, 2).get_attribute("aria-describedby")
    assert lab.page.locator(f"#{described}").inner_text(), "the text itself is the option's description"


#: Targets of the ranking board that are smaller than 24 pixels in one direction: WCAG 2.2's 2.5.8.
SMALL = """() => [...document.querySelectorAll('.rb button, .rb label, .rb summary, .rb input:not([type=radio])')].flatMap((node) => {
    const box = node.getBoundingClientRect();
    return box.width && Math.min(box.width, box.height) < 23.5 ? [`${node.className} ${node.textContent.slice(0, 30)} ${box.width} x ${box.height}`] : [];
})"""


def test_targets_are_large_enough_ties_are_of_one_width_and_a_submit_says_how_it_is_undone(lab: Lab) -> None:
    board = start(lab, "targets", count=2)
    assert lab.page.evaluate(SMALL) == []
    card(board, 0).focus()
    press(lab, "7", "h", "Enter", "Enter")
    for number, rank in [(3, "2"), (0, "2"), (1, "1")]:
        card(board, number).focus()
        press(lab, rank)
    settle(lab)
    assert lab.page.evaluate(SMALL) == [] and board.locator(".rb-equals").count() == 1
    for width in (1280, 700):
        lab.page.set_viewport_size({"width": width, "height": 1000})
        lab.page.wait_for_timeout(400)
        first, second = card(board, 0).bounding_box(), card(board, 3).bounding_box()
        beside = abs(first["y"] - second["y"]) < 2
        assert beside or abs(first["width"] - second["width"]) < 1, "cards under each other end at one line"
    press(lab, "Enter", "Enter")
    board.locator(".rb-echo", has_text="Undo (u) takes it back.").wait_for(timeout=20_000)
    assert lab.page.evaluate(SMALL) == []


JOB = """, actions={"Train": lambda report: report("held-out accuracy 0.83") or "These cards come next."}"""


def test_a_screen_reader_hears_prompt_responses_warnings_and_progress(lab: Lab) -> None:
    board = start(lab, "heard", more=JOB)
    live, log = board.locator("[aria-live=assertive]"), board.locator("[role=log]")

    def described(node: Any) -> str:
        return " ".join(lab.page.locator(f"#{i}").inner_text() for i in node.get_attribute("aria-describedby").split())

    assert "Question 0" in described(board.get_by_role("group", name="Responses to rate"))
    assert described(card(board, 0)) in TEXTS, "the text itself describes the card while it is rated"
    card(board, 0).focus()
    press(lab, "7", "h")
    log.filter(has_text="A has Likert 7 of 7 and the flag").wait_for(state="attached")
    press(lab, "a")
    settle(lab)
    press(lab, "a")
    settle(lab)
    assert log.inner_text().count("A has Likert 7") == 1, "what still holds is not said again"
    press(lab, "Enter", "Enter")
    assert "Question 0" in described(board.get_by_role("listbox"))
    for number, rank in [(0, "1"), (1, "2")]:
        card(board, number).focus()
        press(lab, rank)
    settle(lab)
    press(lab, "Enter", "Enter")
    live.filter(has_text="Question 1: what does the heron eat").wait_for(state="attached")
    assert "1 contradiction: A has Likert 7" in live.inner_text(), (
        "what was stored is named, with what speaks against it"
    )
    board.get_by_role("button", name="Train", exact=True).click()
    log.filter(has_text="These cards come next.").wait_for(state="attached")
    assert lab.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_serious_accessibility_violation(lab: Lab, shots: Callable[[str], str], dark: bool) -> None:
    name = f"axe-{'dark' if dark else 'light'}"
    board = start(lab, name, texts=[*TEXTS[:4], "word " * 600], more=", actions={'Train the RM on these': print}")
    lab.dark(dark)
    found = violations(lab.page, ".rb")
    card(board, 0).focus()
    press(lab, "7", "h", "ArrowRight", "3", "c", "p", "ArrowRight", "4", "ArrowRight", "4", "ArrowRight", "2")
    settle(lab)
    board.screenshot(path=shots(f"ranking-rate-{name[4:]}"))
    press(lab, "Enter")
    for number, rank in [(1, "1"), (0, "2"), (2, "2")]:
        card(board, number).focus()
        press(lab, rank)
    settle(lab)
    found += violations(lab.page, ".rb")
    board.screenshot(path=shots(f"ranking-rank-{name[4:]}"))
    press(lab, "?")
    found += violations(lab.page, ".rb")
    board.screenshot(path=shots(f"ranking-help-{name[4:]}"))
    press(lab, "Escape", "Enter", "Enter")
    board.locator(".rb-echo").wait_for()
    press(lab, "s")
    found += violations(lab.page, ".rb")
    board.screenshot(path=shots(f"ranking-echo-{name[4:]}"))
    assert found == []
    lab.dark(False)
