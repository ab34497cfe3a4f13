"""Alerts fire on the pathology they name and stay silent on a healthy run."""

import math

import pytest

from labkit.alerts import RULES, alerts, failure
from labkit.knobs import PPOKnobs, RewardKnobs
from labkit.types import Step

KNOBS = PPOKnobs().to_json()


def run(count: int = 40, knobs: dict | None = None, stage: str = "ppo", **curves) -> list[Step]:
    """Steps of a healthy run, with some metrics replaced by functions of progress t in (0, 1]."""
    healthy = {
        "score": lambda t: t,
        "gold": lambda t: 0.5 + 0.3 * t,
        "kl_k1": lambda t: 4 * t,
        "entropy": lambda t: 2 - t,
        "response_length": lambda t: 14 + 2 * t,
        "explained_variance": lambda t: 0.8 * t,
        "end_token_rate": lambda t: 0.97,
        "clip_fraction": lambda t: 0.1,
    }
    made = {**healthy, **curves} if stage == "ppo" else curves
    return [
        Step(stage, n, {k: f(n / count) for k, f in made.items()}, {**KNOBS, **(knobs or {})})
        for n in range(1, count + 1)
    ]


def rules(steps: list[Step]) -> list[str]:
    return [a.rule for a in alerts(steps)]


@pytest.mark.parametrize("count", [1, 4, 9, 10, 40, 200])
def test_a_healthy_run_raises_nothing_at_any_length(count: int) -> None:
    steps = run(count)
    for upto in range(1, count + 1):
        assert rules(steps[:upto]) == []


SICK = {
    "kl_runaway": {"kl_k1": lambda t: 40 * t * t},
    "negative_kl": {"kl_k1": lambda t: -0.8},
    "entropy_collapse": {"entropy": lambda t: 2 * math.exp(-4 * t)},
    "length_collapse": {"response_length": lambda t: 15 - 12 * t},
    "length_growth": {"response_length": lambda t: 10 + 20 * t},
    "value_divergence": {"explained_variance": lambda t: -t},
    "reward_hacking": {"gold": lambda t: 0.5 + 0.8 * t - t * t},
    "low_end_rate": {"end_token_rate": lambda t: 1 - 0.6 * t},
    "clipping": {"clip_fraction": lambda t: 0.6 * t},
    "not_finite": {"policy_loss": lambda t: math.nan if t == 1 else 0.1},
}


@pytest.mark.parametrize("rule", SICK)
def test_each_pathology_raises_its_own_alert_in_a_full_sentence(rule: str) -> None:
    found = {a.rule: a for a in alerts(run(**SICK[rule]))}
    assert set(found) == {rule}
    assert found[rule].sentence.endswith(".") and found[rule].cause.endswith(".")
    assert rules(run(**SICK[rule])[:1]) in ([], ["negative_kl"]), "one step is no trend"


NEAR = {
    "half of the entropy": {"entropy": lambda t: 2 - 1.4 * t},
    "longer answers that score no higher": {"response_length": lambda t: 10 + 20 * t, "score": lambda t: 0.5},
    "a metric that has no meaning": {"explained_variance": lambda t: math.nan, "grad_cosine": lambda t: math.nan},
    "a value model that begins badly": {"explained_variance": lambda t: -1.0 if t <= 0.25 else 0.5},
    "three answers in four that end": {"end_token_rate": lambda t: 0.75},
}


@pytest.mark.parametrize("case", NEAR)
def test_what_comes_near_a_rule_raises_nothing(case: str) -> None:
    steps = run(**NEAR[case])
    for upto in (*range(1, 11), len(steps)):
        assert rules(steps[:upto]) == [], upto


def test_a_kl_is_an_alarm_as_it_grows_and_however_high_its_target_where_it_doubles() -> None:
    assert rules(run(kl_k1=lambda t: 16 - 6 * t)) == [], "over one and a half times its target, and on its way back"
    (growing,) = alerts(run(kl_k1=lambda t: 11 * t))
    assert (growing.rule, growing.level) == ("kl_runaway", "warning") and "and growing" in growing.sentence
    assert alerts(run(kl_k1=lambda t: 30 * t))[0].level == "serious"
    doubling = {"kl_k1": lambda t: 2 * 2 ** (5 * t)}
    assert rules(run(knobs={"kl_target": 500.0}, **doubling)) == ["kl_runaway"]


def test_six_answers_in_ten_that_end_are_too_few() -> None:
    assert rules(run(end_token_rate=lambda t: 0.6)) == ["low_end_rate"]


@pytest.mark.parametrize("rule", SICK)
def test_a_suggestion_is_a_legal_move_of_the_knobs(rule: str) -> None:
    for alert in alerts(run(**SICK[rule])):
        if alert.suggestion is not None:
            turned = PPOKnobs().turned(**alert.suggestion)
            assert turned != PPOKnobs(), "a suggestion that changes nothing is no help"


