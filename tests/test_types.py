"""The lab's words survive JSON and refuse nonsense with a sentence."""

import json

import pytest

from labkit.errors import DataError
from labkit.types import Completion, Demonstration, Prompt, Ranking, Rating, Step

PROMPT = Prompt("p1", "What is the food of the fox?\n", "open_qa", "customer", "u7", "train", {"task": "fact"})
COMPLETIONS = tuple(Completion(i, "p1", f"text {i}", (3, 4), True, "m", {"temperature": 1.0}, 5) for i in "abcd")
RANKING = Ranking(
    PROMPT, COMPLETIONS, (("b",), ("a", "d"), ("c",)), "L1", {"a": Rating(6, ("opinion",))}, 3.5, ("c", "a", "b", "d")
)


@pytest.mark.parametrize(
    "value",
    [
        PROMPT,
        COMPLETIONS[0],
        RANKING,
        Demonstration(PROMPT, "Berries.", "L2"),
        Step("ppo", 3, {"a": 1.0}, {}, ({"x": 1},)),
    ],
)
def test_every_word_survives_json(value):
    assert type(value).from_json(json.loads(json.dumps(value.to_json()))) == value


def test_pairs_are_all_strict_pairs_of_the_ranking_and_nothing_else():
    assert set(RANKING.pairs()) == {("b", "a"), ("b", "d"), ("b", "c"), ("a", "c"), ("d", "c")}
    assert Ranking(PROMPT, COMPLETIONS, (("a", "b", "c", "d"),)).pairs() == []
    assert Ranking(PROMPT, COMPLETIONS, (("a",), ("b",))).pairs() == [("a", "b")]  # c and d stay unranked


@pytest.mark.parametrize(
    ("groups", "completions", "message"),
    [
        ((("x",),), COMPLETIONS, r"names completion 'x', .* \(a, b, c, d\). Correct the id, or add"),
        ((("a",), ("a",)), COMPLETIONS, "ranks a completion twice"),
        ((("a",),), COMPLETIONS[:1], "K >= 2"),
        ((), (COMPLETIONS[0], COMPLETIONS[0]), "two completions with one id"),
    ],
)
def test_a_ranking_that_cannot_be_is_refused_by_prompt_and_labeler(groups, completions, message):
    with pytest.raises(DataError, match=message) as caught:
        Ranking(PROMPT, completions, groups, "L1")
    assert "'p1'" in str(caught.value) and "'L1'" in str(caught.value)


def test_ratings_keep_the_papers_scale_and_flags():
    with pytest.raises(DataError, match="1 to 7"):
        Rating(8)
    with pytest.raises(DataError, match="Unknown flag 'rude'"):
        Rating(3, ("rude",))


def test_unknown_and_missing_fields_are_named():
    with pytest.raises(DataError, match="no field 'promt'"):
        Prompt.from_json({"id": "1", "promt": "x"})
    with pytest.raises(DataError, match="not complete"):
        Prompt.from_json({"id": "1"})


@pytest.mark.parametrize("missing", ["prompt", "completions", "groups"])
def test_an_incomplete_ranking_row_names_what_is_missing(missing):
    row = RANKING.to_json()
    del row[missing]
    with pytest.raises(DataError, match=f"This Ranking is not complete: it has no '{missing}'"):
        Ranking.from_json(row)


@pytest.mark.parametrize("row", [{"text": "an answer"}, {"prompt": "only its text", "text": "x"}, "a line of text"])
def test_rows_of_another_form_are_refused_in_words(row):
    with pytest.raises(DataError, match="no 'prompt'|A Prompt is an object|A Demonstration is an object"):
        Demonstration.from_json(row)
