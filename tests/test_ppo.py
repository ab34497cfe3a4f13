"""PPO-ptx as the paper describes it: what it learns, what it promises, and that a resumed run is the same run."""

from dataclasses import replace
from itertools import islice
from statistics import fmean
from types import SimpleNamespace

import pytest
import torch

from labkit import rl
from labkit.errors import DataError, InvariantError, RunError, SettingsError
from labkit.knobs import PPOKnobs, constant, ramp
from labkit.models import new_reward_model, score
from labkit.models.loading import scalar_head
from labkit.ppo import PPOSettings, State, from_model, from_texts, loop, weighted
from labkit.ppo.checks import check_processes
from labkit.ppo.rollout import _moments, addressed_rows
from labkit.reward import Ensemble
from tests.toy import NumberTokenizer, even_share, save_toy, toy_prompts, toy_state

SETTINGS = PPOSettings(steps=12, batch=32, minibatch=8, max_new_tokens=10, warmup=2, ptx_row=32)
KNOBS = PPOKnobs(policy_lr=3e-3, value_lr=3e-3, kl_coef=0.01)
PRETRAINING = torch.randint(3, 40, (64, 32), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path):
    return save_toy(tmp_path / "init", spread=0.05)


def run(folder, settings=SETTINGS, knobs=KNOBS, steps=None, state=None, reward=even_share, **options):
    state = state or toy_state(folder, settings)
    return state, list(islice(loop(state, toy_prompts(50), reward, constant(knobs), settings, **options), steps))


def numbers(step):
    return {name: value for name, value in step.metrics.items() if not name.startswith("time_")}


def test_ppo_raises_the_reward_and_reports_everything(folder):
    _, steps = run(folder, replace(SETTINGS, steps=25))
    assert steps[-1].metrics["score"] > steps[0].metrics["score"] + 0.3
    assert steps[0].metrics["kl_k1"] == pytest.approx(0.0, abs=1e-4) and steps[-1].metrics["kl_k1"] > 0.1
    expected = {"score", "kl_k1", "kl_k3", "objective", "entropy", "ratio_mean", "ratio_max", "clip_fraction", "explained_variance",
                "returns", "response_length", "end_token_rate", "grad_norm_ppo", "lr_policy", "lr_value", "time_generation"}  # fmt: skip
    assert expected <= set(steps[0].metrics)
    assert steps[3].metrics["objective"] == pytest.approx(steps[3].metrics["score"] - 0.01 * steps[3].metrics["kl_k1"])


def test_metrics_of_episodes_are_the_means_of_what_each_episode_says(folder):
    step = run(folder, replace(SETTINGS, samples=SETTINGS.batch), steps=3)[1][-1]
    for column, metric in (("score", "score"), ("kl", "kl_k1"), ("length", "response_length"), ("finished", "end_token_rate")):
        assert fmean(row[column] for row in step.samples) == pytest.approx(step.metrics[metric], abs=1e-4), column
    assert len(step.samples) == SETTINGS.batch and step.metrics["kl_k1"] > 1e-2


def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(folder):
    runs = [run(folder, replace(SETTINGS, seed=s), steps=3)[1] for s in (0, 0, 1)]
    assert [numbers(s) for s in runs[0]] == [numbers(s) for s in runs[1]]
    assert [numbers(s) for s in runs[0]] != [numbers(s) for s in runs[2]]


@pytest.mark.slow
def test_a_resumed_run_equals_the_uninterrupted_one(folder, tmp_path):
    knobs = replace(KNOBS, ptx_coef=0.3)
    _, whole = run(folder, knobs=knobs, pretraining=PRETRAINING)
    state, first = run(folder, knobs=knobs, pretraining=PRETRAINING, steps=5)
    state.save(tmp_path / "snapshot")
    fresh = toy_state(folder, SETTINGS).load(tmp_path / "snapshot")
    _, second = run(folder, knobs=knobs, pretraining=PRETRAINING, state=fresh)
    assert [s.number for s in second] == list(range(6, 13))
    assert [numbers(s) for s in whole] == [numbers(s) for s in first + second]
    assert whole[-1].samples == second[-1].samples


def test_micro_batches_change_nothing_but_memory(folder):
    results = [run(folder, replace(SETTINGS, micro_tokens=m, score_tokens=m), steps=2)[1][-1] for m in (4096, 30)]
    for name, value in numbers(results[0]).items():
        assert value == pytest.approx(numbers(results[1])[name], rel=2e-2, abs=2e-3), name


