"""The ranking board in a real JupyterLab: by mouse, by keyboard alone, for a screen reader, and against bad luck."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.axe import violations
from tests.browser.lab import Lab

TEXTS = [
    "The heron eats fish and frogs. It hunts at dawn, in shallow water.",
    "Herons eat bread and sleep under water.",
    "I cannot say what a heron eats.\n\nAsk a keeper of the park.",
    "The heron eats fish; it hunts at dawn. A calm bird: it stands still for a long time before it strikes, which is "
    "why people think of it as patient. Its nest is built high in the trees, and it comes back to it every year.",
    "Fish.",
]
MODELS = ["sft", "base", "ppo", "ppo_ptx", "best_of_4"]


def cells(name: str, texts: list[str] = TEXTS, count: int = 3, more: str = "") -> list[str]:
    """A notebook that opens a session on its own log and shows the board."""
    build = f"""
from labkit.labels.session import LabelSession
from labkit.types import Completion, Prompt
from widgets import RankingBoard

texts = {texts!r}
models = {(MODELS * 2)[: len(texts)]!r}
tasks = []
for n in range({count}):
    question = f"Question {{n}}: what does the heron eat, and when does it hunt?\\n"
    prompt = Prompt(id=f"p{{n}}", text=question, use_case="open_qa")
    tasks.append((prompt, [Completion(id=f"p{{n}}-{{i}}", prompt_id=prompt.id, text=t, model=m, seed=i)
                           for i, (t, m) in enumerate(zip(texts, models))]))
session = LabelSession(tasks, "ann", "labels/{name}.jsonl", seed=1)
"""
    return [build.strip(), f"board = RankingBoard(session{more})\nboard"]


def start(lab: Lab, name: str, **options: Any) -> Any:
    """Open and run the notebook; returns the board's locator."""
    lab.open(cells(name, **options), f"{name}.ipynb").run_all()
    board = lab.page.locator(".rb")
    board.wait_for()
    return board


