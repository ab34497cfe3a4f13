"""The cockpit's Python side with a real job: what it sends is what the job did, what it hears the job does."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labkit.alerts import alerts
from labkit.errors import InvariantError
from labkit.figures.panels import panels_for
from labkit.knobs import Dial, PPOKnobs
from tests.toy_job import HOSTILE, toy_job
from widgets.cockpit import Cockpit
from widgets.desk import Desk, describe
from widgets.feed import Feed, LedgerTail, series_keys
from widgets.knobs import KnobPanel


@pytest.fixture(autouse=True)
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")


def until(true, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


class Page:
    """What a browser would hold: the packets, laid over each other as the page does."""

    def __init__(self) -> None:
        self.curves: dict[int, dict] = {}

    def take(self, packets) -> None:
        for head, body in packets:
            if head["kind"] == "clear":
                self.curves.clear()
            elif head["kind"] == "drop":
                self.curves.pop(head["id"])
            else:
                rows = np.frombuffer(body, np.float32).reshape(-1, head["width"])
                old = self.curves.get(head["id"], {}).get("rows", rows[:0])
                assert head["start"] <= len(old), "a gap"
                self.curves[head["id"]] = {
                    "role": head["role"],
                    "name": head["name"],
                    "rows": np.vstack([old[: head["start"]], rows]),
                }
                assert len(self.curves[head["id"]]["rows"]) == head["count"]

    def steps(self, role: str) -> list[list[int]]:
        return [c["rows"][:, 0].astype(int).tolist() for c in self.curves.values() if c["role"] == role]


def test_the_feed_follows_steps_rollback_and_branch_and_a_new_page_sees_the_same(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "ppo", total=20, seconds=0.0)
    feed, page = Feed(job, panels_for("ppo")), Page()
    job.start(paused=True)

    def go(count: int) -> None:
        for _ in range(count):
            seen = len(job.steps)
            job.step()
            until(lambda seen=seen: len(job.steps) > seen and job.status == "paused")
        page.take(feed.update())

    go(7)
    assert page.steps("live") == [[1, 2, 3, 4, 5, 6, 7]]
    assert feed.update() == [], "nothing new, nothing sent"
    job.rollback(5).result(10)
    go(1)
    assert page.steps("live") == [[1, 2, 3, 4, 5, 6]] and page.steps("ghost") == [[5, 6, 7]]
    job.branch("b").result(10)
    go(2)
    assert page.steps("live") == [list(range(1, 9))] and page.steps("trunk") == [list(range(1, 7))]
    fresh = Page()
    fresh.take(feed.everything())
    assert fresh.steps("live") == page.steps("live") and fresh.steps("ghost") == page.steps("ghost")
    score = feed.keys.index("score") + 1
    live = next(c for c in page.curves.values() if c["role"] == "live")
    assert live["name"] == "ppo@b"
    assert live["rows"][:, score] == pytest.approx([s.metrics["score"] for s in job.steps], rel=1e-6)
    job.stop()


def test_many_rollbacks_leave_few_ghosts(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "ppo", total=50, seconds=0.0)
    feed, page = Feed(job, panels_for("ppo")), Page()
    job.start()
    job.result(block=True)
    steps = list(job.steps)
    for n in range(20, 40):
        job.steps = steps[:n] + steps[n + 1 :]
        page.take(feed.update())
    assert len(page.steps("ghost")) <= 4 and len(page.curves) <= 5


def test_the_ledger_tail_reads_what_is_new_and_waits_for_whole_lines(tmp_path: Path) -> None:
    tail, file = LedgerTail(), tmp_path / "ledger.jsonl"
    assert tail.read(tmp_path) == []
    file.write_text('{"a": 1}\n{"a": 2')
    assert tail.read(tmp_path) == [{"a": 1}]
    with open(file, "a") as out:
        out.write("}\n")
    assert tail.read(tmp_path) == [{"a": 1}, {"a": 2}]
    other = tmp_path / "branch"
    other.mkdir()
    (other / "ledger.jsonl").write_text('{"a": 9}\n')
    assert tail.read(other) == [{"a": 9}]


def test_the_desk_describes_every_knob_by_its_own_metadata() -> None:
    shown = {k["name"]: k for k in describe(PPOKnobs())}
    assert list(shown)[:2] == ["kl_coef", "kl_target"] and set(shown) == set(PPOKnobs().to_json())
    assert shown["kl_coef"]["symbol"] == "β" and shown["kl_coef"]["log"] and shown["clip"]["high"] == 1.0


def test_the_desk_tells_what_waits_what_was_applied_and_what_was_refused() -> None:
    dial = Dial(PPOKnobs())
    desk = Desk(dial)
    desk.turn({"kl_coef": 0.1}, why="KL ran away")
    desk.turn({"clip": 7.0})
    assert desk.state()["rows"]["kl_coef"]["waiting"] == 0.1
    dial(13)
    rows = desk.state()["rows"]
    assert rows["kl_coef"]["value"] == 0.1 and rows["kl_coef"]["waiting"] is None
    assert rows["kl_coef"]["last"]["step"] == 13 and rows["kl_coef"]["last"]["outcome"] == "applied"
    assert rows["clip"]["last"]["outcome"] == "refused" and "between" in rows["clip"]["last"]["reason"]
    assert [r["why"] for r in dial.ledger] == ["KL ran away", ""]
    desk.switch(True, "let it")
    assert desk.state()["auto"]["waiting"] == 1.0
    dial(14)
    assert desk.state()["auto"]["on"] is True


def test_the_desk_forgets_what_a_rollback_superseded(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path)
    job = board.job.start(paused=True)

    def go(upto: int) -> None:
        while len(job.steps) < upto:
            count = len(job.steps) + 1
            job.step()
            until(lambda count=count: len(job.steps) == count and job.status == "paused")

    go(5)
    job.dial.turn(kl_coef=0.3)
    go(7)
    assert board.desk.state()["rows"]["kl_coef"]["last"]["step"] == 6
    board.refresh()
    assert [m["step"] for m in board.state["marks"]] == [6]
    job.rollback(5).result(10)
    board.refresh()
    assert board.desk.state()["rows"]["kl_coef"]["last"] is None and board.state["snapshots"] == [5]
    assert [m["step"] for m in board.state["marks"]] == [5]
    job.stop()


@pytest.mark.parametrize("bad", [{"kl_coef": "x"}, {"kl_coef": float("nan")}, {"kl_coef": True}, {"__class__": 1.0}])
def test_the_desk_checks_what_the_page_says(bad: dict) -> None:
    dial = Dial(PPOKnobs())
    with pytest.raises(ValueError):
        Desk(dial).turn(bad)
    assert dial.pending == ()


def board_of(tmp_path: Path, **options) -> tuple[Cockpit, list]:
    job = toy_job(tmp_path / "ppo", total=30, seconds=0.002, hostile=options.pop("hostile", False))
    board = Cockpit(job, **options)
    sent: list = []
    board.send = lambda head, buffers=None: sent.append((head, buffers[0]))
    return board, sent


def say(board: Cockpit, **message) -> None:
    board._hear(board, message)


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


def test_the_static_twin_teaches_and_is_small_and_escaped(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path, hostile=True)
    before = board.static()
    assert "kl_coef" in before[1]["text/plain"] and "image/png" not in before[0]
    board.job.dial.turn(kl_coef=0.05, why="<script>alert(1)</script>")
    board.job.start()
    board.job.result(block=True)
    figure, tables = board.static()
    assert {"application/vnd.plotly.v1+json", "image/png", "text/plain"} == set(figure)
    assert "Ledger" in tables["text/html"] and "0.05" in tables["text/plain"]
    assert "<img" not in tables["text/html"] and "<script" not in tables["text/html"]
    assert HOSTILE[3][4] not in tables["text/html"], "direction marks are shown by name"
    assert len(json.dumps([figure, tables])) < 300_000
    assert set(board._repr_mimebundle_()) == set(figure)


def test_a_refresh_costs_under_two_percent_of_its_period(tmp_path: Path) -> None:
    board, _ = board_of(tmp_path)
    board.job.start()
    board.job.result(block=True)
    steps, spent = list(board.job.steps), []
    for upto in range(1, len(steps) + 1):
        board.job.steps = steps[:upto]
        board._alerts = (0.0, -1, [])  # the rules run every time: the worst case
        started = time.thread_time()
        board.refresh()
        spent.append(time.thread_time() - started)
    assert sum(spent) / len(spent) < 0.02 * board._period, "seconds of processor time, whatever else the machine does"


def test_sft_has_the_same_board_with_its_own_panels_and_knobs(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "sft", total=12, seconds=0.0, stage="sft")
    board = Cockpit(job)
    assert [k["name"] for k in board.spec["knobs"]] == ["lr_scale"]
    assert {p["key"] for p in board.spec["panels"]} >= {"loss", "rm", "lr"}
    assert board.desk.state()["auto"] is None
    assert series_keys(board.panels)[:2] == ["loss", "valid_loss"]


def test_one_click_on_an_alert_takes_beta_from_the_controller_first() -> None:
    dial = Dial(PPOKnobs(kl_coef=0.1), auto=True)
    desk = Desk(dial)
    desk.turn({"kl_coef": 0.2})
    assert dial(1).kl_coef == 0.1 and dial.ledger[-1]["outcome"] == "refused"
    desk.apply({"kl_coef": 0.2}, "alert: KL")
    assert dial(2).kl_coef == 0.2 and not dial.auto
    assert [(r["knob"], r["why"]) for r in dial.ledger[-2:]] == [("auto", "alert: KL"), ("kl_coef", "alert: KL")]
    desk.apply({"clip": 0.1})
    dial(3)
    assert [r["knob"] for r in dial.ledger[3:]] == ["clip"], "what the controller does not hold needs no switch"


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
    assert "policy_loss is nan" in board.static()[1]["text/plain"]
    say(board, kind="apply", changes=warned["suggestion"], why="alert")
    say(board, kind="rollback", step=5)
    until(lambda: board.job.status == "paused")
    board.refresh()
    assert board.state["error"] is None and not [a for a in board.state["alerts"] if a["rule"] == "failed"]
    say(board, kind="do", what="resume")
    until(lambda: board.job.status == "done")
    assert board.job.steps[5].knobs["policy_lr"] == pytest.approx(1e-3 / 3)


def test_the_win_rate_of_evaluate_now_reaches_the_alerts(tmp_path: Path) -> None:
    rates = iter([0.7, 0.8, 0.75, 0.5, 0.3, 0.2])
    board, _ = board_of(tmp_path, evaluate=lambda prompts: {"win_rate": next(rates)})
    board.job.start(paused=True)
    for upto in (3, 6, 9, 12, 15, 18):
        while len(board.job.steps) < upto:
            count = len(board.job.steps) + 1
            board.job.step()
            until(lambda count=count: len(board.job.steps) == count and board.job.status == "paused")
        say(board, kind="evaluate", prompts=["a"])
        until(lambda upto=upto: len(board._win_rates) == upto // 3)
    measured = board._measured(board.job.steps)
    assert [(s.number, s.metrics["win_rate"]) for s in measured if "win_rate" in s.metrics][-1] == (18, 0.2)
    plain = [replace(s, metrics={k: v for k, v in s.metrics.items() if k != "gold"}) for s in measured]
    assert any("win rate fell" in a.sentence for a in alerts(plain))
    board.job.stop()


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


def test_a_panel_alone_turns_a_dial_and_refuses_what_is_no_dial() -> None:
    dial = Dial(PPOKnobs())
    panel = KnobPanel(dial, names=("ptx_coef", "kl_coef"))
    assert [k["name"] for k in panel.spec["knobs"]] == ["ptx_coef", "kl_coef"]
    panel._hear(panel, {"kind": "turn", "changes": {"kl_coef": 0.3}, "why": "so"})
    dial(1)
    panel.refresh()
    assert panel.state["knobs"]["rows"]["kl_coef"]["value"] == 0.3
    panel._hear(panel, {"kind": "turn", "changes": {"nonsense": 1}})
    panel.refresh()
    assert "nonsense" in panel.state["error"]
    assert "kl_coef" in panel._repr_mimebundle_()["text/plain"]
    with pytest.raises(ValueError, match="Dial"):
        KnobPanel(lambda step: PPOKnobs())
    with pytest.raises(ValueError, match="wrong"):
        KnobPanel(dial, names=("wrong",))