def test_the_optimiser_steps_exactly_batch_over_minibatch_times(folder):
    for settings, passes in ((SETTINGS, 2), (replace(SETTINGS, inner_epochs=2), 4)):
        state, _ = run(folder, settings, steps=2)
        for optimizer in (state.policy_optimizer, state.value_optimizer):
            steps = {int(s["step"]) for s in optimizer.state_dict()["state"].values()}
            assert steps == {passes * SETTINGS.batch // SETTINGS.minibatch}


def test_learning_rates_rise_from_a_tenth_and_then_follow_the_knob(folder):
    knobs = replace(KNOBS, value_lr=5e-4)
    _, steps = run(folder, replace(SETTINGS, warmup=10, batch=8), knobs)
    for model in ("policy", "value"):
        rates = [s.metrics[f"lr_{model}"] / getattr(knobs, f"{model}_lr") for s in steps]
        assert rates[0] == pytest.approx(0.1) and rates[5] == pytest.approx(0.55) and rates[-1] == pytest.approx(1.0)


@pytest.mark.slow
def test_ptx_adds_gamma_times_the_pretraining_gradient_and_lowers_its_loss(folder):
    _, plain = run(folder, replace(SETTINGS, steps=20), pretraining=PRETRAINING)
    _, mixed = run(folder, replace(SETTINGS, steps=20), replace(KNOBS, ptx_coef=1.0), pretraining=PRETRAINING)
    assert mixed[-1].metrics["ptx_loss"] < mixed[0].metrics["ptx_loss"] - 0.05
    assert mixed[-1].metrics["ptx_loss"] < plain[-1].metrics["ptx_loss"]
    assert -1.0 <= mixed[0].metrics["grad_cosine"] <= 1.0
    doubled = run(folder, knobs=replace(KNOBS, ptx_coef=2.0), pretraining=PRETRAINING, steps=1)[1][0].metrics
    assert doubled["grad_norm_ptx"] == pytest.approx(2 * mixed[0].metrics["grad_norm_ptx"], rel=0.1)


def test_eight_pretraining_examples_come_with_each_episode():
    settings = PPOSettings()
    assert settings.ptx_rows * settings.ptx_row / settings.ptx_tokens == 8 * settings.minibatch


def test_without_pretraining_rows_ptx_is_an_error(folder):
    with pytest.raises(DataError, match="no pretraining rows"):
        run(folder, knobs=replace(KNOBS, ptx_coef=1.0), steps=1)


def test_the_average_follows_the_policy_and_is_what_is_kept(folder):
    settings = replace(SETTINGS, ema_decay=0.5)
    state, _ = run(folder, settings, steps=4)
    init = toy_state(folder, settings)
    pairs = zip(
        state.averaged_policy().parameters(),
        state.plain_policy.parameters(),
        init.plain_policy.parameters(),
        strict=True,
    )
    gaps = [((a - p).norm().item(), (p - i).norm().item()) for a, p, i in pairs]
    assert sum(a for a, _ in gaps) > 0 and sum(a for a, _ in gaps) < sum(p for _, p in gaps)


def test_the_average_goes_the_part_of_the_way_that_its_decay_leaves(folder):
    state = toy_state(folder, SETTINGS)
    before = [t.clone() for t in state.ema]
    with torch.no_grad():
        torch._foreach_add_(state.trained(), 1.0)
    state.move_average(0.75)
    assert all(torch.allclose(now, old + 0.25, atol=1e-5) for now, old in zip(state.ema, before, strict=True))


@pytest.mark.parametrize(("per", "moves"), [("minibatch", 4), ("iteration", 1)])
def test_the_average_moves_as_often_as_the_settings_say(folder, monkeypatch, per, moves):
    decays = []
    monkeypatch.setattr(State, "move_average", lambda self, decay: decays.append(decay))
    run(folder, replace(SETTINGS, ema_per=per, ema_decay=0.9), steps=1)
    assert decays == [0.9] * moves


def test_responses_without_end_token_pay_the_stated_penalty(folder):
    base = run(folder, replace(SETTINGS, missing_end_penalty=0.0), steps=1)[1][0].metrics
    punished = run(folder, replace(SETTINGS, missing_end_penalty=3.0), steps=1)[1][0].metrics
    assert punished["score"] == pytest.approx(base["score"] - 3.0 * (1 - base["end_token_rate"]), abs=1e-5)


def test_exact_kl_is_close_to_its_estimates(folder):
    _, steps = run(folder, replace(SETTINGS, exact_kl=True, batch=64, minibatch=64), steps=6)
    assert steps[-1].metrics["kl_exact"] >= 0
    assert steps[-1].metrics["kl_exact"] == pytest.approx(steps[-1].metrics["kl_k3"], abs=0.5)


def test_rewards_may_be_models_text_functions_and_sums(folder):
    state = toy_state(folder, SETTINGS)
    rows = [[3, 4]], [[5, 6, 2]]
    length = from_texts(lambda prompts, texts: [len(t.split()) for t in texts], NumberTokenizer())
    model = from_model(state.plain_value)
    both = weighted([(2.0, length), (-1.0, model)])(*rows)
    assert length(*rows).tolist() == [2.0] and torch.allclose(both, 4.0 - model(*rows))
    run(folder, reward=model, steps=2)


def test_every_prompt_is_used_once_before_any_comes_twice():
    rows = addressed_rows(50, 0, 50, 0, "prompts")
    assert sorted(rows) == list(range(50))
    assert addressed_rows(50, 20, 60, 0, "prompts")[:30] == rows[20:]


def test_a_policy_that_disagrees_with_its_recorded_log_probabilities_is_caught(folder, monkeypatch):
    state = toy_state(folder, SETTINGS)
    state.policy.train()  # dropout on: the classic mistake
    for module in state.policy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    with pytest.raises(InvariantError, match="dropout"):
        run(folder, state=state, steps=1)


def test_a_reference_that_is_not_the_init_model_is_caught(folder):
    state = toy_state(folder, SETTINGS)
    with torch.no_grad():
        state.reference.get_input_embeddings().weight.mul_(3.0)
    with pytest.raises(InvariantError, match="reference"):
        run(folder, state=state, steps=1)


def test_a_loss_that_is_not_a_number_ends_the_run_with_causes(folder, monkeypatch):
    monkeypatch.setattr(rl, "value_loss", lambda values, *_: values * float("nan"))
    with pytest.raises(InvariantError, match="value_loss is nan.*learning rate"):
        run(folder, steps=1)


@pytest.mark.parametrize("broken", ["value_loss", "policy_loss"])
def test_a_loss_that_is_not_a_number_changes_no_weight(folder, monkeypatch, broken):
    state = toy_state(folder, SETTINGS)
    steps = loop(state, toy_prompts(50), even_share, constant(KNOBS), SETTINGS)
    next(steps)
    before = [t.detach().clone() for t in (*state.policy.parameters(), *state.value.parameters(), *state.ema)]
    whole = getattr(rl, broken)

    def nan(*arguments):
        out = whole(*arguments)
        return (out[0] * float("nan"), *out[1:]) if isinstance(out, tuple) else out * float("nan")

    monkeypatch.setattr(rl, broken, nan)
    with pytest.raises(InvariantError, match=f"Step 2: {broken} is nan; no weight was changed"):
        next(steps)
    after = (*state.policy.parameters(), *state.value.parameters(), *state.ema)
    assert state.step == 1 and all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("model", ["policy", "value"])
def test_a_gradient_that_is_not_finite_changes_no_weight(folder, model):
    """Losses may be finite where their gradients are not: both norms are looked at before either optimiser steps."""
    state = toy_state(folder, SETTINGS)
    own = getattr(state, model)
    next(own.parameters()).register_hook(lambda grad: grad * float("inf"))
    before = [p.detach().clone() for p in (*state.policy.parameters(), *state.value.parameters())]
    with pytest.raises(InvariantError, match=f"grad_norm_{model} is (nan|inf)"):
        run(folder, state=state, steps=1)
    after = (*state.policy.parameters(), *state.value.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_rolled_back_state_forgets_the_gradients_of_a_broken_iteration(folder, tmp_path):
    state = toy_state(folder, SETTINGS)
    saved = state.save(tmp_path / "snapshot")
    hook = next(state.value.parameters()).register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(InvariantError):
        run(folder, state=state, steps=1)
    hook.remove()
    again, fresh = (run(folder, state=s, steps=2)[1] for s in (state.load(saved), None))
    assert [numbers(s) for s in again] == [numbers(s) for s in fresh]


@pytest.mark.slow
def test_no_limit_on_the_gradient_norm_is_zero_none_or_a_very_high_one(folder):
    ends = []
    for limit in (0.0, 1e9, 1e-9, None):
        state, steps = run(folder, replace(SETTINGS, max_grad_norm=limit, adam_eps=1.0), steps=2)
        assert steps[0].metrics["grad_norm_value"] > 0
        ends.append(torch.cat([p.detach().flatten() for p in state.policy.parameters()]))
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[3]) and not torch.allclose(ends[0], ends[2])


def test_a_batch_of_one_episode_is_not_stopped_by_chance(folder):
    """One episode has no standard error: its k1 is below zero every other time."""
    settings = replace(SETTINGS, batch=1, minibatch=1, ptx_row=2, steps=12)
    kl = [s.metrics["kl_k1"] for s in run(folder, settings)[1]]
    assert len(kl) == 12 and min(kl) < -1e-3


def test_a_minibatch_that_the_processes_cannot_share_is_refused():
    check_processes(SETTINGS, 4)
    with pytest.raises(SettingsError, match="8 episodes .* by 3 processes; choose a minibatch that is a multiple of 3"):
        check_processes(SETTINGS, 3)
    with pytest.raises(SettingsError, match="1 pretraining rows .* for 2 processes, .* choose a ptx_row below 1024"):
        check_processes(replace(SETTINGS, ptx_row=1024), 2)


def test_moments_over_the_batch_need_no_float64_on_the_device():
    """An Apple GPU has none, and here there is none at all: only a sum over processes may move anything."""
    apple = SimpleNamespace(accelerator=SimpleNamespace(num_processes=1, device=torch.device("mps"), reduce=None))
    mean, variance = _moments(apple, torch.tensor([[1.0, 3.0, float("nan")]]), torch.tensor([[True, True, False]]))
    assert (mean, variance) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda p, r: torch.zeros(3), "one score each"),
        (lambda p, r: torch.full((len(p),), float("nan")), "not a finite number; repair the reward function"),
        (lambda p, r: 1 / 0, r"The reward function .*lambda.* failed on a batch of \d+ episodes \(ZeroDivisionError: division by zero\); repair it"),
        (from_texts(lambda p, r: [1 / len("") for _ in p], NumberTokenizer()), "lambda.* failed .*ZeroDivisionError"),
        (from_texts(lambda p, r: r, NumberTokenizer()), "failed .*could not convert|failed .*too many dimensions"),
    ],
)
def test_a_broken_reward_is_named(folder, reward, message):
    with pytest.raises(DataError, match=message):
        run(folder, reward=reward, steps=1)