def events(lab: Lab, name: str) -> list[dict[str, Any]]:
    """The labeler's log, as it lies on the disk."""
    lines = (Path(lab.server.root) / "labels" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def stored(lab: Lab, name: str) -> list[dict[str, Any]]:
    return [event["ranking"] for event in events(lab, name) if event["event"] == "submit"]


def in_letters(ranking: dict[str, Any]) -> str:
    """The stored groups in the letters that were on the screen: "B > A=C"."""
    letter = {i: chr(ord("A") + n) for n, i in enumerate(ranking["shown"])}
    return " > ".join("=".join(sorted(letter[i] for i in group)) for group in ranking["groups"])


def press(lab: Lab, *keys: str) -> None:
    for key in keys:
        lab.page.keyboard.press(key)


def settle(lab: Lab) -> None:
    """Wait until the last move is on the disk."""
    lab.page.wait_for_function("() => document.querySelector('.rb-saved')?.textContent === 'saved'")


def card(board: Any, number: int) -> Any:
    return board.locator(f'[data-key="card:{number}"]')


def drag(lab: Lab, source: Any, target: Any, *, shot: str | None = None) -> None:
    """Press on a card's head, move in steps, let go in the middle of the target."""
    source.scroll_into_view_if_needed()
    a, b = source.bounding_box(), target.bounding_box()
    mouse = lab.page.mouse
    mouse.move(a["x"] + 60, a["y"] + 14)
    mouse.down()
    mouse.move(a["x"] + 70, a["y"] + 24)
    mouse.move(b["x"] + b["width"] / 2, b["y"] + b["height"] / 2, steps=6)
    if shot:
        lab.page.screenshot(path=shot)
    mouse.up()
    settle(lab)


def test_rate_and_rank_with_the_mouse(lab: Lab, shots: Callable[[str], str]) -> None:
    board = start(lab, "mouse")
    for number, value in enumerate([6, 2, 3, 7, 4]):
        card(board, number).locator("label", has_text=str(value)).click()
    card(board, 1).get_by_role("button", name="Hallucination").click()
    settle(lab)
    board.locator('[data-key="submit"]').click()
    drag(lab, card(board, 0), board.locator('[data-drop="rank:1"]'))
    drag(lab, card(board, 1), board.locator('[data-drop="rank:5"]'))
    drag(lab, card(board, 3), card(board, 0), shot=shots("ranking-drag"))
    drag(lab, card(board, 2), board.locator('[data-drop="rank:3"]'))
    drag(lab, card(board, 4), board.locator('[data-drop="rank:3"]'))
    drag(lab, card(board, 4), board.locator('[data-drop="tray"]'))
    assert board.locator(".rb-formula").inner_text() == "A = D > C > B"
    board.locator('[data-key="submit"]').click()
    assert "E is not ranked yet" in board.locator(".rb-info").inner_text()
    board.locator('[data-key="submit"]').click()
    board.locator(".rb-echo").wait_for()
    (ranking,) = stored(lab, "mouse")
    assert in_letters(ranking) == "A=D > C > B"
    ratings = {ranking["shown"].index(i): rating for i, rating in ranking["ratings"].items()}
    assert [ratings[n]["likert"] for n in range(5)] == [6, 2, 3, 7, 4]
    assert ratings[1]["flags"] == ["hallucination"]
    assert ranking["completions"][0]["model"] == "sft"
    assert lab.complaints() == []


def test_a_card_can_be_moved_without_dragging_and_squeezed_in(lab: Lab) -> None:
    board = start(lab, "buttons", more=", rate=False")
    for number, rank in [(0, 1), (1, 2), (2, 3)]:
        card(board, number).click()
        board.get_by_role("button", name=f"to rank {rank}").click()
    card(board, 3).click()
    board.locator('[data-drop="rank:5"] .rb-gutter').click()
    settle(lab)
    assert board.locator(".rb-formula").inner_text() == "A > B > C > D"
    source, below = card(board, 4), board.locator('[data-drop="rank:2"]')
    a, b = source.bounding_box(), below.bounding_box()
    lab.page.mouse.move(a["x"] + 60, a["y"] + 14)
    lab.page.mouse.down()
    lab.page.mouse.move(b["x"] + 100, b["y"] + 20, steps=6)
    b = below.bounding_box()  # a drag that begins near the edge scrolls the page, and the lane with it
    lab.page.mouse.move(b["x"] + 100, b["y"] - 3, steps=3)
    lab.page.mouse.up()
    settle(lab)
    assert board.locator(".rb-formula").inner_text() == "A > E > B > C > D"


def test_a_finger_drags_by_the_head_and_scrolls_on_the_text(lab: Lab) -> None:
    board = start(lab, "touch", more=", rate=False", texts=[*TEXTS[:4], "long " * 800])
    hand = lab.context.new_cdp_session(lab.page)
    hand.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def swipe(a: tuple[float, float], b: tuple[float, float]) -> None:
        hand.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": a[0], "y": a[1]}]})
        for part in (0.1, 0.4, 0.7, 1.0):
            point = {"x": a[0] + part * (b[0] - a[0]), "y": a[1] + part * (b[1] - a[1])}
            hand.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    head, lane = card(board, 1).bounding_box(), board.locator('[data-drop="rank:2"]').bounding_box()
    swipe((head["x"] + 60, head["y"] + 16), (lane["x"] + 200, lane["y"] + 20))
    board.locator(".rb-formula", has_text="B").wait_for()
    assert lab.python("len(session.draft.groups)") == 1
    text = board.locator(".rb-move", has_text="long long")
    text.scroll_into_view_if_needed()
    box = text.bounding_box()
    swipe((box["x"] + 90, box["y"] + 150), (box["x"] + 90, box["y"] + 60))
    lab.page.wait_for_function("() => [...document.querySelectorAll('.rb-move')].some((node) => node.scrollTop > 20)")
    assert lab.python("[len(g) for g in session.draft.groups]") == [1], "a finger on the text moves no card"


def go_to(lab: Lab, target: Any, *keys: str) -> None:
    """Press each of these keys in turn until the focus is on `target`: no mouse and no script moves it."""
    for key in keys:
        for _ in range(40):
            if target.evaluate("(node) => node === document.activeElement"):
                return
            press(lab, key)
    pytest.fail(f"{' and '.join(keys)} never reached {target}")


def test_rate_and_rank_by_keyboard_alone(lab: Lab) -> None:
    board = start(lab, "keys")
    lab.page.locator(".jp-Notebook").focus()
    go_to(lab, card(board, 0), "Tab")
    press(
        lab,
        "5",
        "ArrowRight",
        "2",
        "h",
        "ArrowRight",
        "6",
        "ArrowRight",
        "7",
        "ArrowRight",
        "3",
        "f",
        "i",
        "i",
        "Enter",
    )
    press(lab, "2", "ArrowRight")
    press(lab, "Tab", "3", "u", "Shift+U", "Tab")
    settle(lab)
    place = {number: int(card(board, number).get_attribute("aria-posinset")) for number in range(5)}
    assert sorted(place.values()) == [1, 2, 3, 4, 5]
    for number, keys in enumerate([["1"], ["5"], ["2"], ["1"], ["4", "ArrowUp"]]):
        go_to(lab, card(board, number), "ArrowRight", "ArrowLeft")
        press(lab, *keys)
    settle(lab)
    assert board.locator(".rb-formula").inner_text() == "A = D > C > E > B"
    press(lab, "Enter")
    board.locator(".rb-echo").wait_for()
    (ranking,) = stored(lab, "keys")
    assert in_letters(ranking) == "A=D > C > E > B"
    second = ranking["shown"][1]
    assert ranking["ratings"][second] == {"likert": 2, "flags": ["hallucination"]}
    assert ranking["ratings"][ranking["shown"][4]]["flags"] == ["fails_instruction"]

    press(lab, "u")  # past the submit
    board.locator(".rb-formula", has_text="A = D > C > E > B").wait_for()
    press(lab, "Shift+U")
    board.locator(".rb-prompt", has_text="Question 1").wait_for()
    press(lab, "s", *"too long", "Enter")
    board.locator(".rb-prompt", has_text="Question 2").wait_for()
    press(lab, "n", "Enter")
    assert "needs a reason" in board.locator(".rb-info").inner_text()
    press(lab, *"needs an expert", "Enter")
    board.locator(".rb-finished").wait_for()
    kinds = [event["event"] for event in events(lab, "keys")]
    assert [kind for kind in kinds if kind not in {"draft", "open", "shown"}][-5:] == [
        "submit",
        "undo",
        "redo",
        "skip",
        "cannot_judge",
    ]
    assert [e["reason"] for e in events(lab, "keys") if e["event"] in {"skip", "cannot_judge"}] == [
        "too long",
        "needs an expert",
    ]
    assert "All cards are decided" in board.locator(".rb-finished").inner_text()


SLOW_JOB = """, rate=False, actions={"Train": lambda report: [
    report(f"step {i}") or __import__("time").sleep(0.1) for i in range(30)] and "trained"}"""


def test_a_note_survives_an_update_that_comes_while_it_is_typed(lab: Lab) -> None:
    board = start(lab, "note", more=SLOW_JOB)
    note = board.locator('[data-key="note"]')
    note.click()
    note.press_sequentially("the first is too ")
    lab.python("board._start('Train')\nTrue")
    board.get_by_text("trained").wait_for(timeout=30_000)
    assert note.input_value() == "the first is too "
    board.locator(".rb-prompt").click()
    lab.page.wait_for_timeout(500)
    assert lab.python("session.draft.comment") == "the first is too "
    note.click()
    press(lab, "End", *"long")
    lab.python("board._start('Train')\nTrue")
    board.get_by_text("step 3").first.wait_for(timeout=30_000)
    press(lab, "Tab")
    lab.page.wait_for_timeout(500)
    assert lab.python("session.draft.comment") == "the first is too long"


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
    ]  # fmt: skip
    board = start(lab, "hostile", texts=texts, count=1)
    assert len(texts[2]) == 10_000
    shown = {c.inner_text() for c in board.locator(".rb-text").all()}
    assert texts[0] in shown and texts[1] in shown
    assert (
        board.locator(".rb-text img, .rb-text script, .rb-text a, .rb-text mjx-container, .rb-text .MathJax").count()
        == 0
    )
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
    for n in range(4):
        card(board, n).focus()
        press(lab, str(n + 1))
    press(lab, "Enter")
    board.locator(".rb-echo").wait_for()
    assert lab.page.evaluate("window.hacked") is None
    (ranking,) = stored(lab, "hostile")
    assert sorted(c["text"] for c in ranking["completions"]) == sorted(texts), "stored as sampled"
    assert lab.complaints() == []


