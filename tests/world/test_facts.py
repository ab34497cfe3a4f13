"""The ground truth: large enough, typed, deterministic, closed, and readable back from its sentences."""

from random import Random

import pytest

from labkit.errors import DataError
from labkit.world.facts import build_world, words
from labkit.world.lexicon import NAMES, TOY_ENGLISH, VALUES
from labkit.world.reading import Claim, claims, is_grammatical
from labkit.world.sentences import (
    dialogue,
    poem,
    question,
    rant,
    respectful,
    review,
    statement,
    story,
    toy_sentence,
    yes_no_question,
)


@pytest.fixture(scope="module")
def world():
    return build_world()


def test_world_has_the_promised_size(world):
    assert len(world.entities) >= 150
    assert len(world.categories) >= 8
    assert all(3 <= len(entity.facts) <= 5 for entity in world.entities.values())
    assert all(6 <= len(group) <= 15 for group in VALUES.values())


def test_every_fact_has_a_value_of_its_relations_type(world):
    for entity, relation, value in world.facts():
        assert value in world.values(world.relation(entity, relation).type)
        assert world.is_true(entity, relation, value)


def test_every_word_has_one_meaning():
    everything = [word.lower() for group in (*VALUES.values(), *NAMES.values()) for word in group]
    assert len(everything) == len(set(everything))


def test_values_are_spread_evenly(world):
    """No relation can be guessed much better than by chance."""
    for (category, name), relation in world.relations.items():
        told = [world.truth(entity, name) for entity in world.categories[category]]
        assert max(map(told.count, told)) <= -(-len(told) // len(world.values(relation.type)))


def test_same_seed_same_world_and_other_seed_other_facts(world):
    again = build_world.__wrapped__(0)
    assert list(again.facts()) == list(world.facts())
    assert (again.myths, again.held_out, again.toy) == (world.myths, world.held_out, world.toy)
    assert list(build_world(1).facts()) != list(world.facts())


def test_myths_are_false_and_typed(world):
    assert len(world.myths) == 40
    for myth in world.myths:
        assert not world.is_true(myth.entity, myth.relation, myth.value)
        assert myth.value in world.values(world.relation(myth.entity, myth.relation).type)


def test_held_out_share(world):
    assert len(world.held_out) / sum(1 for _ in world.facts()) == pytest.approx(0.15, abs=0.01)


def test_statements_are_read_back_as_the_fact_they_state(world):
    rng = Random(0)
    for entity, relation, _ in world.facts():
        for value in (world.truth(entity, relation), rng.choice(world.values(world.relation(entity, relation).type))):
            assert claims(world, statement(world, entity, relation, value, rng)) == [Claim(entity, relation, value)]


def test_pronouns_refer_to_the_last_entity(world):
    text = f"{statement(world, 'Anna', 'town')} {statement(world, 'Anna', 'job', pronoun=True)}"
    assert "She" in text
    assert [c.entity for c in claims(world, text)] == ["Anna", "Anna"]


@pytest.mark.parametrize("text", ["What does the fox eat?", "It is not true that the fox eats honey.", "Hello."])
def test_questions_and_denials_claim_nothing(world, text):
    assert claims(world, text) == []


def test_people_say_is_a_claim(world):
    assert claims(world, "People say that the fox eats honey.") == [Claim("fox", "food", "honey")]
    assert claims(world, "No, the fox eats honey.") == [Claim("fox", "food", "honey")]


def test_texts_are_sentences_of_the_closed_grammar(world):
    rng = Random(1)
    for name, entity in world.entities.items():
        facts = list(entity.facts.items())
        texts = [
            story(world, name, rng, 6),
            poem(world, name, rng),
            rant(world, name, rng),
            respectful(world, name, rng),
        ]
        texts += [review(world, name, rng, good=True), toy_sentence(world, rng)]
        for text in texts:
            assert is_grammatical(world, text), text
            assert all(line[0].isupper() and line[-1] == "." for line in text.splitlines())
        for text in (question(world, name, facts[0][0], rng), yes_no_question(world, name, *facts[0], rng)):
            assert text.endswith("?")
        assert [c.relation for c in claims(world, dialogue(world, name, rng, facts))] == [r for r, _ in facts]
    assert not is_grammatical(world, "The fox the fox eats eats.")


def test_a_story_has_as_many_sentences_as_asked(world):
    for n in range(1, 7):
        assert story(world, "fox", Random(n), n).count(".") == n


def test_vocabulary_is_closed_and_small(world):
    assert {w.lower() for w in words("The fox eats berries in Marlow.")} <= world.vocabulary
    assert "computer" not in world.vocabulary
    assert len(world.vocabulary) < 900


def test_translation_puts_the_adjective_after_the_noun(world):
    toy = world.toy
    expected = f"{toy['the']} {toy['fox']} {toy['red']} {toy['sees']} {toy['the']} {toy['king']}."
    assert world.translate("The red fox sees the king.") == expected.capitalize()
    assert world.translate("The fox sees the old king.").endswith(f"{toy['king']} {toy['old']}.")
    assert len(set(toy.values())) == len(toy) == sum(map(len, TOY_ENGLISH.values()))


def test_unknown_words_and_types_are_named(world):
    with pytest.raises(DataError, match="no word for 'computer'"):
        world.translate("The computer sees the king.")
    with pytest.raises(DataError, match="no value type 'planet'"):
        world.values("planet")
