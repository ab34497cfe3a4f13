"""What "evaluate now" measured: kept with its prompts and interval, compared on equal prompts, there again after a resume."""

import json
from pathlib import Path

import pytest

from labkit.figures.records import Record, read
from labkit.types import Step
from tests.toy_job import toy_job
from tests.widgets.cockpits import board_of, say, until
from widgets.cockpit import Cockpit


@pytest.fixture(autouse=True)
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")


def step_to(job, upto: int) -> None:
    while len(job.steps) < upto:
        count = len(job.steps) + 1
        job.step()
        until(lambda count=count: len(job.steps) == count and job.status == "paused")


def evaluate(board: Cockpit, *prompts: str) -> None:
    known = len(board.evaluations())
    say(board, kind="evaluate", prompts=list(prompts))
    until(lambda: len(board.evaluations()) == known + 1)


def board_that_wins_less_and_less(tmp_path: Path, upto: int = 18) -> Cockpit:
    """Paused after step 18; "evaluate now" was pressed at every sixth step, and its win rate rose, then fell."""
    rates = {6: 0.7, 12: 0.8, 18: 0.3}
    board, _ = board_of(tmp_path)
    board.evaluate = lambda prompts: {"win_rate": (r := rates[len(board.job.steps)]), "low": r - 0.1, "high": r + 0.1, "n": 40}
    board.job.start(paused=True)
    for number in [n for n in rates if n <= upto]:
        step_to(board.job, number)
        evaluate(board, "a", "b")
    return board


def of_win_rate(found: list) -> list[str]:
    """Sentences about the win rate, from the live board's state or from lines of the static twin."""
    said = [a["sentence"] if isinstance(a, dict) else a for a in found]
    return [line.removeprefix("Alert: ").split(", which")[0] for line in said if "win rate on" in line]


def test_a_fall_of_the_win_rate_is_on_the_paused_board_in_two_seconds_and_in_the_static_twin(tmp_path: Path) -> None:
    board = board_that_wins_less_and_less(tmp_path, upto=12)
    board.refresh()
    step_to(board.job, 18)
    board._alerts = (0.0, *board._alerts[1:])
    board.refresh()
    assert not of_win_rate(board.state["alerts"])
    evaluate(board, "a", "b")
    until(lambda: board.refresh() or of_win_rate(board.state["alerts"]), 10)
    (told,) = of_win_rate(board.state["alerts"])
    assert "from 80 % [70 % to 90 %] at step 12 to 30 % [20 % to 40 %] at step 18" in told
    board.job.stop()
    board.job.result(block=True)
    assert of_win_rate(board.static()[-1]["text/plain"].splitlines()) == [told]


def test_evaluations_are_kept_with_prompts_and_interval_and_come_back_when_a_job_is_resumed(tmp_path: Path) -> None:
    board = board_that_wins_less_and_less(tmp_path)
    job = board.job
    job.snapshot().result(10)
    rows = [json.loads(line) for line in (tmp_path / "ppo" / "evaluations.jsonl").read_text().splitlines()]
    assert [(r["step"], r["prompts"], r["values"]["win_rate"]) for r in rows] == [(n, ["a", "b"], w) for n, w in ((6, 0.7), (12, 0.8), (18, 0.3))]
    assert rows[0]["values"] == {"win_rate": 0.7, "low": 0.7 - 0.1, "high": 0.7 + 0.1, "n": 40}
    assert read(job.folder).evaluations == read(job).evaluations == rows, "a record that is opened has them too"
    job.stop()
    job.result(block=True)
    again = Cockpit(toy_job(tmp_path / "ppo", total=30))
    again.refresh()
    assert not again.answers and not again.evaluations(), "what begins anew has none of what lies there"
    again.job.start(resume=True, paused=True)
    again.refresh()
    assert again.answers[0]["rows"] == [{"measure": "win rate", "value": "30.0 % [20.0, 40.0]"}, {"measure": "n", "value": 40.0}]
    assert again.evaluations() == rows and [a["step"] for a in again.answers] == [18, 12, 6]
    until(lambda: again.refresh() or len(of_win_rate(again.state["alerts"])) == 1)
    again.job.stop()
    again.job.result(block=True)
    twin = again.static()[-1]["text/plain"]
    assert "Evaluations by hand: the last 3 of 3" in twin and "a; b" in twin and len(of_win_rate(twin.splitlines())) == 1
    anew = Cockpit(toy_job(tmp_path / "ppo", total=30, seconds=0.0))
    anew.job.start()
    anew.job.result(block=True)
    anew.refresh()
    assert not anew.answers and not anew.evaluations()
    assert again.evaluations() == [], "a run begun anew in the folder is not the old job's"


def drawn(board: Cockpit) -> dict[str, list]:
    """Steps and win rates of the live chart's lines, by run and prompts."""
    board.refresh()
    return {f"{line['run']}, {line['label']}": [point[:2] for point in line["points"]] for line in board.state["win_rates"]}


def in_the_twin(board: Cockpit) -> list[tuple[str, list, list]]:
    """Name, steps and win rates of each line of the static figure."""
    traces = board.static()[0]["application/vnd.plotly.v1+json"]["data"]
    return [(t["name"], list(t["x"]), list(t["y"])) for t in traces if "win rate" in t.get("hovertemplate", "")]


