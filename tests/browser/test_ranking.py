"""The ranking board in a real JupyterLab: rate and rank with the mouse, a finger, buttons and the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

from tests.browser.cards import TEXTS, card, drag, events, go_to, in_letters, press, settle, start, stored
from tests.browser.lab import Lab


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

    card(board, 1).wait_for()  # a board may just be drawn anew: then there is no box
    head, lane = card(board, 1).bounding_box(), board.locator('[data-drop="rank:2"]').bounding_box()
    swipe((head["x"] + 60, head["y"] + 16), (lane["x"] + 200, lane["y"] + 20))
    board.locator(".rb-formula", has_text="B").wait_for()
    assert lab.python("len(session.draft.order)") == 1
    text = board.locator(".rb-move", has_text="long long")
    text.scroll_into_view_if_needed()
    box = text.bounding_box()
    swipe((box["x"] + 90, box["y"] + 150), (box["x"] + 90, box["y"] + 60))
    lab.page.wait_for_function("() => [...document.querySelectorAll('.rb-move')].some((node) => node.scrollTop > 20)")
    assert lab.python("[len(g) for g in session.draft.order]") == [1], "a finger on the text moves no card"


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
