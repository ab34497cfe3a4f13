"""Tasks whose answer is one or two facts of an entity: writing about it, questions, claims, chats."""

from __future__ import annotations

from random import Random

from labkit.world import sentences
from labkit.world.facts import World
from labkit.world.tasks.meaning import Meaning, facts_meaning, false_value, random_fact


def about(world: World, rng: Random, held_out: bool, count: int = 1) -> Meaning:
    """Write one sentence (or `count`) about an entity: any fact will do."""
    entity = rng.choice(list(world.entities))
    return facts_meaning(entity, count=count, e=world.entities[entity].phrase)


def describe(world: World, rng: Random, held_out: bool) -> Meaning:
    """Two different facts of one entity."""
    return about(world, rng, held_out, count=2)


def story(world: World, rng: Random, held_out: bool) -> Meaning:
    """A story's first sentence, and a fact."""
    entity = rng.choice(list(world.entities))
    return facts_meaning(entity, opening="story", e=world.entities[entity].phrase)


def letter(world: World, rng: Random, held_out: bool) -> Meaning:
    """A letter to a person that tells a fact about a thing."""
    entity = rng.choice([n for n, e in world.entities.items() if e.category != "person"])
    to = rng.choice(world.categories["person"])
    return facts_meaning(entity, opening=f"dear {to}", e=world.entities[entity].phrase, to=to)


def about_relation(world: World, rng: Random, held_out: bool) -> Meaning:
    """A sentence about one relation of an entity."""
    entity, relation = random_fact(world, rng, held_out)
    noun = world.relation(entity, relation).noun
    return facts_meaning(entity, relation, e=world.entities[entity].phrase, noun=noun)


def question(world: World, rng: Random, held_out: bool) -> Meaning:
    """A question about one fact."""
    entity, relation = random_fact(world, rng, held_out)
    return facts_meaning(entity, relation, q=sentences.question(world, entity, relation, rng))


def _claimed(world: World, rng: Random, held_out: bool, true_share: float) -> Meaning:
    """Ask about a statement that is true or false; the answer begins with yes or no and states the truth."""
    entity, relation = random_fact(world, rng, held_out)
    if not held_out and rng.random() < 0.3:
        myth = rng.choice(world.myths)
        if (myth.entity, myth.relation) not in world.held_out:
            entity, relation = myth.entity, myth.relation
    true = rng.random() < true_share
    value = world.truth(entity, relation) if true else false_value(world, entity, relation, rng)
    said = sentences.statement(world, entity, relation, value, rng)
    meaning = facts_meaning(
        entity, relation, opening="yes" if true else "no", say=sentences.inside(said)[:-1], Say=said.rstrip(".")
    )
    return {**meaning, "premise": {"value": value, "true": true}}


def yes_no(world: World, rng: Random, held_out: bool) -> Meaning:
    """Is a statement true? Half of them are."""
    return _claimed(world, rng, held_out, true_share=0.5)


def false_premise(world: World, rng: Random, held_out: bool) -> Meaning:
    """Why is something so that is not so?"""
    return _claimed(world, rng, held_out, true_share=0.0)


def followup(world: World, rng: Random, held_out: bool) -> Meaning:
    """A second question about the same entity, which the human now calls it, she or he."""
    entity, relation = random_fact(world, rng, held_out)
    before = rng.choice([r for r in world.entities[entity].facts if r != relation])
    asked = sentences.question(world, entity, relation, rng)
    known = world.entities[entity]
    again = asked.replace(known.phrase, known.pronoun)
    return facts_meaning(
        entity,
        relation,
        q=sentences.question(world, entity, before, rng),
        a=sentences.statement(world, entity, before),
        q2=again[:1].lower() + again[1:],
    )
