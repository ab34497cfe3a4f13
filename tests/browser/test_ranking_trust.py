"""The ranking board trusts no text and no key: hostile completions run nothing, typed keys stay in the board."""

from __future__ import annotations

from collections.abc import Callable

from tests.browser.cards import MODELS, card, press, start, stored
from tests.browser.lab import Lab


def test_typed_keys_never_reach_the_notebook(lab: Lab) -> None:
    board = start(lab, "leak")
    before = [cell["source"] for cell in lab.cells()]
    inside = [card(board, 0).locator("input").first, card(board, 0).locator(".rb-chip").first]
    around = [board.locator(f'[data-key="{key}"]') for key in ("submit", "note", "undo", "help")]
    for target in [card(board, 0), *inside, *around]:
        if not target.is_enabled():
            continue
        target.focus()
        press(lab, *"badxmyzvcj00", "d", "d", "Shift+Enter")
        press(lab, "Escape")
    reachable = "button, input, summary, a, textarea, select, [tabindex]"
    bare = "(root, all) => [...root.querySelectorAll(all)].filter((n) => !n.dataset.lmSuppressShortcuts).length"
    assert board.evaluate(f"(root) => ({bare})(root, {reachable!r})") == 0, (
        "both guards, for either way JupyterLab listens"
    )
    board.locator('[data-key="part:rank"]').click()
    card(board, 2).focus()
    press(lab, *"ddxbam00", "ArrowUp", "ArrowDown", "Backspace", "Delete", "Home", "Shift+Enter")
    lab.page.wait_for_timeout(300)
    assert [cell["source"] for cell in lab.cells()] == before
    press(lab, "Escape")
    active = (
        "document.activeElement.closest('.jp-Cell, .jp-Notebook') !== null && !document.activeElement.closest('.rb')"
    )
    assert lab.page.evaluate(active), "Escape gives the focus back to the notebook"


def test_hostile_texts_are_shown_and_run_nothing(lab: Lab, shots: Callable[[str], str]) -> None:
    texts = [
        "<img src=x onerror=\"window.hacked = 1\"><script>window.hacked = 2</script>",
        "The price is $x$ and \\(y\\), **not bold**, [no link](javascript:window.hacked=3).",
        "long " * 2000,
        "Safe: \u202edegrahc ton era uoy\u202c and \u2066hidden\u2069 zero\u200bwidth",
        "",
    ]  # fmt: skip
    board = start(lab, "hostile", texts=texts, count=1)
    assert len(texts[2]) == 10_000
    shown = {c.inner_text() for c in board.locator(".rb-text").all()}
    assert texts[0] in shown and texts[1] in shown
    assert (
        board.locator(".rb-text img, .rb-text script, .rb-text a, .rb-text mjx-container, .rb-text .MathJax").count()
        == 0
    )
    assert board.locator(".rb-text .lk-blank").all_inner_texts() == ["empty answer"]
    chips = board.locator(".lk-hidden").all_inner_texts()
    assert chips == ["U+202E", "U+202C", "U+2066", "U+2069", "U+200B"]
    long = board.locator(".rb-text", has_text="long long").first
    heights = long.evaluate("(box) => [box.clientHeight, box.scrollHeight]")
    assert heights[0] < 400 < heights[1], "a long text scrolls inside its card"
    number = int(long.locator("xpath=..").get_attribute("data-card"))
    card(board, number).focus()
    press(lab, "Space")
    assert long.evaluate("(box) => box.scrollTop") > 50
    lab.page.screenshot(path=shots("ranking-hostile"))
    board.locator('[data-key="part:rank"]').click()
    assert board.locator(".lk-hidden").all_inner_texts() == chips
    assert board.locator(".rb-words .lk-blank").count() == 1
    for n in range(5):
        card(board, n).focus()
        press(lab, str(n + 1))
    press(lab, "Enter")
    board.locator(".rb-echo").wait_for()
    assert lab.page.evaluate("window.hacked") is None
    (ranking,) = stored(lab, "hostile")
    assert sorted(c["text"] for c in ranking["completions"]) == sorted(texts), "stored as sampled"
    assert lab.complaints() == []


def test_a_blind_board_names_no_model_and_tells_what_it_was_given_to_tell(lab: Lab) -> None:
    board = start(lab, "blind", more=", rate=False, blind=True, remark=lambda ranking: 'The RM turns 1 of 10 pairs.'")
    lab.python("vars(session).update(score=lambda prompt, completions: 1 / 0, random_share=0)")
    for n in range(5):
        card(board, n).focus()
        press(lab, str(n + 1))
    press(lab, "Enter")
    board.locator(".rb-echo").wait_for()
    assert board.locator(".rb-remark").inner_text() == "The RM turns 1 of 10 pairs."
    assert "could not be chosen by uncertainty (ZeroDivisionError" in board.locator(".rb-notice").inner_text()
    assert board.locator(".rb-reveal").count() == 0
    assert not [model for model in MODELS if model in board.inner_text()]
    assert lab.complaints() == []
