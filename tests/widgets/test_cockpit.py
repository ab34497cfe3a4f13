"""The cockpit's Python side with a real job: what it sends is what the job did, what it hears the job does."""

import json
import time
from pathlib import Path

import pytest

from labkit.errors import InvariantError, RunError
from tests.toy_job import HOSTILE, toy_job
from tests.widgets.cockpits import Page, board_of, say, until
from widgets.cockpit import Cockpit
from widgets.feed import series_keys


@pytest.fixture(autouse=True)
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")


def test_a_board_starts_steers_pauses_and_stops_its_job(tmp_path: Path) -> None:
    board, sent = board_of(tmp_path)
    say(board, kind="do", what="step")
    until(lambda: len(board.job.steps) == 1 and board.job.status == "paused")
    say(board, kind="turn", changes={"kl_coef": 0.5}, why="test")
    say(board, kind="do", what="step")
    until(lambda: len(board.job.steps) == 2 and board.job.status == "paused")
    board.refresh()
    assert board.job.steps[1].knobs["kl_coef"] == 0.5
    assert board.state["marks"][0]["step"] == 2 and "test" in board.state["marks"][0]["text"]
    assert board.state["knobs"]["rows"]["kl_coef"]["last"]["step"] == 2
    assert board.state["line"] == "paused · step 2 of 30"
    page = Page()
    page.take(sent)
    assert page.steps("live") == [[1, 2]]
    say(board, kind="do", what="stop")
    until(lambda: board.job.status == "stopped")
    rows = [json.loads(line) for line in (tmp_path / "ppo" / "ledger.jsonl").read_text().splitlines()]
    assert [(r["knob"], r["step"], r["why"]) for r in rows] == [("kl_coef", 2, "test")]


def test_snapshot_rollback_and_branch_by_message(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path)
    board.job.start(paused=True)
    for count in range(1, 4):
        say(board, kind="do", what="step")
        until(lambda count=count: len(board.job.steps) == count and board.job.status == "paused")
    say(board, kind="do", what="snapshot")
    until(lambda: "kept" in board._notice.get("text", ""))
    say(board, kind="do", what="step")
    until(lambda: len(board.job.steps) == 4)
    say(board, kind="rollback", step=3)
    until(lambda: "Rolled back to step 3" in board._notice.get("text", ""))
    say(board, kind="branch", name="try")
    until(lambda: "ppo@try" in board._notice.get("text", ""))
    board.refresh()
    assert board.state["branch"] == "ppo@try" and board.state["snapshots"] == [3]
    say(board, kind="branch", name="../evil")
    assert board._notice["bad"] and "cannot name" in board._notice["text"]
    board.job.stop()


def test_a_branch_from_an_earlier_step_by_message_also_after_the_end(tmp_path: Path) -> None:
    board, sent = board_of(tmp_path)
    board.job.start()
    board.job.result(block=True)
    until(lambda: not board.job.alive)
    board.refresh()
    trunk, there = board.job.folder, board.state["snapshots"]
    assert there[-3:] == [20, 25, 30]
    say(board, kind="branch", name="late", step=None)
    assert board._notice["bad"] and "has ended" in board._notice["text"]
    say(board, kind="branch", name="early", step=20)
    until(lambda: "Branched from step 20: now writing ppo@early" in board._notice.get("text", ""))
    board.refresh()
    page = Page()
    page.take(sent)
    assert page.steps("live") == [list(range(1, 21))] and page.steps("trunk") == [list(range(1, 31))]
    assert board.state["branch"] == "ppo@early" and board.state["status"] == "paused"
    assert trunk.status == "done" and trunk.snapshots() == there and len(trunk.steps()) == 30
    say(board, kind="branch", name="../evil", step=20)
    assert board._notice["bad"] and "cannot name" in board._notice["text"]
    board.job.stop()


@pytest.mark.parametrize("message", [None, {}, {"kind": "do", "what": "__init__"}, {"kind": "do", "what": "finish"}, 7])
def test_messages_that_mean_nothing_do_nothing(tmp_path: Path, message) -> None:
    board, _ = board_of(tmp_path)
    board._hear(board, message)
    assert board.job.status == "idle" and board._notice == {}


