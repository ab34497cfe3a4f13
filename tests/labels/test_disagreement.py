"""How far an RM contradicts a labeler: identities of the measure, and the order of the cards."""

import math

import pytest

from labkit.errors import DataError
from labkit.labels.disagreement import disagreement, worst_first
from labkit.types import Completion, Prompt, Ranking


def ranking(name: str, *groups: tuple[str, ...]) -> Ranking:
    prompt = Prompt(id=name, text="?")
    return Ranking(prompt, tuple(Completion(i, name, i) for i in "abcd"), groups)


def test_equal_scores_are_a_coin() -> None:
    assert disagreement(ranking("p", ("a",), ("b",), ("c",)), dict.fromkeys("abc", 3.0)) == pytest.approx(math.log(2))


def test_agreement_goes_to_nothing_and_contradiction_to_the_margin() -> None:
    chain = ranking("p", ("a",), ("b",))
    assert disagreement(chain, {"a": 50.0, "b": 0.0}) < 1e-20
    assert disagreement(chain, {"a": 0.0, "b": 800.0}) == pytest.approx(800.0)
    both = [disagreement(chain, {"a": 1.3, "b": 0.0}), disagreement(chain, {"a": 0.0, "b": 1.3})]
    assert both[1] - both[0] == pytest.approx(1.3), "log-odds of a pair and of its opposite differ by the margin"


def test_a_shift_of_all_scores_changes_nothing_and_ties_do_not_count() -> None:
    tied = ranking("p", ("a", "b"), ("c",))
    scores = {"a": 0.4, "b": -1.0, "c": 0.1}
    assert disagreement(tied, scores) == pytest.approx(disagreement(tied, {i: s + 7 for i, s in scores.items()}))
    assert disagreement(ranking("p", ("a", "b")), scores) == 0.0


def test_the_most_contradicted_card_comes_first_and_cards_without_pairs_not_at_all() -> None:
    cards = [ranking("agrees", ("a",), ("b",)), ranking("empty"), ranking("contradicts", ("b",), ("a",))]
    assert [r.prompt.id for r in worst_first(cards, lambda r: {"a": 1.0, "b": 0.0})] == ["contradicts", "agrees"]


def test_a_missing_score_is_named() -> None:
    with pytest.raises(DataError, match="'b' of prompt 'p'"):
        disagreement(ranking("p", ("a",), ("b",)), {"a": 1.0})
