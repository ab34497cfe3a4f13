"""The ranking board against bad luck: killed kernels, reloaded pages, two views, updates under a typing hand, failing callbacks."""

from __future__ import annotations

import os
import signal

from tests.browser.cards import card, cells, events, in_letters, press, settle, start, stored
from tests.browser.lab import Lab

SLOW_JOB = """, rate=False, actions={"Train": lambda report: [
    report(f"step {i}") or __import__("time").sleep(0.1) for i in range(30)] and "trained"}"""


def test_a_note_survives_an_update_that_comes_while_it_is_typed(lab: Lab) -> None:
    board = start(lab, "note", more=SLOW_JOB)
    note = board.locator('[data-key="note"]')
    note.click()
    note.press_sequentially("the first is too ")
    lab.python("board._start('Train')\nTrue")
    board.locator(".rb-log", has_text="trained").wait_for(timeout=30_000)
    assert note.input_value() == "the first is too "
    board.locator(".rb-prompt").click()
    lab.page.wait_for_timeout(500)
    assert lab.python("session.draft.comment") == "the first is too "
    note.click()
    press(lab, "End", *"long")
    lab.python("board._start('Train')\nTrue")
    board.locator(".rb-log", has_text="step 3").wait_for(timeout=30_000)
    press(lab, "Tab")
    lab.page.wait_for_timeout(500)
    assert lab.python("session.draft.comment") == "the first is too long"


def test_a_line_that_a_job_reports_leaves_cards_and_fields_as_they_are(lab: Lab) -> None:
    """A screen reader would read a new card from the start, and a reason half typed would be gone."""
    board = start(lab, "lines", more=SLOW_JOB)
    card(board, 1).focus()
    lab.page.evaluate("() => (document.activeElement.dataset.mine = 'yes')")
    lab.python("board._start('Train')\nTrue")
    board.locator(".rb-log", has_text="step 3").wait_for(timeout=30_000)
    assert lab.page.evaluate("() => document.activeElement.dataset.mine") == "yes"
    press(lab, "s", *"too long", "Tab")
    board.locator(".rb-log", has_text="trained").wait_for(timeout=30_000)
    assert board.locator('[data-key="reason"]').input_value() == "too long"


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
    assert board.locator(".rb-saved").inner_text() == "not stored"
    assert "run the cell again" in board.locator(".rb-error").inner_text()
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


def test_a_board_whose_kernel_was_restarted_says_so_at_the_next_move(lab: Lab) -> None:
    """JupyterLab has taken the channel away by then: nothing could even be sent."""
    board = start(lab, "restarted", more=", rate=False")
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    lab.wait_kernel()
    card(board, 0).focus()
    press(lab, "1")
    board.locator(".rb-error").wait_for(timeout=3_000)
    assert board.locator(".rb-saved").inner_text() == "not stored"


def test_two_boards_on_one_page_share_no_name(lab: Lab) -> None:
    """Each board has a module of its own: a count of boards would be 1 in both."""
    more = "\nother = RankingBoard(LabelSession(tasks, 'ben', 'labels/ben.jsonl', seed=2))\nother"
    lab.open([*cells("two"), more.strip()], "two.ipynb").run_all()
    lab.page.locator(".rb").nth(1).wait_for()
    ids = lab.page.evaluate("() => [...document.querySelectorAll('.rb [id]')].map((node) => node.id)")
    radios = "[...board.querySelectorAll('input[type=radio]')].map((radio) => radio.name)"
    names = lab.page.evaluate(f"() => [...document.querySelectorAll('.rb')].map((board) => {radios})")
    assert ids and len(ids) == len(set(ids))
    assert names[0] and not set(names[0]) & set(names[1]), "a rating in one board would take the other's away"


def test_no_move_is_taken_while_the_kernel_does_not_answer(lab: Lab) -> None:
    board = start(lab, "silent")
    pid = lab.kernel_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        card(board, 0).focus()
        press(lab, "6")
        board.locator(".rb-late").wait_for()
        assert "nothing is stored until it does" in board.locator("[aria-live=assertive]").inner_text()
        press(lab, "2", "h")
        card(board, 1).locator("label", has_text="3").click()
        board.locator('[data-key="note"]').press_sequentially("lost")
        rated = [board.locator(f'[data-key="likert:{n}:{v}"]').is_checked() for n, v in [(0, 6), (0, 2), (1, 3)]]
        assert rated == [True, False, False], "what could be lost does not look stored"
        assert board.locator('[data-key="note"]').input_value() == ""
        board.locator('[data-key="help"]').click()
        assert board.locator(".rb-help").is_visible(), "the keys can be read meanwhile"
    finally:
        os.kill(pid, signal.SIGCONT)
    settle(lab)
    assert board.locator(".rb-error").count() == 0
    card(board, 1).focus()
    press(lab, "3")
    settle(lab)
    assert sorted(r["likert"] for r in lab.python("session.draft.to_json()")["ratings"].values()) == [3, 6]


def test_a_reloaded_page_finds_its_draft_gaps_and_all(lab: Lab) -> None:
    board = start(lab, "reload", more=", rate=False")
    for number, rank in [(0, "3"), (4, "1")]:
        card(board, number).focus()
        press(lab, rank)
    settle(lab)
    lab.command("docmanager:save")
    lab.reload()
    board = lab.page.locator(".rb")
    board.wait_for()
    assert board.locator(".rb-formula").inner_text() == "E > A"
    assert board.locator('[data-drop="rank:3"] [data-card="0"]').count() == 1, "A lies where it was put"
    card(board, 3).focus()
    press(lab, "1")
    settle(lab)
    assert lab.python("[len(g) for g in session.draft.groups]") == [2, 0, 1]


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