def test_a_screen_reader_hears_every_move(lab: Lab) -> None:
    board = start(lab, "spoken", more=", rate=False")
    live = board.locator(".lk-spoken")
    assert live.get_attribute("aria-live") == "assertive"

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
    assert card(board, 2).evaluate("(node) => node === document.activeElement"), "the focus follows the card"
    press(lab, "ArrowUp")
    hears("C moved to rank 1 of 5")
    press(lab, "Backspace")
    hears("C moved to the unranked tray")
    press(lab, "9")
    hears("There are 5 ranks; 9 is none of them")
    described = card(board, 2).get_attribute("aria-describedby")
    assert lab.page.locator(f"#{described}").inner_text(), "the text itself is the option's description"


def test_a_killed_kernel_loses_nothing(lab: Lab) -> None:
    board = start(lab, "killed", more=", rate=False")
    for number, rank in [(0, "3"), (1, "1"), (2, "1")]:
        card(board, number).focus()
        press(lab, rank)
    settle(lab)
    os.kill(lab.kernel_pid(), signal.SIGKILL)
    card(board, 3).focus()
    press(lab, "2")
    board.locator(".rb-late").wait_for()
    assert "kernel" in board.locator(".rb-saved").inner_text()
    ok = lab.page.locator(".jp-Dialog button")  # JupyterLab may say that the kernel restarted
    if ok.count():
        ok.last.click()
    lab.wait_kernel()
    lab.run_all()
    lab.page.wait_for_timeout(500)
    board = lab.page.locator(".rb").last
    board.wait_for()
    assert board.locator(".rb-formula").inner_text() == "B = C > A"
    assert [e["event"] for e in events(lab, "killed")].count("open") == 2
    card(board, 3).focus()
    press(lab, "4", "Enter", "Enter")
    board.locator(".rb-echo").wait_for()
    assert in_letters(stored(lab, "killed")[0]) == "B=C > A > D"