@pytest.mark.parametrize("rule", ["length_collapse", "length_growth", "entropy_collapse", "kl_runaway", "reward_hacking"])
def test_every_rule_that_would_raise_beta_has_something_to_try_from_zero(rule: str) -> None:
    (found,) = alerts(run(knobs={"kl_coef": 0.0}, **SICK[rule]))
    assert found.suggestion == {"kl_coef": 0.02}


def test_at_beta_zero_a_shrinking_response_gets_a_lower_rate_where_less_penalty_is_meant() -> None:
    sick = {"response_length": SICK["length_collapse"]["response_length"], "score": lambda t: 1 - t}
    assert alerts(run(**sick))[0].suggestion == {"kl_coef": 0.01}
    assert alerts(run(knobs={"kl_coef": 0.0}, **sick))[0].suggestion == {"policy_lr": KNOBS["policy_lr"] / 2}


@pytest.mark.parametrize("rule", ["length_growth", "entropy_collapse", "kl_runaway", "reward_hacking"])
def test_where_beta_is_as_high_as_it_goes_a_lower_rate_is_suggested(rule: str) -> None:
    (found,) = alerts(run(knobs={"kl_coef": 10.0}, **SICK[rule]))
    assert found.suggestion == {"policy_lr": KNOBS["policy_lr"] / 2}


def test_every_rule_is_covered_here() -> None:
    assert {r.__name__ for r in RULES} == {*SICK, "overfitting"}


def evaluated(*rates: tuple[int, float], half: float = 0.08, prompts: tuple[str, ...] = ("a", "b")) -> list[dict]:
    """Evaluations as they are kept: (step, win rate) pairs with an interval of `half` on either side."""
    return [
        {"time": float(i), "step": step, "prompts": list(prompts), "values": {"win_rate": r, "low": r - half, "high": r + half, "n": 40}}
        for i, (step, r) in enumerate(rates)
    ]


FALLING = {
    "three": ((10, 0.7), (20, 0.5), (30, 0.3)),
    "steep": ((10, 0.8), (20, 0.8), (30, 0.2)),
    "late": ((5, 0.9), (10, 0.9), (20, 0.9), (30, 0.2)),
    "a step": ((5, 0.9), (10, 0.9), (20, 0.1), (30, 0.1)),
    "two": ((10, 0.7), (30, 0.5)),
}


@pytest.mark.parametrize("name", FALLING)
def test_a_fall_of_the_win_rate_beyond_chance_is_told_however_few_evaluations_there_are(name: str) -> None:
    (found,) = alerts(run(), [10, 20], evaluated(*FALLING[name]))
    (step, best), now = max(FALLING[name], key=lambda pair: (pair[1], pair[0])), FALLING[name][-1][1]
    assert (found.rule, found.level) == ("reward_hacking", "serious") and found.suggestion == {"kl_coef": 0.04}
    low, high = (f"{100 * (best + way):.0f} %" for way in (-0.08, 0.08))
    for said in (f"from {100 * best:.0f} % [{low} to {high}]", f"step {step}", f"to {100 * now:.0f} % [", "2 prompts"):
        assert said in found.sentence, said
    assert found.back == (20 if step == 20 else 10)


def test_a_fall_that_chance_allows_and_a_rise_are_not_told() -> None:
    assert alerts(run(), [], evaluated(*FALLING["three"], half=0.25)) == []
    assert alerts(run(), [], evaluated((10, 0.3), (20, 0.5), (30, 0.7))) == []
    assert alerts(run(), [], evaluated((10, 0.9), (20, 0.5), (30, 0.88))) == [], "what has recovered is no fall"
    assert alerts(run(), [], evaluated((30, 0.9), (30, 0.2))) == [], "of one step nothing fell"


def test_only_evaluations_of_the_same_prompts_are_compared_in_any_order_of_theirs() -> None:
    a, b = evaluated((10, 0.9), prompts=("a", "b")), evaluated((30, 0.2), prompts=("c",))
    assert alerts(run(), [], a + b) == []
    assert len(alerts(run(), [], a + evaluated((30, 0.2), prompts=("b", "a")))) == 1


@pytest.mark.parametrize("values", [{"win_rate": 0.2}, {"win_rate": 0.2, "low": None, "high": None}, {"words": 3.0}, {"win_rate": "0.2"}])
def test_an_evaluation_without_an_interval_says_nothing_and_breaks_nothing(values: dict) -> None:
    assert alerts(run(), [], [*evaluated((10, 0.9)), {**evaluated((30, 0.2))[0], "values": values}]) == []


