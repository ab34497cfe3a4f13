"""The real notebooks by hand, at the smallest scale: 03 is ranked and its rankings trained on; in 05 "Run All" is pressed once more while it trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labkit.labels.store import read_rankings
from labkit.runs import Run, StageFolder
from tests.browser import cards
from tests.browser.books import cell_with, take
from tests.browser.lab import Lab, LabServer
from tests.browser.test_cockpit import press, wait

NOTEBOOK, RANK = "05_ppo_ptx.ipynb", "03_rank.ipynb"
RANKED = 4  # cards: the newest is held out
#: Smoke's few steps would be over before a hand could press anything.
SLOWLY = """
import time
from labkit.jobs import Job
at_once = Job._record
def slowly(job, step):
    time.sleep(2)
    at_once(job, step)
Job._record = slowly
"""


@pytest.fixture(scope="module")
def prepared(lab_server: LabServer, smoke_run: Run) -> Path:
    """The notebooks in the server's folder, and the run that they go on from, before PPO; returns the run's folder."""
    take(lab_server, RANK.removesuffix(".ipynb"))
    return take(lab_server, NOTEBOOK.removesuffix(".ipynb"), smoke_run, without=("ppo", "ppo_ptx")).path


#: The cards that are up, best first by the world's own judgment: what a careful person would say.
IN_ORDER = """
gold = dict(zip([c.id for c in desk.current.cards], lab.source.gold(
    [desk.current.prompt] * len(desk.current.cards), [c.text for c in desk.current.cards], [True] * len(desk.current.cards))))
sorted(range(len(gold)), key=lambda n: -list(gold.values())[n])
"""


def test_what_is_ranked_trains_a_reward_model_on_the_spot_and_is_counted_below(lab: Lab, prepared: Path) -> None:
    lab.visit(RANK)
    lab.page.set_default_timeout(60_000)
    lab.run_all()
    board = lab.page.locator(".rb")
    board.wait_for()
    assert lab.python("summary['ranked by hand']") == 0
    for _ in range(RANKED):
        board.locator('[data-key="part:rank"]').click()
        for place, number in enumerate(lab.python(IN_ORDER), 1):
            cards.card(board, number).focus()
            cards.press(lab, str(place))
        cards.settle(lab)
        done = lab.python("desk.progress().left")
        cards.press(lab, "Enter")
        wait(lab, f"desk.progress().left < {done}")
    assert len(read_rankings(prepared / "labels")) == RANKED

    board.get_by_role("button", name="Train the RM on these").click()
    log = board.locator(".rb-log")
    log.filter(has_text="held-out accuracy").wait_for()
    wait(lab, "not any(job['running'] for job in board.jobs)")
    said = log.inner_text()
    steps = re.findall(r"step \d+: loss ([\d.]+), held-out accuracy ([\d.]+) of \d+ pairs on 1 prompt", said)
    assert len(steps) >= 3 and len(set(steps)) > 1, "they are seen to move while it trains"
    ended = re.search(rf"{RANKED} rankings of yours, the newest fifth kept apart, as first ranked: held-out accuracy ([\d.]+) \[", said)
    assert float(steps[-1][1]) == pytest.approx(float(ended[1]), abs=0.006)

    lab.run_cell(cell_with(lab, "session.finish("))
    assert lab.python("summary['ranked by hand']") == RANKED
    assert lab.complaints() == []


def test_run_all_pressed_again_while_it_trains_harms_nothing(lab: Lab, prepared: Path) -> None:
    lab.visit(NOTEBOOK)
    lab.page.set_default_timeout(60_000)
    lab.python(SLOWLY)
    lab.command("notebook:run-all-cells")
    assert [e for e in lab.errors() if "Training goes on" in e], lab.errors()
    press(lab, "pause")
    wait(lab, "job.status == 'paused'")
    lab.python("first = job\nTrue")
    lab.command("notebook:run-all-cells")
    (refused,) = [e for e in lab.errors() if "Training goes on" not in e]
    assert "is being written by another job" in refused and "Wait" in refused
    assert lab.python("job is first and job.status == 'paused'"), "the names still mean the training under way"
    lab.run_cell(cell_with(lab, "show(board)"))  # "Run All" took every output from the page
    press(lab, "resume")
    wait(lab, "not job.alive")

    stage = StageFolder(prepared / "ppo_ptx")
    assert (lab.python("job.status"), stage.status) == ("done", "done") and stage.model.is_dir()
    assert [s.number for s in stage.steps()] == list(range(1, lab.python("job.total") + 1)), (
        "one job's steps, each once"
    )
    assert not list(prepared.glob("ppo_ptx*.old")), "nothing was moved aside"

    lab.python("Job._record = at_once\nTrue")
    lab.run_cell(cell_with(lab, "board.report()"))
    lab.run_cell(cell_with(lab, "plain = "))
    wait(lab, "not plain.alive")
    lab.run_cell(cell_with(lab, "RewardInspector(rows_of"))
    lab.page.wait_for_selector(".lki-token")
    assert "sampled at step" in lab.page.inner_text(".lki-whose")
    assert lab.complaints() == []
