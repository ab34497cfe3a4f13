"""The reward inspector in a real JupyterLab: filter, sort, export, tokens, edit and rescore, probes, hostile text."""

import csv
import json
from pathlib import Path

import pytest

from tests.browser.lab import Lab

CELL = """
from tests.toy_inspector import rows, scorer, explain, rankings
from widgets import RewardInspector
board = RewardInspector(rows(hostile=True), scorer=scorer, explain=explain, rankings=rankings())
board
"""


@pytest.fixture
def inspector(lab: Lab) -> Lab:
    lab.open([CELL], "inspector.ipynb").run_all()
    lab.page.wait_for_selector(".lki-token")
    return lab


def test_find_a_response_look_inside_edit_and_rescore(inspector: Lab, shots, tmp_path: Path) -> None:
    page = inspector.page
    scores = [float(t) for t in page.locator(".lki-list tbody td:nth-child(5)").all_inner_texts()]
    assert scores == sorted(scores, reverse=True) and len(scores) == 36
    page.fill(".lki-search", "badger fish")
    page.select_option(".lki-menu >> nth=0", "ppo_ptx")
    assert page.inner_text(".lki-count").startswith("2 of 36")
    with page.expect_download() as download:
        page.click("text=JSONL")
    download.value.save_as(tmp_path / "rows.jsonl")
    exported = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [r["source"] for r in exported] == ["ppo_ptx", "ppo_ptx"] and "badger" in exported[0]["prompt"]
    page.locator(".lki-list tbody tr").first.click()
    cards = page.locator(".lki-card-head strong").all_inner_texts()
    assert [c.split(",")[0] for c in cards] == ["base", "sft", "best of 4", "ppo", "ppo_ptx"]
    page.wait_for_function("() => document.querySelectorAll('.lki-token').length > 5")
    page.locator(".lki-token").nth(1).hover()
    assert "advantage" in page.inner_text(".lki-readout") and "badger" in page.inner_text(".lki-readout")
    page.locator(".lki-token").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "token 3" in page.inner_text(".lki-readout")
    page.locator(".lki").screenshot(path=shots("inspector-light"))
    page.fill(".lki-edit", "water water water")
    page.wait_for_function("() => document.querySelector('.lki-result').dataset.sign === 'up'")
    assert "against the original" in page.inner_text(".lki-result")
    page.locator(".lki-card").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.lki-card')[1].getAttribute('aria-pressed') === 'true'")
    assert page.evaluate("() => document.activeElement.matches('.lki-card[aria-pressed=true]')"), "the keyboard stays where it was"
    inspector.dark()
    page.locator(".lki").screenshot(path=shots("inspector-dark"))
    inspector.dark(False)
    assert inspector.complaints() == []


def test_the_reward_model_page_and_the_probes(inspector: Lab, shots) -> None:
    page = inspector.page
    page.locator(".lki-tab").nth(1).click()
    page.wait_for_selector(".lki-figures img")
    assert page.locator(".lki-figures img").count() == 5
    assert page.locator(".lki-worst tbody tr").count() > 0
    page.locator(".lki").screenshot(path=shots("inspector-reward"))
    page.keyboard.press("ArrowRight")
    page.click("text=Probe the filtered responses")
    page.wait_for_selector(".lki-effect")
    first = page.locator(".lki-page:not([hidden]) tbody tr").first
    assert "pays" in first.inner_text() and "repetition" in first.inner_text()
    page.locator(".lki").screenshot(path=shots("inspector-probes"))
    assert inspector.complaints() == []


def test_hostile_text_is_text_and_keys_stay_in_the_board(inspector: Lab) -> None:
    page = inspector.page
    page.fill(".lki-search", "onerror")
    page.locator(".lki-list tbody tr").first.click()
    page.wait_for_selector(".lki-card >> text=<img src=x onerror")
    assert page.locator(".lki-split img, .lki mjx-container").count() == 0
    assert "U+202E" in page.inner_text(".lki-beside")
    assert page.evaluate("window.__hacked") is None
    page.locator(".lki-list tbody tr").first.focus()
    for _ in range(2):
        page.keyboard.press("d")
    page.locator(".lki-edit").press_sequentially("b a d d")
    assert len(inspector.cells()) == 1
    assert inspector.complaints() == []


def test_a_reloaded_page_shows_the_tokens_and_scores_the_same_text_again(inspector: Lab) -> None:
    page = inspector.page
    again = "() => /against the original/.test(document.querySelector('.lki-result').textContent)"
    scored = "() => document.querySelector('.lki-result').dataset.waiting === 'false'"
    tokens = page.locator(".lki-token").all_inner_texts()
    page.fill(".lki-edit", "water water water")
    page.wait_for_function(again)
    inspector.command("docmanager:save")
    inspector.reload()
    page.wait_for_selector(".lki-token")
    assert page.locator(".lki-token").all_inner_texts() == tokens
    for what in (".lki-list tbody tr", ".lki-card[aria-pressed=true]"):
        page.locator(what).first.click()
        page.wait_for_selector(".lki-token")
        assert "Asking" not in page.inner_text(".lki-readout")
    for _ in range(2):
        page.fill(".lki-edit", "water water water")
        page.wait_for_function(again)
        page.wait_for_function(scored)
        page.click(".lki-editbar >> text=Original")
    assert inspector.complaints() == []


def test_models_that_fail_leave_no_promise_of_an_answer(inspector: Lab) -> None:
    page = inspector.page
    inspector.python("board.explain = lambda row: 1 / 0\nTrue")
    page.locator(".lki-list tbody tr").nth(2).click()
    page.wait_for_selector(".lki-notice.lki-bad")
    assert "ZeroDivisionError" in page.inner_text(".lki-notice")
    assert "Asking" not in page.inner_text(".lki-readout")


