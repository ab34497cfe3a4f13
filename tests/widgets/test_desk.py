"""The desk of knobs and the panel alone: every slider from its knob's metadata, and what became of each request."""

from pathlib import Path

import pytest

from labkit.knobs import Dial, PPOKnobs
from labkit.types import Step
from tests.widgets.cockpits import board_of, until
from widgets.desk import Desk, describe
from widgets.knobs import KnobPanel


@pytest.fixture(autouse=True)
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")


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


def test_what_the_controller_asked_too_late_is_no_answer_to_the_hand() -> None:
    dial = Dial(PPOKnobs(kl_coef=0.1), auto=True)
    desk = Desk(dial)
    dial(1)
    desk.apply({"kl_coef": 0.5}, "mine")
    dial.observe(Step("ppo", 1, {"kl_k1": 40.0}, dial.knobs.to_json()))
    dial(2)
    row = desk.state()["rows"]["kl_coef"]
    assert row["value"] == 0.5 and (row["last"]["by"], row["last"]["outcome"]) == ("hand", "applied")


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


def test_no_error_ends_the_helper_thread_of_a_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "0")
    dial = Dial(PPOKnobs())
    panel = KnobPanel(dial)
    right, panel.desk.state = panel.desk.state, lambda: 1 / 0
    until(lambda: "ZeroDivisionError" in panel.state["error"])
    panel.desk.state = right
    dial.turn(kl_coef=0.3)
    dial(1)
    until(lambda: panel.state["knobs"]["rows"]["kl_coef"]["value"] == 0.3 and not panel.state["error"])
    panel.close()
