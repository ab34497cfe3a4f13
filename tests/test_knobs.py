"""Knobs keep their bounds; a dial records every request; a ledger replays."""

import threading
from dataclasses import fields

import pytest

from labkit.errors import RunError, SettingsError
from labkit.knobs import Dial, PPOKnobs, RewardKnobs, SFTKnobs, constant, ramp, replay
from labkit.ppo import PPOSettings
from labkit.types import Step


def test_out_of_bounds_and_unknown_names_fail_with_the_same_sentence_everywhere():
    with pytest.raises(SettingsError, match="kl_coef is -1; it must lie between 0 and 10") as built:
        PPOKnobs(kl_coef=-1)
    dial = Dial(PPOKnobs())
    dial.turn(kl_coef=-1)
    dial(1)
    assert dial.ledger[0]["outcome"] == "refused" and dial.ledger[0]["reason"] == str(built.value)
    with pytest.raises(SettingsError, match="no knob 'beta'"):
        PPOKnobs().turned(beta=1)
    with pytest.raises(SettingsError):
        PPOKnobs(clip=float("nan"))
    with pytest.raises(SettingsError):
        PPOKnobs(clip="0.2")


def test_a_refusal_says_why_the_bounds_are_there():
    for kind in (PPOKnobs, SFTKnobs, RewardKnobs):
        for f in fields(kind):
            with pytest.raises(SettingsError) as told:
                kind(**{f.name: 2 * f.metadata["high"]})
            assert f.metadata["bounds"] in str(told.value) and f.metadata["doc"] in str(told.value) and len(f.metadata["bounds"]) > 20


def test_a_name_is_a_knob_or_a_setting_never_both():
    assert not set(PPOKnobs.__dataclass_fields__) & set(PPOSettings.__dataclass_fields__)


def test_requests_take_effect_at_the_next_step_only():
    dial = Dial(PPOKnobs(kl_coef=0.1))
    dial(1)
    dial.turn(kl_coef=0.3, why="KL ran away")
    assert dial.knobs.kl_coef == 0.1
    assert dial(2).kl_coef == 0.3
    row = dial.ledger[0]
    assert (row["step"], row["old"], row["new"], row["why"], row["by"]) == (2, 0.1, 0.3, "KL ran away", "hand")


def test_the_controller_moves_beta_towards_its_target_and_the_hand_must_take_over_first():
    dial = Dial(PPOKnobs(kl_coef=0.1, kl_target=5.0), auto=True)
    dial.observe(Step("ppo", 1, {"kl_k1": 50.0}))
    assert dial(2).kl_coef == pytest.approx(0.11)
    dial.turn(kl_coef=0.5)
    assert dial(3).kl_coef == pytest.approx(0.11) and "hold" in dial.ledger[-1]["reason"]
    dial.hold()
    dial.turn(kl_coef=0.5)
    assert dial(4).kl_coef == 0.5
    dial.observe(Step("ppo", 4, {"kl_k1": 0.0}))
    assert dial(5).kl_coef == 0.5
    dial.release()
    dial(6)
    dial.observe(Step("ppo", 6, {"kl_k1": 0.0}))
    assert dial(7).kl_coef < 0.5


def test_what_the_controller_asked_before_the_hand_took_over_is_refused():
    """The hand takes β while a step computes; when that ends the controller still asks, and would have the last word."""
    dial = Dial(PPOKnobs(), auto=True)
    dial(1)
    dial.hold()
    dial.turn(kl_coef=0.5, why="KL runs away")
    dial.observe(Step("ppo", 1, {"kl_k1": 50.0}, dial.knobs.to_json()))
    assert dial(2).kl_coef == 0.5 and not dial.auto
    assert [(row["by"], row["outcome"]) for row in dial.ledger] == [("hand", "applied"), ("hand", "applied"), ("controller", "refused")]
    assert replay(dial.ledger, PPOKnobs())(2).kl_coef == 0.5


def test_a_knob_that_cannot_bend_here_is_refused_with_the_reason_and_stays():
    dial = Dial(PPOKnobs(ptx_coef=0.0), locked={"ptx_coef": "there is no pretraining text"})
    dial.turn(ptx_coef=0.5, kl_coef=0.07)
    knobs = dial(1)
    assert (knobs.ptx_coef, knobs.kl_coef) == (0.0, 0.07)
    row = dial.ledger[0]
    assert (row["outcome"], row["reason"], row["old"], row["new"]) == ("refused", "there is no pretraining text", 0.0, 0.0)


