"""A notebook with a ranking board for the browser tests: open it, press, drag, and read the stored events back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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


def has_focus(target: Any) -> bool:
    """Whether the focus is on `target`. The board may be drawn anew between finding the element and asking it: ask again."""
    while (answer := target.evaluate("(node) => node.isConnected ? node === document.activeElement : null")) is None:
        pass
    return answer


def go_to(lab: Lab, target: Any, *keys: str) -> None:
    """Press each of these keys in turn until the focus is on `target`: no mouse and no script moves it."""
    for key in keys:
        for _ in range(40):
            if has_focus(target):
                return
            press(lab, key)
    pytest.fail(f"{' and '.join(keys)} never reached {target}")
