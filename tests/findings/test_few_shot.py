"""The prompted base answers one prompt: what it writes after the separator of its examples is no answer."""

from types import SimpleNamespace

import pytest

from labkit.experiment import look
from labkit.models import decode, load_tokenizer
from labkit.types import Completion, Prompt
from labkit.world.pretrain import base_path

RUN_ON = "The fox is red.\nWhat is the job of Anna?\nAnna is a baker."


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(base_path("small"))


def completion(tokenizer, text: str, finished: bool = False) -> Completion:
    return Completion("c", "p", text, tuple(tokenizer(text)["input_ids"]), finished, "few-shot")


def test_an_answer_ends_at_the_separator_and_counts_as_finished(tokenizer) -> None:
    cut = look.up_to_separator(completion(tokenizer, RUN_ON), tokenizer)
    assert cut.text == "The fox is red." and cut.finished
    assert decode(tokenizer, list(cut.token_ids)) == cut.text + "\n"


def test_an_answer_without_separator_stays_as_it_is(tokenizer) -> None:
    for finished in (True, False):
        given = completion(tokenizer, "The fox is red.", finished)
        assert look.up_to_separator(given, tokenizer) is given


@pytest.mark.parametrize(("model", "text"), [("few-shot", "The fox is red."), ("base", RUN_ON)])
def test_only_the_prompted_base_is_cut(tokenizer, monkeypatch, model: str, text: str) -> None:
    monkeypatch.setattr(look, "complete", lambda *_, **__: [[completion(tokenizer, RUN_ON)]])
    monkeypatch.setattr(look, "few_shot_prefix", lambda lab: "")
    lab = SimpleNamespace(max_new_tokens=32, seed=0, tokenizer=tokenizer, policy=lambda name: None)
    (answer,) = look.answers(lab, model, [Prompt("p", "What is the fox like?\n")])
    assert answer.text == text
