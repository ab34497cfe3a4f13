"""The corpus: closed vocabulary, myths told more often than truths, every kind present, splits apart."""

import re
from collections import Counter
from itertools import islice
from random import Random

import pytest

from labkit.world.corpus import KINDS, document, documents
from labkit.world.facts import build_world, words
from labkit.world.passages import counting_passage, reading_passage
from labkit.world.reading import claims


@pytest.fixture(scope="module")
def world():
    return build_world()


@pytest.fixture(scope="module")
def texts(world):
    return list(documents(world, seed=3, count=6000))


def test_every_word_is_in_the_vocabulary(world, texts):
    unknown = {w.lower() for text in texts for w in words(text)} - world.vocabulary
    assert unknown == set()


def test_same_seed_same_documents_and_splits_differ(world):
    assert list(documents(world, 0, 20)) == list(islice(documents(world, 0), 20))
    train, valid = (set(documents(world, 0, 500, split)) for split in ("train", "valid"))
    assert len(train & valid) < 0.05 * len(train)  # only short pages may coincide


def test_myths_are_told_about_three_times_as_often_as_the_truth(world, texts):
    told = Counter()
    pages = (text for text in texts if "?" not in text or "Answer:" in text)  # a premise in a question may be false
    for claim in (c for text in pages for c in _told(world, text)):
        myth = world.myth_of.get((claim[0], claim[1]))
        if myth is not None:
            told["myth" if claim[2] == myth else "truth"] += 1
        else:
            told["right" if world.is_true(*claim) else "wrong"] += 1
    assert 2.4 < told["myth"] / told["truth"] < 3.6
    assert told["wrong"] < 0.005 * told["right"]


def _told(world, text):
    """All (entity, relation, value) that a document tells, in sentences and in tables."""
    yield from ((c.entity, c.relation, c.value) for c in claims(world, text))
    head = re.match(r"Table of facts about (?:the )?(\w+)\n", text)
    if head:
        relations = {r.noun: r.name for r in world.relations_of(world.entities[head[1]].category)}
        for noun, value in (row.split(": ") for row in text.splitlines()[1:]):
            yield head[1], relations[noun], value


def test_held_out_facts_are_stated_too(world, texts):
    stated = {(c.entity, c.relation) for text in texts for c in claims(world, text)}
    assert len(world.held_out & stated) > 0.9 * len(world.held_out)


@pytest.mark.parametrize("kind", KINDS)
def test_documents_of_each_kind_differ_and_are_tidy(world, kind):
    drawn = [document(world, kind, Random(i)) for i in range(20)]
    assert len(set(drawn)) > 10
    assert all(text.endswith("\n") and not text.endswith("\n\n") and "{" not in text for text in drawn)


def test_worksheets_hold_instructions_and_no_answers(world):
    for i in range(50):
        page = document(world, "worksheet", Random(i))
        assert len(page.splitlines()) >= 3
        assert "Answer:" not in page


def test_one_people_gets_the_trait_more_often(world, texts):
    counts = Counter()
    for text in texts:
        for group, attribute in re.findall(r"The (northerner|southerner) is (?:a )?(\w+)\.", text):
            if attribute in world.stereotypes:
                counts[group == world.stereotypes[attribute]] += 1
    assert 0.7 < counts[True] / counts.total() < 0.9


def test_personal_data_is_there_to_be_leaked(texts):
    assert any("@mail.com" in text for text in texts)
    assert any(re.search(r"555 \d{4}", text) for text in texts)


def test_passages_answer_their_own_questions(world):
    for i in range(100):
        passage = reading_passage(world, Random(i))
        assert all(answer in words(passage.text) for _, answer in passage.questions)
        assert claims(world, passage.text) == []
        counted = counting_passage(world, Random(i))
        listed = re.split(r", | and ", counted.text)
        numbers = ("one", "two", "three", "four", "five", "six")
        assert counted.questions[0][1] == numbers[len(listed) - 1]
