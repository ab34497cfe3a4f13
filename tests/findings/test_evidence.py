"""Claims are decided by whole intervals, and by nothing less."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from labkit.findings.evidence import FAILS, HOLDS, OPEN, Claim, interval, verdict_of

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=8)


def claim(*values: float, **region: float) -> Claim:
    return Claim("a number", dict(enumerate(values)), **region)


@settings(deadline=None)  # the first one imports scipy
@given(VALUES)
def test_the_interval_is_the_one_of_a_t_test(values: list[float]) -> None:
    assume(max(values) - min(values) > 1e-3)
    ours, theirs = interval(values), ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert ours.low == pytest.approx(theirs.low) and ours.high == pytest.approx(theirs.high)


@settings(deadline=None)  # the first one imports scipy
@given(VALUES, st.floats(-100, 100))
def test_a_claim_and_its_opposite_never_both_hold(values: list[float], border: float) -> None:
    one, other = claim(*values, above=border), claim(*values, below=border)
    assert {one.verdict, other.verdict} in ({HOLDS, FAILS}, {OPEN}, {FAILS}, {OPEN, FAILS})
    assert not (one.verdict == other.verdict == HOLDS)


@settings(deadline=None)  # the first one imports scipy
@given(VALUES, st.floats(-50, 50), st.floats(0.1, 50))
def test_a_wider_region_never_turns_holds_into_anything_else(values: list[float], border: float, more: float) -> None:
    if claim(*values, above=border).verdict == HOLDS:
        assert claim(*values, above=border - more).verdict == HOLDS


def test_fewer_than_three_seeds_decide_nothing() -> None:
    assert claim(5.0, 5.01, above=0.0).verdict == OPEN != claim(5.0, 5.01, 5.02, above=0.0).verdict
    assert claim(5.0, above=0.0).verdict == OPEN
    assert claim(above=0.0).verdict == OPEN
    assert claim(5.0, math.nan, above=0.0).verdict == OPEN


def test_values_that_are_all_the_same_need_five_seeds() -> None:
    assert claim(0.1, 0.1, 0.1, above=0.0).verdict == OPEN
    assert claim(*[0.1] * 5, above=0.0).verdict == HOLDS
    assert claim(*[0.0] * 5, above=0.0).verdict == FAILS
    shares = [5 / 6 - 4 / 6, 4 / 6 - 3 / 6, 2 / 6 - 1 / 6]  # the same but for the last bit
    assert len(set(shares)) > 1 and claim(*shares, above=0.0).verdict == OPEN


def test_about_equal_holds_only_when_the_interval_fits_into_the_margin() -> None:
    assert claim(0.01, 0.0, -0.01, above=-0.1, below=0.1).verdict == HOLDS
    assert claim(0.3, 0.31, 0.32, above=-0.1, below=0.1).verdict == FAILS
    assert claim(0.05, 0.15, -0.1, above=-0.1, below=0.1).verdict == OPEN


def test_one_failed_claim_sinks_a_finding_and_one_open_claim_leaves_it_open() -> None:
    holds, fails, unclear = (claim(*v, above=0.0) for v in ((1, 1.1, 1.2), (-1, -1.1, -1.2), (1, -1, 0)))
    beside = Claim("beside", {0: -1.0, 1: -1.1, 2: -1.2}, above=0.0, deciding=False)
    assert verdict_of([holds, holds, beside]) == HOLDS
    assert verdict_of([holds, unclear, fails]) == FAILS
    assert verdict_of([holds, unclear]) == OPEN
    assert verdict_of([beside]) == OPEN
