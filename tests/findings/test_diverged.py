"""Only numbers that are not finite, or a policy far beyond its reference, count as divergence; other faults stay errors."""

import math

import pytest
import torch

from labkit.errors import InvariantError
from labkit.findings.pieces import has_diverged
from labkit.ppo.checks import check_finite, check_kl
from labkit.types import Step


def said_by(check, *given) -> str:
    with pytest.raises(InvariantError) as error:
        check(*given)
    return str(error.value)


def steps(kl: float) -> list[Step]:
    return [Step("ppo", 1, {"kl_k1": kl, "response_length": 8.0}, {})]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_a_divergence(value: float) -> None:
    assert has_diverged(said_by(check_finite, {"policy_loss": value}, 3), steps(1.0))


def test_a_negative_kl_is_a_fault_and_no_divergence_unless_the_policy_had_run_away() -> None:
    error = said_by(check_kl, torch.full((64,), -1.0), 2)
    assert not has_diverged(error, steps(1.0)) and not has_diverged(error, [])
    assert has_diverged(error, steps(80.0))
