"""A reward model beside a labeler: what uncertainty is, and how a contradiction is counted."""

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labkit.errors import DataError
from labkit.labels.beside_rm import beside_labeler, contradiction, uncertainty
from labkit.labels.session import LabelSession
from tests.labels.helpers import draft, tasks

scores = st.lists(st.floats(-20, 20), min_size=2, max_size=9)


@example([0.0, 1e-12], 0.0, random.Random(0))
@given(scores, st.floats(-5, 5), st.randoms())
def test_uncertainty_lies_between_sure_and_a_coin_and_knows_neither_order_nor_level(values, level, rng):
    found = uncertainty(values)
    assert 0 <= found <= 1
    turned = [value + level for value in values]
    rng.shuffle(turned)
    assert uncertainty(turned) == pytest.approx(found, abs=1e-6)


@given(scores, st.floats(1.1, 5))
def test_scores_further_apart_are_surer(values, factor):
    wider = uncertainty([factor * value for value in values])
    assert wider <= uncertainty(values) + 1e-12
    assert uncertainty([values[0]] * len(values)) == pytest.approx(1.0)


@pytest.mark.parametrize("chance", [0.5, 0.75, 0.9, 0.999])
def test_two_answers_have_the_entropy_of_who_wins(chance):
    bits = -(chance * math.log2(chance) + (1 - chance) * math.log2(1 - chance))
    assert uncertainty([math.log(chance), math.log(1 - chance)]) == pytest.approx(bits)
    assert uncertainty([0.0, 800.0]) == 0.0, "no overflow"
    with pytest.raises(DataError, match="at least two"):
        uncertainty([1.0])


def ranked(count, *groups, path=None):
    desk = LabelSession(tasks(count), "ann", path)
    while desk.current:
        desk.submit(draft(*groups))
    return desk


def test_one_card_is_told_in_the_letters_that_the_labeler_saw():
    desk = LabelSession(tasks(1), "ann", None)
    letter = desk.current.labels
    ranking = desk.submit(draft("c0", "c1 c2")).ranking
    assert beside_labeler(ranking, {"c0": 1.0, "c1": 0.5, "c2": 3.0}) == (
        f"The reward model orders 1 of 2 strict pairs the other way: furthest {letter['c2']}, "
        f"which it scores 2.00 above {letter['c0']}."
    )
    assert beside_labeler(ranking, {"c0": 1.0, "c1": 0.5, "c2": 1.0}).endswith("all 2 strict pairs as you did."), "a tie is no no"


def test_contradictions_are_counted_over_pairs_and_resampled_over_cards():
    rankings = ranked(30, "c0", "c1", "c2").rankings
    against = {"c0": 0.0, "c1": 1.0, "c2": -1.0}  # turns one of three pairs round
    found = contradiction(rankings, lambda r: against)
    assert found.share.value == pytest.approx(1 / 3) and found.share.n == 90 and found.share.clusters == 30
    assert found.margin == pytest.approx(1.0)
    turned = contradiction(rankings, lambda r: {i: -s for i, s in against.items()})
    assert turned.share.value == pytest.approx(1 - found.share.value), "without ties what is not turned one way is the other"
    mixed = contradiction(rankings, lambda r: against if int(r.prompt.id[1:]) % 2 else {"c0": 2.0, "c1": 1.0, "c2": 0.0})
    assert mixed.share.low < mixed.share.value < mixed.share.high < 1 / 3
    assert contradiction([], lambda r: against).sentence == "no strict pair yet"