WHOLE = """
from tests.toy_inspector import rows, scorer, explain
from widgets import RewardInspector
def batches(source, step):
    made = [r for r in rows() if (r["source"], r["step"]) == (source, step)]
    return [{**r, "response": f"episode {i} of {source}", "token_ids": [i, 7], "seed": 2**62 + i} for i in range(128) for r in made[:1]]
board = RewardInspector(rows(), scorer=scorer, explain=explain, batches=batches)
board
"""


FOCUSED_ROW = "() => [...document.querySelectorAll('.lki-list tbody tr')].indexOf(document.activeElement)"


def test_the_whole_batch_of_a_chosen_step_comes_when_it_is_asked_for(lab: Lab, tmp_path: Path) -> None:
    page = lab.open([WHOLE], "whole.ipynb").run_all().page
    page.wait_for_selector(".lki-token")
    button = page.locator(".lki-tools button", has_text="Whole batch")
    assert not button.is_visible(), "no step is chosen yet"
    page.select_option(".lki-menu >> nth=0", "ppo_ptx")
    page.select_option(".lki-menu >> nth=1", "30")
    assert button.is_visible() and page.inner_text(".lki-count").startswith("6 of 36")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.lki-count').textContent.startsWith('128 of 158')")
    assert not button.is_visible() and page.locator(".lki-list tbody tr").count() == 100
    assert page.evaluate(FOCUSED_ROW) == 0, "the keyboard goes on in the first row"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(FOCUSED_ROW) == 1
    page.locator(".lki-scroll button", has_text="Show more").focus()
    page.keyboard.press("Enter")
    assert page.locator(".lki-list tbody tr").count() == 128 and page.evaluate(FOCUSED_ROW) == 100, "the first of the new rows"
    page.fill(".lki-search", "episode 77")
    for name in ("JSONL", "CSV"):
        with page.expect_download() as download:
            page.click(f".lki-export >> text='{name}'")
        download.value.save_as(tmp_path / name)
    (row,) = [json.loads(line) for line in (tmp_path / "JSONL").read_text().splitlines()]
    assert (row["seed"], row["token_ids"]) == (2**62 + 77, [77, 7]), "what replays a response is in the file"
    (row,) = csv.DictReader((tmp_path / "CSV").open(newline=""))
    assert (row["seed"], row["token_ids"]) == (str(2**62 + 77), "77 7")
    page.locator(".lki-list tbody tr").first.click()
    page.wait_for_function("() => document.querySelectorAll('.lki-token').length === 5")  # "episode 77 of ppo_ptx" and the end
    page.select_option(".lki-menu >> nth=1", "60")
    page.fill(".lki-search", "")
    assert button.is_visible() and page.inner_text(".lki-count").startswith("6 of 158")
    assert lab.complaints() == []


LONG = """
import widgets.inspector
widgets.inspector.MAX_ROWS, widgets.inspector.MAX_PROBED = 8, 5
from tests.toy_inspector import rows, scorer
from widgets import RewardInspector
board = RewardInspector([{**row, "step": n} for n in range(1, 6) for row in rows()[:6]], scorer=scorer)
board
"""


def test_a_step_that_is_not_on_the_page_is_in_its_menu_and_can_be_had_and_probes_say_what_they_took(lab: Lab) -> None:
    page = lab.open([LONG], "long.ipynb").run_all().page
    page.wait_for_selector(".lki-list tbody tr")
    assert "22 earlier ones are not on the page" in page.inner_text(".lki-count")
    page.select_option(".lki-menu[aria-label=step]", "2")
    assert page.inner_text(".lki-count").startswith("0 of 8")
    page.locator(".lki-tools button", has_text="Its samples").click()
    page.wait_for_function("() => document.querySelector('.lki-count').textContent.startsWith('6 of 14')")
    page.locator(".lki-tab").nth(2).click()
    page.click("text=Probe the filtered responses")
    page.wait_for_function("() => document.querySelector('.lki-probed').textContent.includes('5 of 6 responses, drawn at random')")
    page.click(".lki-drawn summary")
    assert page.locator(".lki-drawn tbody tr").count() == 5
    assert lab.complaints() == []


#: [left and right end of the box, left end of the first token's name, whether the box scrolls sideways]
SIDES = """() => {
    const box = document.querySelector('.lki-full'), name = box.querySelector('tbody th');
    const [a, b] = [box, name].map((node) => node.getBoundingClientRect());
    return {from: a.left, to: a.right, name: b.left, end: b.right, over: box.scrollWidth - box.clientWidth};
}"""


def test_all_numbers_of_all_tokens_fit_a_laptop_and_keep_their_token_where_they_do_not(inspector: Lab, shots) -> None:
    page = inspector.page
    page.locator(".lki-numbers summary").click()
    table = page.locator(".lki-full")
    assert table.locator("thead th").count() == 12 and table.get_attribute("tabindex") == "0", "all of COLUMNS, and a scrolling box that keys reach"
    assert page.evaluate(SIDES)["over"] <= 0, "nothing to scroll sideways at 1,280 pixels"
    wide = page.locator(".lki-list .lki-scroll").evaluate("(box) => box.scrollWidth - box.clientWidth")
    assert wide <= 0, "nor in the table of responses"
    page.locator(".lki").screenshot(path=shots("inspector-numbers"))
    page.set_viewport_size({"width": 700, "height": 1000})
    page.wait_for_timeout(400)
    table.evaluate("(box) => (box.scrollLeft = box.scrollWidth)")
    seen = page.evaluate(SIDES)
    assert seen["over"] > 100 and seen["from"] - 1 <= seen["name"] < seen["end"] <= seen["to"], "the token stays beside its numbers"
    page.locator(".lki-full").screenshot(path=shots("inspector-numbers-narrow"))