def test_win_rates_are_drawn_over_steps_live_and_in_the_twin_and_follow_rollback_and_branch(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path, beside={"before": Record("old", [Step("ppo", 1, {"score": 1.0}, {})], evaluations=[])})
    assert drawn(board) == {} and board.spec["panels"][-1]["key"] == "win_rate"
    board = board_that_wins_less_and_less(tmp_path)
    assert drawn(board) == {"ppo, 2 prompts": [(6, 0.7), (12, 0.8), (18, 0.3)]}
    evaluate(board, "a")
    assert drawn(board)["ppo, 1 prompt"] == [(18, 0.3)]
    board.job.rollback(15).result(10)
    assert drawn(board) == {"ppo, 2 prompts": [(6, 0.7), (12, 0.8)]}
    board.job.branch("late", None).result(10)
    past = {"ppo, 2 prompts": [(6, 0.7), (12, 0.8)], "ppo@late, 2 prompts": [(6, 0.7), (12, 0.8)]}
    assert drawn(board) == past
    board.job.stop()
    board.job.result(block=True)
    assert in_the_twin(board) == [("ppo@late", [6, 12], [0.7, 0.8]), ("ppo", [6, 12], [0.7, 0.8])]


def test_what_a_rollback_undid_is_compared_no_more_and_a_branch_has_its_past(tmp_path: Path) -> None:
    board = board_that_wins_less_and_less(tmp_path)
    board.job.rollback(15).result(10)
    assert [row["step"] for row in board.evaluations()] == [6, 12]
    board.job.branch("early", 10).result(10)
    assert [row["step"] for row in board.evaluations()] == [6]
    assert len((tmp_path / "ppo" / "evaluations.jsonl").read_text().splitlines()) == 3, "nothing that was measured is lost"
    board.job.stop()


def test_one_prompt_then_another_is_no_fall_and_a_bare_win_rate_gets_an_interval(tmp_path: Path) -> None:
    rates = iter([1.0, 1.0, 0.0, 0.9, 0.1])
    board, _ = board_of(tmp_path, evaluate=lambda prompts: {"win_rate": next(rates)})
    board.job.start(paused=True)
    for number, prompts in ((1, ["a"]), (2, ["a"]), (18, ["b"])):
        step_to(board.job, number)
        evaluate(board, *prompts)
    assert not of_win_rate([a.to_json() for a in board.alerts(board.job.steps, [])])
    many = [f"prompt {n}" for n in range(40)]
    for number in (19, 20):
        step_to(board.job, number)
        evaluate(board, *many)
    assert [0 < row["values"]["low"] < row["values"]["high"] < 1 for row in board.evaluations()[-2:]] == [True, True]
    assert [row["values"]["high"] - row["values"]["low"] for row in board.evaluations()[:1]] == [1.0], "one prompt says nothing"
    (told,) = of_win_rate([a.to_json() for a in board.alerts(board.job.steps, [])])
    assert "on the same 40 prompts fell from 90 % [" in told
    board.job.stop()


def test_an_evaluation_that_could_not_be_kept_is_shown_and_said(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path, evaluate=lambda prompts: {"score": 1.5, "curve": [1], "odd": float("nan")})
    board.job.start(paused=True)
    evaluate(board, "a")
    assert board.evaluations()[0]["values"] == {"score": 1.5, "curve": "[1]", "odd": None}
    (tmp_path / "ppo" / "evaluations.jsonl").unlink()
    (tmp_path / "ppo" / "evaluations.jsonl").mkdir()
    say(board, kind="evaluate", prompts=["a"])
    until(lambda: "was not kept" in board._notice.get("text", ""))
    assert board._answers[0]["rows"][0] == {"measure": "score", "value": 1.5}
    (tmp_path / "ppo" / "evaluations.jsonl").rmdir()
    board.job.stop()


def test_the_live_board_and_its_twin_look_at_all_steps_of_a_long_run(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path)
    board.job.start()
    board.job.result(block=True)
    knobs = board.job.steps[0].knobs
    gold = [0.5 + 0.4 * min(n / 100, 1) - 0.1 * max(0, min(n - 200, 100)) / 100 for n in range(1000)]  # its best lies before the newest 380
    board.job.steps[:] = [Step("ppo", n + 1, {"score": n / 1000, "gold": g}, knobs) for n, g in enumerate(gold)]
    board._alerts = (0.0, None, [])
    board.refresh()
    assert [a["rule"] for a in board.state["alerts"]] == ["reward_hacking"]
    assert board.state["alerts"] == [a.to_json() for a in board.alerts(board.job.steps, board.state["snapshots"])]


def test_an_alert_names_a_snapshot_that_exists_and_leads_to_it(tmp_path: Path) -> None:
    board = board_that_wins_less_and_less(tmp_path)
    board._alerts = (0.0, None, [])
    board.refresh()
    (found,) = [a for a in board.state["alerts"] if a["rule"] == "reward_hacking"]
    assert found["back"] in board.state["snapshots"] and f"step {found['back']}" in found["cause"]
    say(board, kind="rollback", step=found["back"], why=f"alert: {found['sentence']}")
    until(lambda: len(board.job.steps) == found["back"])
    assert board.job.folder.ledger()[-1]["why"].startswith("alert: The score still rises")
    board.job.stop()