def test_a_fall_of_the_win_rate_while_the_score_stands_still_is_no_hacking_but_told() -> None:
    (found,) = alerts(run(score=lambda t: 1.0), [10], evaluated(*FALLING["two"]))
    assert found.rule == "win_rate_fell" and found.level == "serious" and found.back == 10 and "does not rise" in found.cause


def test_one_row_tells_of_hacking_where_gold_and_win_rate_both_fell() -> None:
    (found,) = alerts(run(**SICK["reward_hacking"]), [], evaluated(*FALLING["two"]))
    assert "gold reward" in found.sentence


def test_noise_on_a_plateau_is_not_hacking() -> None:
    wobble = [0.7 + 0.03 * (-1) ** n for n in range(60)]
    steps = run(60)
    steps = [Step(s.stage, s.number, {**s.metrics, "gold": g}, s.knobs) for s, g in zip(steps, wobble, strict=True)]
    assert rules(steps) == []


def test_beta_of_zero_gets_a_suggestion_that_moves_it() -> None:
    found = alerts(run(knobs={"kl_coef": 0.0}, kl_k1=lambda t: 40 * t * t))
    assert found[0].suggestion == {"kl_coef": 0.02}


def test_a_negative_kl_gets_a_suggestion_at_temperature_1_too() -> None:
    (found,) = alerts(run(kl_coef=lambda t: 0, kl_k1=lambda t: -0.8))
    assert found.suggestion == {"policy_lr": KNOBS["policy_lr"] / 2}


def test_a_broken_promise_is_an_alert_with_its_causes_and_a_way_back() -> None:
    steps = run(3)
    nan = failure("Step 4: policy_loss is nan. Usual causes: a learning rate too high, or a reward that is no number.", steps)
    assert nan.level == "serious" and nan.sentence == "The run ended after step 3. Step 4: policy_loss is nan."
    assert nan.cause.startswith("Usual causes: a learning rate") and "Roll back" in nan.cause
    assert nan.suggestion == {r: KNOBS[r] / 3 for r in ("policy_lr", "value_lr")}
    assert failure("The mean KL cannot be negative.", []).suggestion is None


def test_serious_alerts_come_first() -> None:
    found = alerts(run(clip_fraction=lambda t: 0.6, kl_k1=lambda t: -0.8))
    assert [a.level for a in found] == ["serious", "warning"]


def test_an_overfitting_reward_model_is_named() -> None:
    steps = run(
        12,
        knobs=RewardKnobs().to_json(),
        stage="reward",
        loss=lambda t: 0.7 - 0.3 * t,
        valid_loss=lambda t: 0.6 + 0.4 * (t - 0.4) ** 2 * 2,
    )
    assert rules(steps) == ["overfitting"]


def test_hacking_names_the_snapshot_nearest_to_the_best_step_and_none_that_is_gone() -> None:
    steps = run(**SICK["reward_hacking"])
    (told,) = alerts(steps)
    best = int(told.sentence.split("around step ")[1].split()[0])
    assert told.back is None and f"near step {best}" in told.cause, "who does not know the snapshots says where one should be"
    for there in ([4, 8, 12, 16, 20, 24, 28, 32, 36, 38, 40], [38, 39, 40], [2, 39]):
        (found,) = alerts(steps, there)
        assert found.back in there and found.back < 40
        assert all(abs(found.back - best) <= abs(n - best) for n in there if n < 40)
        assert f"step {found.back}" in found.cause and "near step" not in found.cause
    (found,) = alerts(steps, [])
    assert found.back is None and "no snapshot" in found.cause
    assert alerts(steps, [40])[0].back is None, "where one stands already is no way back"


def test_a_number_that_is_none_leads_back_before_it_only() -> None:
    steps = run(**SICK["not_finite"])
    assert alerts(steps, [10, 30, 39, 40])[0].back == 39
    later = [*steps[:30], *(Step(s.stage, s.number, {**s.metrics, "policy_loss": math.nan}, s.knobs) for s in steps[30:])]
    assert alerts(later, [10, 30, 31, 39])[0].back == 30, "a snapshot of lost weights is no help"
    assert alerts(later, [31, 39])[0].back is None


def test_a_run_that_failed_goes_back_to_its_newest_snapshot() -> None:
    assert failure("Step 4: policy_loss is nan.", run(3), [1, 3]).back == 3
    assert failure("Step 4: policy_loss is nan.", run(3), []).back is None


@pytest.mark.parametrize("rule", SICK)
def test_an_alert_says_the_same_of_the_run_whatever_snapshots_there_are(rule: str) -> None:
    bare, there = alerts(run(**SICK[rule])), alerts(run(**SICK[rule]), [10, 20, 30])
    assert [(a.rule, a.sentence, a.suggestion) for a in bare] == [(a.rule, a.sentence, a.suggestion) for a in there]
    assert all(a.cause.endswith(".") for a in there)
