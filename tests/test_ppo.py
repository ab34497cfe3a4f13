"""PPO-ptx as the paper describes it: what it learns, what it promises, and that a resumed run is the same run."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from labkit.errors import DataError, InvariantError, RunError, SettingsError
from labkit.knobs import PPOKnobs, constant
from labkit.ppo import PPOSettings, from_model, from_texts, loop, weighted
from labkit.ppo import update as update_module
from labkit.ppo.rollout import addressed_rows
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


def test_two_runs_with_one_seed_are_identical_and_another_seed_differs(folder):
    runs = [run(folder, replace(SETTINGS, seed=s), steps=3)[1] for s in (0, 0, 1)]
    assert [numbers(s) for s in runs[0]] == [numbers(s) for s in runs[1]]
    assert [numbers(s) for s in runs[0]] != [numbers(s) for s in runs[2]]


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
    state, _ = run(folder, steps=2)
    steps = {int(s["step"]) for s in state.policy_optimizer.state_dict()["state"].values()}
    assert steps == {2 * SETTINGS.batch // SETTINGS.minibatch}


def test_learning_rates_rise_from_a_tenth_and_then_follow_the_knob(folder):
    _, steps = run(folder, replace(SETTINGS, warmup=10))
    rates = [s.metrics["lr_policy"] / KNOBS.policy_lr for s in steps]
    assert rates[0] == pytest.approx(0.1) and rates[5] == pytest.approx(0.55) and rates[-1] == pytest.approx(1.0)


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
    monkeypatch.setattr(update_module.rl, "value_loss", lambda values, *_: values * float("nan"))
    with pytest.raises(InvariantError, match="value_loss is nan.*learning rate"):
        run(folder, steps=1)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda p, r: torch.zeros(3), "one score each"),
        (lambda p, r: torch.full((len(p),), float("nan")), "not a finite number"),
    ],
)
def test_a_broken_reward_is_named(folder, reward, message):
    with pytest.raises(DataError, match=message):
        run(folder, reward=reward, steps=1)


def test_bad_input_ends_in_one_sentence(folder, tmp_path):
    with pytest.raises(DataError, match="no prompts"):
        next(loop(toy_state(folder, SETTINGS), [], even_share, constant(KNOBS), SETTINGS))
    with pytest.raises(DataError, match="'p0' has .* does not fit"):
        run(folder, replace(SETTINGS, max_new_tokens=62))
    with pytest.raises(SettingsError, match="whole number of minibatches"):
        PPOSettings(batch=100, minibatch=64)
    with pytest.raises(RunError, match="not a complete snapshot"):
        toy_state(folder, SETTINGS).load(tmp_path / "nowhere")
