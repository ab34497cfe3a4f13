"""Make the README's pictures of the three boards, in light and dark, from a real run that is steered in JupyterLab.

    python -m tests.browser.pictures --run runs/tour                 all three, into docs/images/
    python -m tests.browser.pictures --run runs/tour --only ranking --to build/screenshots

The run is a finished tour (`make demo`). Its prompts, models and rankings are copied, so that nothing of it is changed;
then 03 is labeled by keyboard, 05 trains PPO-ptx anew with one knob moved by hand, and 04's inspector looks at the run.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.browser import find_browser
from tests.browser.cards import card, press, settle
from tests.browser.lab import BROWSER_FLAGS, ROOT, Lab, LabServer

WIDTH, SCALE = 1180, 1.5  # a page as wide as the README shows it, with some sharpness to spare
NAME = "tour"


def main() -> int:
    """Read the arguments, make the pictures, print where they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished tour")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--only", choices=list(BOARDS), action="append", help="some of the boards")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with jupyter(given.run) as lab:
        for name in given.only or BOARDS:
            BOARDS[name](lab, given.to)
    return 0


@contextmanager
def jupyter(run: Path) -> Iterator[Lab]:
    """A JupyterLab in a folder of its own, with a copy of the run and of the notebooks, and a page on it."""
    from playwright.sync_api import sync_playwright

    path = find_browser.find()
    if path is None:
        sys.exit(find_browser.MISSING)
    with tempfile.TemporaryDirectory() as folder:
        server = LabServer(Path(folder))
        copy_run(run, server.root / "runs" / NAME)
        for notebook in (ROOT / "notebooks").glob("*.ipynb"):
            (server.root / notebook.name).write_text(on_the_run(notebook))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_FLAGS))
                yield Lab(server, browser, width=WIDTH, height=1400, scale=SCALE)
                browser.close()
        finally:
            server.shut_kernels()
            server.stop()


def copy_run(run: Path, to: Path) -> None:
    """What the notebooks start from."""
    left_out = shutil.ignore_patterns("notebooks", "report", "evaluate", "epochs", "labels")
    shutil.copytree(run, to, ignore=left_out)


def on_the_run(notebook: Path) -> str:
    """The notebook with its `run` parameter set to the copied run, and cards enough to choose one from."""
    book = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in book["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            more = [line.replace("prompts_by_hand = 10 ", "prompts_by_hand = 40 ") for line in cell["source"][1:]]
            cell["source"] = [f'run = "{NAME}"  # the run of the pictures\n', *more]
    return json.dumps(book)


def take(lab: Lab, selector: str, to: Path, name: str) -> None:
    """A picture of one board in each theme, with a palette of 256 colours in which rare ones, as of a single green word, are kept."""
    from PIL import Image

    for dark in (False, True):
        lab.dark(dark)
        lab.page.locator(selector).last.scroll_into_view_if_needed()
        lab.page.wait_for_timeout(600)  # canvases are drawn anew, cards have come to rest
        raw = lab.page.locator(selector).last.screenshot()
        file = to / (f"{name}-dark.png" if dark else f"{name}.png")
        Image.open(io.BytesIO(raw)).convert("RGB").quantize(256, kmeans=3).save(file, optimize=True)
        print(file, f"{file.stat().st_size // 1024} kB", flush=True)
    lab.dark(False)


def wait(lab: Lab, true: str, seconds: float = 3600) -> None:
    """Until an expression in the kernel is true."""
    end = time.monotonic() + seconds
    while not lab.python(true):
        if time.monotonic() > end:
            raise TimeoutError(f"never true: {true}")
        time.sleep(1)


def run_cells(lab: Lab, *numbers: int) -> None:
    for number in numbers:
        lab.run_cell(number)
        lab.wait_kernel()


def ranking(lab: Lab, to: Path) -> None:
    """03: rate a card of five answers, rank four of them."""
    lab.visit("03_rank.ipynb")
    run_cells(lab, 1, 2, 4)
    board = lab.page.locator(".rb")
    board.wait_for()
    gold = lab.python(TELLING)
    lab.page.wait_for_timeout(500)
    label_by(lab, board, gold)
    take(lab, ".rb", to, "ranking")


#: Bring up a card of five answers from bad to perfect to a short prompt, and give their gold utilities in shown order.
TELLING = """
def worth(task):
    return lab.source.gold([task.prompt] * len(task.cards), [c.text for c in task.cards], [True] * len(task.cards))
def telling(task):
    gold = worth(task)
    return round(max(gold) - min(gold), 1), len({round(g, 1) for g in gold}), -task.prompt.text.count("\\n")
found = max((t for t in desk.tasks if len(t.cards) == 5), key=telling)
desk.show(found.id)
board.refresh()
worth(found)
"""


def label_by(lab: Lab, board: Any, gold: list[float]) -> None:
    """What a careful person would do: rate by quality, flag what fails, rank, and leave the last one for later."""
    order = sorted(range(5), key=lambda n: -gold[n])
    ladder = sorted({round(gold[n], 1) for n in order[:4]}, reverse=True)
    for number, value in enumerate(gold):
        card(board, number).focus()
        press(lab, str(max(1, min(7, round(1 + 6 * value)))), *(["f"] if value < 0.3 else []))
    press(lab, "Enter")
    for number in order[:4]:
        card(board, number).focus()
        press(lab, str(1 + ladder.index(round(gold[number], 1))))
    card(board, order[1]).focus()
    settle(lab)


def cockpit(lab: Lab, to: Path) -> None:
    """05: PPO-ptx trains; at the tenth step β is moved by hand, at the twentieth both pictures are taken, for which it waits."""
    lab.visit("05_ppo_ptx.ipynb")
    run_cells(lab, 1, 2, 4, 5)
    lab.page.locator(".lkc").wait_for()
    lab.python(SITTING)
    wait(lab, "len(job.steps) >= 10")
    lab.page.fill(".lkk-why", "KL is low: let it move")
    lab.page.fill("[data-knob=kl_coef] .lkk-number", "0.2")
    lab.page.press("[data-knob=kl_coef] .lkk-number", "Enter")
    wait(lab, "len(job.steps) >= 20")
    lab.page.wait_for_timeout(1500)  # the board has drawn the step
    take(lab, ".lkc", to, "cockpit")
    lab.python("taken.set()")
    wait(lab, "job.status == 'done'")
    lab.command("docmanager:save")


#: After the twentieth step training waits, so that the light picture and the dark one show the same.
SITTING = """
import threading
taken, at_once = threading.Event(), type(job)._record
def sitting(self, step):
    at_once(self, step)
    if step.number == 20:
        taken.wait(300)
type(job)._record = sitting
"""


def inspector(lab: Lab, to: Path) -> None:
    """04: the inspector on the run's answers, at one that PPO-ptx wrote."""
    lab.visit("04_reward.ipynb")
    run_cells(lab, 1, 2, 12)
    page = lab.page
    page.wait_for_selector(".lki-token")
    page.locator(".lki").get_by_label("source", exact=True).select_option("ppo_ptx")
    page.locator(".lki-list tbody tr").nth(2).click()
    page.wait_for_function("() => document.querySelectorAll('.lki-token').length > 5")
    page.locator(".lki-token").nth(3).hover()
    take(lab, ".lki", to, "inspector")


BOARDS = {"ranking": ranking, "cockpit": cockpit, "inspector": inspector}

if __name__ == "__main__":
    sys.exit(main())
