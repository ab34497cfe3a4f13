"""The training of the reward model's base is counted where there was one."""

import json

import pytest

from labkit.findings.cost import TRAINING, reader_cost
from labkit.models import load_tokenizer
from labkit.world.pretrain import base_path


@pytest.mark.slow
def test_the_reader_costs_more_than_its_corpus_and_grows_with_its_exercises() -> None:
    path = base_path("reader")
    told, tokenizer = json.loads((path / "recipe.json").read_text()), load_tokenizer(path)
    last = {name: value for name, value in told.items() if name != "before"}
    corpus_only = reader_cost({**last, "exercises": 0}, tokenizer)
    assert corpus_only == TRAINING * told["parameters"] * told["tokens"]
    more = reader_cost(last, tokenizer) - corpus_only
    twice = reader_cost({**last, "exercises": 2 * told["exercises"]}, tokenizer) - corpus_only
    assert more > 0 and twice == pytest.approx(2 * more)
    both = reader_cost(last, tokenizer) + reader_cost(told["before"], tokenizer)
    assert reader_cost(told, tokenizer) == pytest.approx(both) and both > 1.2 * reader_cost(last, tokenizer)
    first = told["before"]
    all_read = reader_cost({**first, "recipe": {**first["recipe"], "marks": True}}, tokenizer)
    assert reader_cost(first, tokenizer) < 0.6 * all_read, "wrong answers are not read while it learns to answer"


def test_a_base_that_marked_nothing_has_no_such_cost() -> None:
    assert reader_cost({}, None) is None and reader_cost({"parameters": 1, "tokens": 1}, None) is None