def test_a_reloaded_page_finds_its_draft(lab: Lab) -> None:
    board = start(lab, "reload", more=", rate=False")
    for number, rank in [(0, "2"), (4, "1")]:
        card(board, number).focus()
        press(lab, rank)
    settle(lab)
    lab.command("docmanager:save")
    lab.reload()
    board = lab.page.locator(".rb")
    board.wait_for()
    assert board.locator(".rb-formula").inner_text() == "E > A"
    card(board, 3).focus()
    press(lab, "1")
    settle(lab)
    assert lab.python("[len(g) for g in session.draft.groups]") == [2, 1]


def test_two_views_of_one_board_agree(lab: Lab) -> None:
    lab.open([*cells("views", more=", rate=False"), "board"], "views.ipynb").run_all()
    first, second = lab.page.locator(".rb").nth(0), lab.page.locator(".rb").nth(1)
    second.wait_for()
    card(first, 1).focus()
    press(lab, "1")
    second.locator(".rb-formula", has_text="B").wait_for()
    card(second, 0).focus()
    press(lab, "1")
    first.locator(".rb-formula", has_text="A = B").wait_for()


def test_the_training_button_reports_and_callback_errors_are_shown(lab: Lab) -> None:
    more = ', rate=False, on_submit=lambda r: 1 / 0, actions={"Train the RM on these": train}'
    made = cells("jobs", more=more)
    made[1] = "def train(report):\n    report('epoch 1: held-out accuracy 0.61')\n    return 'done: 0.70'\n" + made[1]
    lab.open(made, "jobs.ipynb").run_all()
    board = lab.page.locator(".rb")
    board.get_by_role("button", name="Train the RM on these").click()
    board.locator(".rb-log", has_text="done: 0.70").wait_for()
    assert "epoch 1: held-out accuracy 0.61" in board.locator(".rb-log").inner_text()
    for number in (0, 1):
        card(board, number).focus()
        press(lab, str(number + 1))
    press(lab, "Enter", "Enter")
    error = board.locator(".rb-error")
    error.wait_for()
    assert error.inner_text() == "Stored, but on_submit failed: ZeroDivisionError: division by zero"
    assert len(stored(lab, "jobs")) == 1


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


def test_a_card_of_the_world(lab: Lab, shots: Callable[[str], str]) -> None:
    """The embedded world's prompts and answers on the board; its picture is the README's."""
    build = """
from labkit.labels.session import LabelSession
from labkit.world.facts import build_world
from labkit.world.prompts import sample_prompts
from labkit.world.shown import sample_completions
from widgets import RankingBoard

prompts = sample_prompts(build_world(0), 300, seed=0)
asked = [p for p in prompts if p.use_case in ("generation", "open_qa", "brainstorming") and 60 < len(p.text) < 160][:6]
session = LabelSession([(p, sample_completions(p, 5, seed=3)) for p in asked], "ann", "labels/world.jsonl")
RankingBoard(session, actions={"Train the RM on these": print})
"""
    lab.open([build.strip()], "world.ipynb").run_all()
    board = lab.page.locator(".rb")
    board.wait_for()
    card(board, 0).focus()
    press(lab, "6", "c", "ArrowRight", "2", "i", "ArrowRight", "4", "ArrowRight", "6", "ArrowRight", "1", "f", "Enter")
    for number, rank in [(0, "1"), (3, "1"), (1, "4"), (2, "2")]:
        card(board, number).focus()
        press(lab, rank)
    settle(lab)
    lab.page.wait_for_timeout(400)  # moved cards have come to rest
    board.screenshot(path=shots("readme-ranking"))
    press(lab, "Enter", "Enter")
    board.locator(".rb-echo").wait_for()
    assert in_letters(stored(lab, "world")[0]) == "A=D > C > B"
    assert lab.complaints() == []