def test_the_controller_finds_its_way_back_from_a_beta_of_zero():
    dial = Dial(PPOKnobs(kl_coef=0.0, kl_target=1.0), auto=True)
    for number in (1, 2):
        dial.observe(Step("ppo", number, {"kl_k1": 10.0}))
        before = dial.knobs.kl_coef
        assert dial(number + 1).kl_coef > before


def test_the_controller_is_clamped_at_the_bounds():
    dial = Dial(PPOKnobs(kl_coef=9.9, kl_target=1.0), auto=True)
    dial.observe(Step("ppo", 1, {"kl_k1": 1000.0}))
    assert dial(2).kl_coef == 10.0 and dial.ledger[-1]["outcome"] == "clamped"


def test_a_ledger_replays_exactly_and_only_onto_its_own_start():
    dial = Dial(PPOKnobs())
    dial.turn(kl_coef=0.2)
    live = [dial(1)]
    dial.turn(clip=0.1)
    dial.turn(clip=99, no_knob=1.0)  # both refused
    live += [dial(2), dial(3)]
    again = replay(dial.ledger, PPOKnobs())
    assert [again(n) for n in (1, 2, 3)] == live
    with pytest.raises(RunError, match="kl_coef from"):
        replay(dial.ledger, PPOKnobs(kl_coef=1.0))(1)


def test_replay_forgets_what_a_rollback_superseded():
    dial = Dial(PPOKnobs(kl_coef=0.1))
    dial.turn(kl_coef=0.2)
    dial(2)
    dial.turn(kl_coef=0.9)
    dial(5)
    rows = [*dial.ledger, {"knob": "rollback", "new": 3, "old": 5, "step": 5, "outcome": "applied"}]
    again = replay(rows, PPOKnobs(kl_coef=0.1))
    assert [again(n).kl_coef for n in range(1, 6)] == [0.1, 0.2, 0.2, 0.2, 0.2]


def test_many_threads_may_turn_at_once():
    dial = Dial(PPOKnobs())
    threads = [threading.Thread(target=lambda v=v: dial.turn(kl_coef=v / 1000)) for v in range(1, 101)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    dial(1)
    assert sorted(row["asked"] for row in dial.ledger) == [v / 1000 for v in range(1, 101)]
    assert dial.knobs.kl_coef == dial.ledger[-1]["new"]


def test_a_ramp_begins_and_ends_as_told_and_bends_nothing_else():
    start = PPOKnobs(kl_coef=0.2, clip=0.1, ptx_coef=0.0)
    at = ramp(start, 5, kl_coef=0.0032, clip=0.3, ptx_coef=1.0)
    assert at(1) == start and at(5) == at(9) == start.turned(kl_coef=0.0032, clip=0.3, ptx_coef=1.0)
    betas = [at(step).kl_coef for step in range(1, 6)]
    factors = [b / a for a, b in zip(betas, betas[1:], strict=False)]
    assert max(factors) == pytest.approx(min(factors)) and at(3).kl_coef == pytest.approx((0.2 * 0.0032) ** 0.5)
    assert at(3).clip == pytest.approx(0.2) and at(2).ptx_coef == pytest.approx(0.25), "from 0 there are no factors"
    assert at(3).policy_lr == start.policy_lr
    assert ramp(start, 1, clip=0.3)(2).clip == 0.3
    for bad in ({"kl_coef": 11}, {"bogus": 1.0}):
        with pytest.raises(SettingsError):
            ramp(start, 5, **bad)


def test_constant_never_bends():
    knobs = PPOKnobs()
    assert constant(knobs)(1) is knobs and constant(knobs)(999) is knobs


@pytest.mark.parametrize("value", ["0.05", [0.1], None, True, float("nan"), float("inf"), 1j, pytest.param(10**400, id="1e400")])
def test_a_value_that_is_no_number_is_refused_where_it_is_typed_and_nothing_of_that_turn_waits(value: object) -> None:
    dial = Dial(PPOKnobs())
    with pytest.raises(SettingsError, match="kl_coef"):
        dial.turn(clip=0.1, kl_coef=value)
    assert not dial.pending


def test_numbers_of_other_libraries_turn_a_knob_too() -> None:
    import numpy as np

    dial = Dial(PPOKnobs())
    dial.turn(clip=np.float32(0.5), kl_coef=np.int64(1))
    assert (dial(1).clip, dial(1).kl_coef) == (0.5, 1) and not [row for row in dial.ledger if row["outcome"] != "applied"]
