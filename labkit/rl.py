"""The arithmetic of PPO with a KL penalty, apart from any model or loop.

Shapes: B episodes, R response slots; `mask` (B, R) is True on real response tokens, False on padding. Means run over
the mask, never over padding. γ_discount is 1 throughout (paper, appendix C.4).
"""

from __future__ import annotations

import math

import torch

from labkit.errors import SettingsError

__all__ = [
    "best_of_n_kl",
    "explained_variance",
    "gae",
    "kl_estimates",
    "masked_mean",
    "policy_loss",
    "token_rewards",
    "value_loss",
    "whiten",
]

LOG_RATIO_LIMIT = 20.0  # log-ratios are clamped to ± this before exp


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of x over the true places of mask; both of one shape."""
    return (x * mask).sum() / mask.sum()


def kl_estimates(logprobs: torch.Tensor, ref_logprobs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per-token estimates k1, k2, k3 of KL(π ‖ π_ref) on tokens drawn from π (Schulman 2020); same shape as given.

    k1 = log π/π_ref is unbiased and is the one in the reward; it may be negative token by token. k2 and k3 never are.
    """
    k1 = logprobs - ref_logprobs
    k3 = torch.expm1((-k1).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)) + k1
    return k1, 0.5 * k1.square(), k3


def token_rewards(scores: torch.Tensor, kl: torch.Tensor, mask: torch.Tensor, kl_coef: float) -> torch.Tensor:
    """(B, R) rewards: -β·k1 on every response token, and the (B,) score added on the last one (paper, section 3.5)."""
    rewards = -kl_coef * kl * mask
    last = mask.sum(dim=1) - 1  # (B,) the last generated token: not one past it, not all of them
    return rewards.scatter_add(1, last[:, None], scores[:, None].to(rewards.dtype))


def gae(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016) without discount.

    rewards, values: (B, R). Returns (B, R) advantages and returns (advantage + value), zero on padding.
    An episode ends with its last real token: no value is read beyond it.
    """
    values = values * mask
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        next_value = values[:, t + 1] if t + 1 < values.shape[1] else torch.zeros_like(running)
        delta = rewards[:, t] + next_value - values[:, t]
        running = (delta + gae_lambda * running) * mask[:, t]
        advantages[:, t] = running
    return advantages, (advantages + values) * mask


def whiten(
    x: torch.Tensor, mask: torch.Tensor, moments: tuple[torch.Tensor, torch.Tensor] | None = None
) -> torch.Tensor:
    """x shifted to mean 0 and scaled to variance 1 over the mask; zero on padding.

    moments: (mean, variance) to use instead of x's own, when x is one process's share of a larger batch.
    """
    if moments is None:
        mean = masked_mean(x, mask)
        moments = mean, masked_mean((x - mean).square(), mask)
    mean, variance = moments
    return (x - mean) * torch.rsqrt(variance + 1e-8) * mask


def policy_loss(
    logprobs: torch.Tensor, old_logprobs: torch.Tensor, advantages: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clipped surrogate (Schulman et al. 2017, eq. 7), each input (N,) tokens.

    Returns per-token loss (N,), probability ratio (N,) and which tokens were clipped (N,) bool.
    """
    ratio = (logprobs - old_logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    plain = -advantages * ratio
    cut = -advantages * ratio.clamp(1.0 - clip, 1.0 + clip)
    return torch.maximum(plain, cut), ratio, cut > plain


def value_loss(values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, clip: float) -> torch.Tensor:
    """Per-token clipped squared error ½·max(plain, clipped), each (N,): a value may not gain by leaving its old estimate by over `clip`."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (near - returns).square())


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over (N,) tokens: 1 is a perfect value model, below 0 worse than a constant."""
    variance = returns.var(unbiased=False)
    return float(1.0 - (returns - values).var(unbiased=False) / variance) if variance > 1e-12 else float("nan")


def best_of_n_kl(n: int) -> float:
    """KL of the best of n answers from a single answer, in nats: log n − (n − 1)/n (Stiennon et al. 2020, appendix G.3).

    It is less where answers repeat, or tie in the judge's eyes.
    """
    if n < 1:
        raise SettingsError(f"n is {n}; the best of n needs n of at least 1.")
    return math.log(n) - (n - 1) / n