def test_sampling_and_evaluating_run_in_the_jobs_thread_and_errors_are_shown(tmp_path: Path) -> None:
    import threading

    threads = []

    def sample(prompts):
        threads.append(threading.current_thread().name)
        return [{"response": p.upper(), "score": 1.0} for p in prompts]

    def evaluate(prompts):
        raise RuntimeError("no judge here")

    board, _ = board_of(tmp_path, sample=sample, evaluate=evaluate, prompts=["a\n", "b\n"])
    board.job.start(paused=True)
    say(board, kind="sample", prompts=["a\n", "b\n"])
    until(lambda: board._answers)
    board.refresh()
    assert threads == ["job-ppo"]
    assert [r["response"] for r in board.answers[0]["rows"]] == ["A\n", "B\n"]
    say(board, kind="evaluate", prompts=["a"])
    until(lambda: "no judge here" in board._notice.get("text", ""))
    say(board, kind="sample", prompts=[])
    assert "at least one prompt" in board._notice["text"]
    board.job.stop()
    until(lambda: not board.job.alive)
    say(board, kind="sample", prompts=["c"])
    until(lambda: len(board._answers) == 2)


def test_a_new_page_gets_everything(tmp_path: Path) -> None:
    board, sent = board_of(tmp_path)
    board.job.start()
    board.job.result(block=True)
    board.refresh()
    sent.clear()
    say(board, kind="hello")
    board.refresh()
    page = Page()
    page.take(sent)
    assert page.steps("live") == [list(range(1, 31))]
    assert board.state["line"] == "done · step 30 of 30"


@pytest.mark.slow
def test_the_static_twin_teaches_and_is_small_and_escaped(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path, hostile=True)
    before = board.static()
    assert "kl_coef" in before[1]["text/plain"] and "image/png" not in before[0]
    board.job.dial.turn(kl_coef=0.05, why="<script>alert(1)</script>")
    board.job.start()
    board.job.result(block=True)
    figure, times, tables = board.static()
    assert {"application/vnd.plotly.v1+json", "image/png", "text/plain"} == set(figure) == set(times)
    assert "Ledger" in tables["text/html"] and "0.05" in tables["text/plain"]
    assert "<img" not in tables["text/html"] and "<script" not in tables["text/html"]
    assert HOSTILE[3][4] not in tables["text/html"], "direction marks are shown by name"
    assert len(json.dumps([figure, times, tables])) < 300_000
    assert set(board._repr_mimebundle_()) == set(figure)


def test_a_refresh_costs_under_two_percent_of_its_period(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path)
    board.job.start()
    board.job.result(block=True)
    steps, spent = list(board.job.steps), []
    for upto in range(1, len(steps) + 1):
        board.job.steps = steps[:upto]
        board._alerts = (0.0, None, [])  # the rules run every time: the worst case
        started = time.thread_time()
        board.refresh()
        spent.append(time.thread_time() - started)
    assert sum(spent) / len(spent) < 0.02 * board._period, "seconds of processor time, whatever else the machine does"


def test_a_refused_request_shows_its_note_and_its_reason(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path)
    board.job.dial.turn(clip=7.0, why="alert: clipping")
    board.job.dial.turn(kl_coef=0.05, why="KL grows")
    board.job.start()
    board.job.result(block=True)
    board.refresh()
    applied, refused = board.ledger
    assert (refused["outcome"], refused["why"]) == ("refused", "alert: clipping") and "must lie between" in refused["refused because"]
    assert (applied["outcome"], applied["why"], applied["refused because"]) == ("applied", "KL grows", "")
    twin = board.static()[-1]["text/html"]
    assert "alert: clipping" in twin and "must lie between" in twin


def test_no_error_ends_the_helper_thread_and_the_board_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "0")
    board, _ = board_of(tmp_path)
    until(lambda: board.state)
    line, right = board.state["line"], board._line
    board._line = lambda steps: [] + 1
    board.job.start()
    board.job.result(block=True)
    until(lambda: "TypeError" in board.state["notice"].get("text", ""))
    assert board.state["line"] == line and board.state["notice"]["bad"]
    board._line = right
    until(lambda: board.state["line"].startswith("done") and not board.state["notice"])
    board.close()


