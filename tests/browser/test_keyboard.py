"""Cockpit and inspector without a mouse: where Tab leads, what is seen and spoken there, what Escape and Enter do."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.browser.cards import press
from tests.browser.lab import Lab
from tests.browser.test_cockpit import CELL as COCKPIT
from tests.browser.test_cockpit import wait
from tests.browser.test_inspector import CELL as INSPECTOR

SMALLEST = 24  # pixels of a target, WCAG 2.2's 2.5.8

#: The element that has the focus: what it is, whether its outline is seen, its target (its label's, where it has one), whether it is in sight.
FOCUSED = """(board) => {
    const node = document.activeElement;
    if (!node || !document.querySelector(board).contains(node)) return null;
    const style = getComputedStyle(node), box = (node.closest('label') ?? node).getBoundingClientRect();
    const said = node.getAttribute('aria-label') || node.closest('label')?.textContent.trim() || node.textContent.trim();
    const what = node.dataset.what || said || node.getAttribute('placeholder') || '';
    return { tag: node.tagName.toLowerCase(), what: what.slice(0, 60), role: node.getAttribute('role'), wide: box.width, high: box.height,
             ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
             inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth };
}"""


def walk(lab: Lab, board: str, most: int = 80) -> list[dict[str, Any]]:
    """Press Tab from the first control until the focus has left the board; what was passed."""
    passed = []
    press(lab, "Shift+Tab", "Tab")  # by keyboard, or the focus need not be seen
    while (seen := lab.page.evaluate(FOCUSED, board)) and len(passed) < most:
        passed.append(seen)
        press(lab, "Tab")
    return passed


def all_good(passed: list[dict[str, Any]]) -> None:
    for stop in passed:
        assert stop["what"], f"a stop without a name: {stop}"
        assert stop["ring"] and stop["inside"], f"the focus is not seen: {stop}"
        if stop["role"] != "img":  # tokens and charts are read, not pressed
            assert min(stop["wide"], stop["high"]) >= SMALLEST - 0.5, f"a small target: {stop}"


@pytest.fixture
def cockpit(lab: Lab, request: pytest.FixtureRequest) -> Lab:
    """A cockpit whose job waits after its third step."""
    lab.open([COCKPIT.format(folder=request.node.name, total=400, seconds=0.02, hostile=False)], "keyboard.ipynb").run_all()
    lab.page.wait_for_selector(".lkc-button[data-what=start]")
    assert lab.page.locator(".lkc-name").is_disabled(), "there is nothing to branch from yet"
    assert lab.page.locator(".lkc-select").first.inner_text() == "no snapshot yet"
    lab.python("job.start(paused=True)\nTrue")
    for number in (1, 2, 3):
        lab.python("job.step()\nTrue")
        wait(lab, f"len(job.steps) == {number} and job.status == 'paused'")
    lab.page.wait_for_selector(".lkc-button[data-what=resume]:not([hidden])")
    lab.page.wait_for_selector(".lkc-chart[data-panel=kl]:not([hidden])")
    return lab


def test_tab_passes_every_control_of_the_cockpit_in_order_and_each_is_seen_and_named(cockpit: Lab) -> None:
    page = cockpit.page
    page.click(".lkc-ask summary")
    page.locator(".lkc-button[data-what=resume]").focus()
    passed = walk(cockpit, ".lkc")
    all_good(passed)
    names = [stop["what"] for stop in passed]
    assert names[:6] == ["resume", "step", "stop", "snapshot", "Name of the new branch", "Step to branch from"]
    assert [stop["tag"] for stop in passed].count("canvas") == 1, "all charts are one stop"
    wanted = ("Reward:", "Why:", "kl_coef. ", "temperature. ", "Newest", "evaluate", "Ledger")
    order = [next(i for i, name in enumerate(names) if word in name) for word in wanted]
    assert order == sorted(order), names
    sliders = page.get_by_role("slider")
    assert sliders.count() == 9 and page.get_by_role("slider", name=re.compile("^β kl_coef")).count() == 1
    assert page.get_by_role("switch", name="Let the KL controller hold β").count() == 1


def test_arrow_keys_go_from_chart_to_chart_and_say_what_they_read(cockpit: Lab) -> None:
    page = cockpit.page
    page.locator(".lkc-chart[data-panel=reward] canvas").focus()
    press(cockpit, "ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown")
    assert page.evaluate("() => document.activeElement.closest('figure').dataset.panel") == "kl"
    press(cockpit, "ArrowLeft")
    spoken = page.locator(".lkc-chart[data-panel=kl] [aria-live]")
    assert re.fullmatch(r"step 2, k1 [\d.]+, k3 [\d.]+", spoken.text_content())
    press(cockpit, "Tab", "Shift+Tab")
    assert page.evaluate("() => document.activeElement.closest('figure')?.dataset.panel") == "kl", "one comes back to where one was"


def test_escape_and_enter_in_the_cockpit_and_what_is_said_of_a_request(cockpit: Lab) -> None:
    page = cockpit.page
    box, fate = page.locator("[data-knob=clip] .lkk-number"), page.locator("[data-knob=clip] .lkk-fate")
    box.focus()
    press(cockpit, "End", "7", "Escape")
    assert box.input_value() == "0.2" and box.evaluate("(node) => node === document.activeElement"), "what was typed is undone, and one stays"
    press(cockpit, "Escape")
    assert page.evaluate("() => !document.querySelector('.lkc').contains(document.activeElement)"), "the second one leaves the board"
    box.fill("7")
    box.press("Enter")
    cockpit.python("job.step()\nTrue")
    page.wait_for_selector("[data-knob=clip] .lkk-fate[data-tone=bad]")
    assert fate.get_attribute("aria-live") == "polite" and fate.text_content().startswith("clip: 7 refused at step 4")
    box.fill("0.3")
    box.press("Enter")
    cockpit.python("job.step()\nTrue")
    page.wait_for_selector("[data-knob=clip] .lkk-fate[data-tone=good]")
    assert fate.text_content() == "clip: 0.2 → 0.3 since step 5"
    page.click("text=Branch off")
    assert page.inner_text(".lkc-notice") == "Give the new branch a name first."
    assert page.locator(".lkc-name").evaluate("(node) => node === document.activeElement")
    assert page.inner_text(".lkc-line").startswith("step 5 of 400"), "the status is said once, beside it"


SLOW = """
import threading
gate = threading.Event()
record = type(job)._record
def slow(self, step):
    gate.wait(60)
    record(self, step)
