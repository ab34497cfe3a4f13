"""Identities of the PPO arithmetic."""

import pytest
import torch

from labkit import rl

torch.manual_seed(0)
B, R = 7, 11
LENGTHS = torch.tensor([11, 1, 5, 8, 2, 11, 3])
MASK = torch.arange(R) < LENGTHS[:, None]


def grids(n: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(B, R, generator=generator) * MASK for _ in range(n)]


def test_with_lambda_one_the_advantage_is_the_sum_of_rewards_to_come_minus_the_value():
    rewards, values = grids(2)
    advantages, returns = rl.gae(rewards, values, MASK, 1.0)
    to_come = rewards.flip(1).cumsum(1).flip(1) * MASK
    assert torch.allclose(advantages, (to_come - values) * MASK, atol=1e-5)
    assert torch.allclose(returns, to_come, atol=1e-5)


def test_with_lambda_zero_the_advantage_is_the_one_step_error():
    rewards, values = grids(2)
    advantages, _ = rl.gae(rewards, values, MASK, 0.0)
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.isclose(advantages[row, length - 1], rewards[row, length - 1] - values[row, length - 1])
        if length > 1:
            assert torch.isclose(advantages[row, 0], rewards[row, 0] + values[row, 1] - values[row, 0])


def test_poisoned_padding_changes_no_advantage():
    rewards, values = grids(2)
    clean = rl.gae(rewards, values, MASK, 0.95)
    dirty = rl.gae(rewards + 1e6 * ~MASK, values - 1e6 * ~MASK, MASK, 0.95)
    assert all(torch.equal(a[MASK], b[MASK]) and (b[~MASK] == 0).all() for a, b in zip(clean, dirty, strict=True))


def test_the_score_is_paid_once_at_the_last_generated_token():
    scores = torch.randn(B)
    rewards = rl.token_rewards(scores, torch.zeros(B, R), MASK, 0.1)
    assert torch.allclose(rewards.sum(1), scores)
    assert torch.equal((rewards != 0).float().argmax(1), LENGTHS - 1)
    assert (rewards != 0).sum() == B


def test_an_episode_earns_its_score_minus_beta_times_its_kl():
    (kl,) = grids(1)
    scores = torch.randn(B)
    rewards = rl.token_rewards(scores, kl + 5.0 * ~MASK, MASK, 0.3)
    assert torch.allclose(rewards.sum(1), scores - 0.3 * (kl * MASK).sum(1), atol=1e-5)


def test_whitened_advantages_have_mean_zero_and_variance_one_over_real_tokens():
    (x,) = grids(1)
    white = rl.whiten(3.0 + 7.0 * x + 100.0 * ~MASK, MASK)
    assert abs(white[MASK].mean()) < 1e-5 and abs(white[MASK].var(unbiased=False) - 1) < 1e-4
    assert (white[~MASK] == 0).all()


def test_kl_estimators_agree_in_the_mean_with_the_exact_kl():
    generator = torch.Generator().manual_seed(1)
    p, q = (torch.randn(20, generator=generator).log_softmax(0) for _ in range(2))
    exact = (p.exp() * (p - q)).sum()
    k1, k2, k3 = rl.kl_estimates(p, q)
    assert torch.isclose((p.exp() * k1).sum(), exact, atol=1e-5)
    assert torch.isclose((p.exp() * k3).sum(), exact, atol=1e-5)
    assert (k2 >= 0).all() and (k3 >= -1e-6).all() and (k1 < 0).any()
    _, k2, k3 = rl.kl_estimates(p, p + 0.01)
    assert torch.allclose(k2, k3, rtol=0.01)  # of models that hardly differ both say the same


def test_before_any_update_the_policy_gradient_is_that_of_plain_policy_gradient():
    logprobs = torch.randn(30, requires_grad=True)
    advantages = torch.randn(30)
    loss, ratio, clipped = rl.policy_loss(logprobs, logprobs.detach(), advantages, 0.2)
    loss.sum().backward()
    assert torch.equal(ratio, torch.ones(30)) and not clipped.any()
    assert torch.allclose(logprobs.grad, -advantages)


def test_beyond_the_clip_there_is_no_gradient_in_the_rewarded_direction():
    old = torch.zeros(4)
    logprobs = torch.tensor([0.5, 0.5, -0.5, -0.5], requires_grad=True)
    loss, _, clipped = rl.policy_loss(logprobs, old, torch.tensor([1.0, -1.0, 1.0, -1.0]), 0.2)
    loss.sum().backward()
    assert clipped.tolist() == [True, False, False, True]
    assert (logprobs.grad == 0).tolist() == [True, False, False, True]


def test_extreme_log_ratios_stay_finite():
    loss, ratio, _ = rl.policy_loss(torch.tensor([1e4, -1e4]), torch.zeros(2), torch.tensor([1.0, -1.0]), 0.2)
    assert torch.isfinite(loss).all() and torch.isfinite(ratio).all()


@pytest.mark.parametrize("moved", [-5.0, 0.1, 5.0])
def test_clipping_never_lowers_the_value_loss(moved: float):
    old, returns = torch.randn(50), torch.randn(50)
    values = old + moved
    assert (rl.value_loss(values, old, returns, 0.2) >= 0.5 * (values - returns).square() - 1e-6).all()


def test_a_value_gains_nothing_by_leaving_its_old_estimate_by_more_than_the_clip():
    values = torch.tensor([0.5, 0.2, 0.1, -0.5], requires_grad=True)  # old estimates 0, returns 1
    loss = rl.value_loss(values, torch.zeros(4), torch.ones(4), 0.2)
    loss.sum().backward()
    assert loss[0] == loss[1] and values.grad[0] == 0
    assert torch.allclose(values.grad[2:], values[2:] - 1)  # elsewhere ½ (value - return)²


def test_explained_variance_of_a_perfect_and_of_a_constant_value_model():
    returns = torch.randn(100)
    assert rl.explained_variance(returns, returns) == pytest.approx(1.0)
    assert rl.explained_variance(torch.full((100,), 3.0), returns) == pytest.approx(0.0, abs=1e-5)