def test_the_time_left_counts_no_pause_and_no_evaluation(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "ppo", total=4000, seconds=0.05).start(paused=True)
    board = Cockpit(job, evaluate=lambda prompts: time.sleep(2.0) or "so so")

    def pace() -> float:
        reached = len(job.steps)
        job.resume()
        until(lambda: len(job.steps) >= reached + 3)
        return float(board._line(list(job.steps)).split(" · ")[1].removesuffix(" s/step"))

    assert pace() < 0.3
    job.pause()
    until(lambda: job.status == "paused")
    board.refresh()
    time.sleep(2.0)
    assert pace() < 0.3, "a pause is no time that a step takes"
    say(board, kind="evaluate", prompts=["a"])
    until(lambda: board._answers)
    assert pace() < 0.3, "nor is what was asked between two steps"
    job.stop()


def test_sft_has_the_same_board_with_its_own_panels_and_knobs(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "sft", total=12, seconds=0.0, stage="sft")
    board = Cockpit(job)
    assert [k["name"] for k in board.spec["knobs"]] == ["lr_scale"]
    assert {p["key"] for p in board.spec["panels"]} >= {"loss", "rm", "lr"}
    assert board.desk.state()["auto"] is None
    assert series_keys(board.panels)[:2] == ["loss", "valid_loss"]


@pytest.mark.slow
def test_after_a_broken_promise_the_board_warns_and_rolls_back(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path)
    make = board.job.make_loop

    def breaks(schedule):
        for step in make(schedule):
            if step.number == 8 and step.knobs["policy_lr"] == 1e-3:
                raise InvariantError("Step 8: policy_loss is nan. Usual causes: a learning rate too high.")
            yield step

    board.job.make_loop = breaks
    board.job.start()
    until(lambda: board.job.status == "failed" and not board.job.alive)
    board.refresh()
    warned = board.state["alerts"][0]
    assert warned["rule"] == "failed" and "policy_loss is nan" in warned["sentence"]
    assert "policy_loss is nan" in board.static()[-1]["text/plain"]
    say(board, kind="apply", changes=warned["suggestion"], why="alert")
    say(board, kind="rollback", step=5)
    until(lambda: board.job.status == "paused")
    board.refresh()
    assert board.state["error"] is None and not [a for a in board.state["alerts"] if a["rule"] == "failed"]
    say(board, kind="do", what="resume")
    until(lambda: board.job.status == "done")
    assert board.job.steps[5].knobs["policy_lr"] == pytest.approx(1e-3 / 3)


def test_a_job_that_pauses_for_room_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise RunError(f"The snapshot {folder} could not be written: No space left on device.")

    board, _ = board_of(tmp_path)
    monkeypatch.setenv("LABKIT_HEADLESS", "0")
    monkeypatch.setattr(board.job.state, "save", full)
    board.job.start()
    until(lambda: board.job.status == "paused")
    board.refresh()
    assert board.state["line"].startswith("paused · step 5 of 30: The snapshot ") and "No space left" in board.state["line"]
    monkeypatch.undo()
    board.job.stop()
    board.job.wait()
    assert board.job.folder.status == "stopped"


def test_a_failing_job_says_why(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path)

    def loop(schedule):
        raise ValueError("the disk is on fire")
        yield

    board.job.make_loop = loop
    board.job.start()
    until(lambda: board.job.status == "failed")
    board.refresh()
    assert "the disk is on fire" in board.state["line"]


def test_a_long_prompt_is_asked_whole_though_the_page_shows_its_beginning(tmp_path):
    asked = []
    long = "word " * 2000
    board, _ = board_of(tmp_path, sample=lambda prompts: asked.extend(prompts) or ["yes"] * len(prompts), prompts=[long, "short"])
    shown = board.spec["prompts"]
    assert len(shown[0]) < len(long)
    say(board, kind="sample", prompts=[*shown, "typed by hand"])
    until(lambda: len(asked) == 3)
    assert asked == [long, "short", "typed by hand"]
    board.close()
