"""The other notebooks by hand, at the smallest scale: opened, run to the end as their cells say, looked at, and one thing done in each."""

from __future__ import annotations

import re

from labkit.findings import FINDINGS
from labkit.findings.plan import load_plan, plan_of
from labkit.labels.store import read_rankings
from labkit.runs import Run
from tests.browser import cards
from tests.browser.books import cell_with, choose, click_cell, failures, look, summary_of, take, walk
from tests.browser.lab import Lab, LabServer
from tests.browser.test_by_hand import SLOWLY
from tests.browser.test_cockpit import wait
from tests.findings.recorded import record_all


def test_00_the_tour_is_walked_from_nothing_to_its_summary(lab: Lab, lab_server: LabServer) -> None:
    run = take(lab_server, "00_tour")
    lab.visit("00_tour.ipynb")
    stops = walk(lab)
    assert stops == [cell_with(lab, line) for line in ("sft.result()", "reward.result()", "ppo.result()")]
    look(lab)
    assert lab.page.locator(".lkc").count() == 5
    assert lab.page.locator(".lkc-runs").last.inner_text().split() == ["ppo", "ppo_ptx"], "PPO-ptx is drawn beside PPO"
    assert {"RM accuracy", "ppo_ptx gold", "ppo_ptx LM loss"} <= set(summary_of(lab, run, "00_tour"))


def test_01_prompts_are_counted_and_shown(lab: Lab, lab_server: LabServer, smoke_run: Run) -> None:
    run = take(lab_server, "01_prompts", smoke_run)
    lab.visit("01_prompts.ipynb")
    assert walk(lab) == []
    look(lab)
    summary = summary_of(lab, run, "01_prompts")
    counts = lab.page.locator(".jp-Notebook .jp-Cell").nth(cell_with(lab, "print(report)"))
    assert re.search(rf"train +{summary['training prompts']} prompts of \d+ users", counts.text_content())


def test_02_the_learning_rate_is_bent_while_run_all_waits_and_the_notebook_goes_on(
    lab: Lab, lab_server: LabServer, smoke_run: Run
) -> None:
    run = take(lab_server, "02_sft", smoke_run)
    page = lab.visit("02_sft.ipynb").page
    lab.python(SLOWLY)

    def bend() -> None:
        board = page.locator(".lkc").first
        board.locator(".lkk-why").fill("too fast")
        knob = board.locator("[data-knob=lr_scale] .lkk-number")
        knob.fill("0.5")
        knob.press("Enter")
        board.locator("summary", has_text="Ledger").click()
        board.locator("tr", has_text="too fast").filter(has_text="applied").wait_for()
        lab.python("Job._record = at_once\nTrue")

    stops = walk(lab, bend)
    assert stops == [cell_with(lab, line) for line in ("sft.result()", "init.result()")]
    (row,) = [r for r in run.stage("sft").ledger() if r["knob"] == "lr_scale"]
    assert (row["new"], row["outcome"], row["why"], row["by"]) == (0.5, "applied", "too fast", "hand")
    look(lab)
    assert {"SFT loss", "PPO init loss", "SFT validation loss"} == set(summary_of(lab, run, "02_sft"))


def test_04_the_inspector_is_filtered_and_an_edited_answer_scored_anew(lab: Lab, lab_server: LabServer, smoke_run: Run) -> None:
    run = take(lab_server, "04_reward", smoke_run)
    page = lab.visit("04_reward.ipynb").page
    assert walk(lab) == [cell_with(lab, "job.result()")]
    look(lab)
    board = page.locator(".lki")
    everything = board.locator(".lki-count").inner_text()
    board.get_by_label("source", exact=True).select_option("sft")
    page.wait_for_function("(before) => document.querySelector('.lki-count').textContent !== before", arg=everything)
    assert {t.split(maxsplit=1)[0] for t in board.locator(".lki-list tbody tr").all_inner_texts()} == {"sft"}
    board.locator(".lki-list tbody tr").first.click()
    page.wait_for_selector(".lki-token")
    board.locator(".lki-edit").fill("The fox eats fish.")
    page.wait_for_function("() => /against the original/.test(document.querySelector('.lki-result').textContent)")
    assert "RM accuracy" in summary_of(lab, run, "04_reward")


def test_06_one_comparison_is_judged_blind_and_counts_among_the_judges(lab: Lab, lab_server: LabServer, smoke_run: Run) -> None:
    run = take(lab_server, "06_evaluate", smoke_run, best_of=2)
    page = lab.visit("06_evaluate.ipynb").page
    assert walk(lab) == []
    look(lab)
    board = page.locator(".rb")
    board.locator('[data-key="part:rank"]').click()
    shown = board.locator('[data-key^="card:"]').count()
    for place in range(shown):
        cards.card(board, place).focus()
        cards.press(lab, str(place + 1))
    cards.settle(lab)
    left = lab.python("desk.progress().left")
    cards.press(lab, "Enter")
    wait(lab, f"desk.progress().left < {left}")
    assert not any(word in board.inner_text() for word in ("sft", "ppo")), "blind, also after the submit"
    (judged,) = read_rankings(run.path / "labels-evaluation")
    assert len(judged.groups) == shown

    click_cell(lab, cell_with(lab, "with_people(lab)"))
    choose(lab, "Run Selected Cell and All Below")
    assert "people" in page.locator(".legendtext").all_text_contents()
    look(lab)
    assert "ppo_ptx preferred to sft" in summary_of(lab, run, "06_evaluate")


def test_07_without_records_says_what_makes_them_and_with_records_shows_each_finding(lab: Lab, lab_server: LabServer) -> None:
    run = take(lab_server, "07_findings")
    page = lab.visit("07_findings.ipynb").page
    choose(lab, "Run All Cells")
    ((where, said),) = failures(lab)
    assert where == cell_with(lab, "read_findings(home)") and "holds no findings; make them first: labkit findings" in said

    plan = plan_of("smoke", ["small"], [11, 12, 13])
    load_plan(run.path, plan)
    record_all(run.path, plan, 1)
    assert walk(lab) == []
    look(lab)
    assert page.locator(".js-plotly-plot").count() == len(FINDINGS)
    last = page.locator(".jp-Notebook .jp-Cell").last.inner_text()
    assert f"Report: {run.path / 'index.html'}" in last and (run.path / "index.html").is_file()
    assert [o["finding"] for o in lab.python("table_rows(outcomes)")] == [f.title for f in FINDINGS]