def test_a_damaged_reward_model_is_named_as_what_is_wrong(folder):
    judge = new_reward_model(folder, 0, device="cpu")
    with torch.no_grad():
        scalar_head(judge).weight[0, 0] = float("nan")
    with pytest.raises(DataError, match=r"is not a finite number; the reward model's weights are damaged.*04_reward"):
        run(folder, reward=from_model(judge), steps=1)


def test_bad_input_ends_in_one_sentence(folder, tmp_path):
    with pytest.raises(DataError, match="no prompts"):
        next(loop(toy_state(folder, SETTINGS), [], even_share, constant(KNOBS), SETTINGS))
    with pytest.raises(DataError, match="'p0' has .* does not fit"):
        run(folder, replace(SETTINGS, max_new_tokens=62))
    with pytest.raises(DataError, match="Pretraining rows of 65 tokens do not fit the model's context of 64"):
        run(folder, pretraining=torch.full((4, 65), 3), steps=1)
    with pytest.raises(SettingsError, match="whole number of minibatches"):
        PPOSettings(batch=100, minibatch=64)
    with pytest.raises(RunError, match="not a complete snapshot"):
        toy_state(folder, SETTINGS).load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("how", "combined"),
    [
        ("mean", lambda scores: scores.mean(0)),
        ("worst", lambda scores: scores.amin(0)),
        ("uncertainty", lambda scores: scores.mean(0) - scores.var(0, unbiased=False)),
    ],
)
def test_ppo_is_paid_by_several_weighted_rewards_under_a_scheduled_beta(folder, how, combined):
    settings = replace(SETTINGS, steps=3)
    state = toy_state(folder, settings)
    judges = [new_reward_model(folder, seed, device="cpu").requires_grad_(False) for seed in range(3)]
    paid, due = weighted([(1.0, Ensemble(judges, how=how)), (0.5, even_share)]), []

    def watched(prompts, responses):
        each = torch.stack([score(judge, prompts, responses) for judge in judges])
        due.append(float((combined(each) + 0.5 * even_share(prompts, responses)).mean()))
        return paid(prompts, responses)

    steps = list(loop(state, toy_prompts(30), watched, ramp(KNOBS.turned(kl_coef=0.5), 3, kl_coef=0.005), settings))
    assert [round(s.knobs["kl_coef"], 6) for s in steps] == [0.5, 0.05, 0.005]
    for step, mean in zip(steps, due, strict=True):
        cut = (1.0 - step.metrics["end_token_rate"]) * settings.missing_end_penalty
        assert step.metrics["score"] == pytest.approx(mean - cut, abs=1e-4)