type(job)._record = slow
job.resume()
"""


def test_a_pause_that_waits_for_a_long_step_says_so_at_once(cockpit: Lab) -> None:
    page = cockpit.page
    cockpit.python(SLOW + "True")
    page.click(".lkc-button[data-what=pause]")
    page.locator(".lkc-notice", has_text="Pausing when the step under way is done").wait_for(timeout=5_000)
    cockpit.python("gate.set()\nTrue")
    page.wait_for_selector(".lkc-pill[data-status=paused]")
    page.wait_for_function("() => document.querySelector('.lkc-notice').textContent === ''")
    assert page.get_attribute(".lkc-notice", "role") == "status" and page.get_attribute(".lkc-notice", "hidden") is None


def test_tab_passes_every_control_of_the_inspector_and_keys_choose_a_row(lab: Lab) -> None:
    page = lab.open([INSPECTOR], "keyboard.ipynb").run_all().page
    page.wait_for_selector(".lki-token")
    page.locator(".lki-tab").first.focus()
    passed = walk(lab, ".lki")
    all_good(passed)
    names = [stop["what"] for stop in passed]
    wanted = ("Responses", "Search", "source", "csv", "score", "ppo", "base", "What colours", "The", "Edit the response", "Original", "All numbers")
    order = [next((i for i, name in enumerate(names) if name.lower().startswith(word.lower())), word) for word in wanted]
    assert all(isinstance(place, int) for place in order) and order == sorted(order), names
    assert [stop["tag"] for stop in passed].count("tr") == 1, "the table is one stop"
    search = page.locator(".lki-search")
    search.fill("badger")
    search.press("Escape")
    assert search.input_value() == "" and search.evaluate("(node) => node === document.activeElement")
    assert page.inner_text(".lki-count").startswith("36 of 36")
    page.locator(".lki-sort", has_text="gold").click()
    page.locator(".lki-list tbody tr[tabindex='0']").focus()
    press(lab, "ArrowDown", "ArrowDown")
    opened = page.locator(".lki-list tbody tr[aria-selected=true]").get_attribute("data-row")
    page.locator(".lki-sort", has_text="step").click()
    page.locator(".lki-list tbody tr").first.focus()
    press(lab, "Enter")
    assert page.locator(".lki-list tbody tr").first.get_attribute("aria-selected") == "true"
    assert opened != page.locator(".lki-list tbody tr").first.get_attribute("data-row")
    assert lab.complaints() == []


#: By column, the right ends of the numbers and of their heading; they stand under each other where there is one.
ENDS = """(table) => [...document.querySelector(table).rows].slice(0, 9).map((row) => [...row.cells].map((cell) => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return cell.matches('.lki-num, .lkc-num') ? Math.round(range.getBoundingClientRect().right) : null;
}))"""


def test_numbers_of_a_column_stand_under_each_other(lab: Lab) -> None:
    page = lab.open([INSPECTOR], "columns.ipynb").run_all().page
    page.wait_for_selector(".lki-token")
    rows = page.evaluate(ENDS, ".lki-list table")[1:]
    numeric = [column for column in zip(*rows, strict=True) if column[0] is not None]
    assert len(numeric) == 5 and all(max(column) - min(column) <= 1 for column in numeric), rows
    scores = page.locator(".lki-list tbody td:nth-child(5)").all_inner_texts()
    assert {len(score.split(".")[1]) for score in scores} == {3}, scores
    assert "reward model" in page.locator(".lki-sort", has_text="score").get_attribute("title")
