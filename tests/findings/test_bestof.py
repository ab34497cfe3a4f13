"""The expectation for the best of n is exact, and its KL analytic."""

from itertools import combinations
from statistics import fmean

import numpy as np
import pytest

from labkit.errors import SettingsError
from labkit.findings.bestof import expected_best
from labkit.rl import best_of_n_kl

SCORES = [0.3, -1.0, 2.0, 0.7, 0.1]
VALUES = [1.0, 5.0, -2.0, 4.0, 0.0]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_it_equals_the_mean_over_all_choices_of_n(n: int) -> None:
    chosen = [VALUES[max(group, key=SCORES.__getitem__)] for group in combinations(range(5), n)]
    assert expected_best(SCORES, VALUES, n) == pytest.approx(fmean(chosen))


def test_the_best_of_more_never_scores_less() -> None:
    curve = [expected_best(SCORES, SCORES, n) for n in range(1, 6)]
    assert curve == sorted(curve) and curve[0] == pytest.approx(np.mean(SCORES)) and curve[-1] == max(SCORES)


def test_its_kl_is_that_of_the_distribution_of_the_maximum() -> None:
    """Best of n by a continuous score has density n u^(n-1) over the score's quantile u: KL = integral of f log f."""
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    for n in (1, 2, 16):
        density = n * u ** (n - 1)
        assert best_of_n_kl(n) == pytest.approx(float(np.mean(density * np.log(density))), abs=1e-4)


def test_an_impossible_n_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 1"):
        best_of_n_kl(0)
    with pytest.raises(SettingsError, match="between 1 and 5"):
        expected_best(SCORES, VALUES, 6)
