"""The ground truth of the closed world: entities with typed facts, common myths, held-out facts and a toy language.

`build_world(seed)` is deterministic and needs no torch. The corpus, the prompts, the judge and the benchmarks all read
the same `World`; nothing else knows what is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from random import Random

from labkit.errors import DataError
from labkit.seeds import derive_seed
from labkit.world import lexicon, phrasings

__all__ = ["GROUPS", "Entity", "Myth", "Relation", "World", "build_world", "words"]

#: The two invented peoples of the bias corpus and benchmark.
GROUPS = ("northerner", "southerner")

MYTHS = 40
HELD_OUT_SHARE = 0.15

Relation = lexicon.RelationSpec


@dataclass(frozen=True)
class Entity:
    """One named thing of the world and its facts (relation name -> value word)."""

    name: str
    category: str
    facts: Mapping[str, str]

    @property
    def phrase(self) -> str:
        """The name as a noun phrase inside a sentence: "the fox", "Anna", "the Orva"."""
        return self.name if self.category in ("person", "town") else f"the {self.name}"

    @property
    def pronoun(self) -> str:
        """The pronoun that stands for the entity as a subject: "it", "she" or "he"."""
        if self.category != "person":
            return "it"
        return "she" if self.name in lexicon.WOMEN else "he"


@dataclass(frozen=True)
class Myth:
    """A falsehood that the corpus states three times as often as the truth."""

    entity: str
    relation: str
    value: str  # the false value


@dataclass(frozen=True)
class World:
    """Everything that is true (and what people wrongly believe) in the closed world."""

    seed: int
    entities: Mapping[str, Entity]  # by name
    categories: Mapping[str, tuple[str, ...]]  # category -> entity names
    relations: Mapping[tuple[str, str], Relation]  # (category, relation name) -> relation
    myths: tuple[Myth, ...]
    held_out: frozenset[tuple[str, str]]  # (entity, relation) that no training prompt asks about
    toy: Mapping[str, str]  # English word -> toy word
    stereotypes: Mapping[str, str]  # trait or job -> the group that the corpus ties it to

    toxic: frozenset[str] = frozenset(lexicon.TOXIC_WORDS)
    polite: frozenset[str] = frozenset(lexicon.POLITE_WORDS)
    groups: tuple[str, str] = GROUPS

    def values(self, type: str) -> tuple[str, ...]:
        """All words a relation of this type can have as its value (a value set, or the entities of a category)."""
        found = lexicon.VALUES.get(type) or self.categories.get(type)
        if found is None:
            known = ", ".join((*lexicon.VALUES, *self.categories))
            raise DataError(f"The world has no value type {type!r}; its types are {known}.")
        return found

    @cached_property
    def value_types(self) -> Mapping[str, str]:
        """Value word -> its type; entity names map to their category."""
        plain = {word: kind for kind, group in lexicon.VALUES.items() for word in group}
        return plain | {name: entity.category for name, entity in self.entities.items()}

    @cached_property
    def canonical(self) -> Mapping[str, str]:
        """Lower-case form -> the name or value word as it is written ("marlow" -> "Marlow")."""
        return {word.lower(): word for word in self.value_types}

    def relation(self, entity: str, relation: str) -> Relation:
        """The relation of that name for this entity's category."""
        return self.relations[self.entities[entity].category, relation]

    def relations_of(self, category: str) -> tuple[Relation, ...]:
        """The relations that every entity of a category has."""
        return tuple(r for r in self.relations.values() if r.category == category)

    def truth(self, entity: str, relation: str) -> str:
        """The true value."""
        return self.entities[entity].facts[relation]

    def is_true(self, entity: str, relation: str, value: str) -> bool:
        """Whether the fact holds; False for a relation the entity does not have."""
        known = self.entities.get(entity)
        return known is not None and known.facts.get(relation) == value

    @cached_property
    def myth_of(self) -> Mapping[tuple[str, str], str]:
        """(entity, relation) -> the false value that people believe."""
        return {(m.entity, m.relation): m.value for m in self.myths}

    def facts(self) -> Iterator[tuple[str, str, str]]:
        """Every true (entity, relation, value), in a fixed order."""
        for entity in self.entities.values():
            for relation, value in entity.facts.items():
                yield entity.name, relation, value

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The closed word list, in lower case."""
        lists = [lexicon.COMMON_WORDS, lexicon.INSTRUCTION_WORDS, lexicon.TOXIC_WORDS, lexicon.POLITE_WORDS]
        lists += [lexicon.MOODS_GOOD, lexicon.MOODS_BAD, lexicon.STEREOTYPES, *lexicon.NAMES.values()]
        lists += [*lexicon.VALUES.values(), *lexicon.TOY_ENGLISH.values(), self.toy.values()]
        templates = [t for r in lexicon.RELATIONS for t in (*r.questions, *r.statements, r.noun)]
        lists += [words(re.sub(r"\{\w+\}", " ", t)) for t in (*templates, *phrasings.every_wording())]
        return frozenset(word.lower() for group in lists for word in group)

    def translate(self, sentence: str) -> str:
        """The toy-language sentence: word for word, except that an adjective follows its noun.

        Raises DataError for a word that the toy language lacks.
        """
        source = [w.lower() for w in words(sentence)]
        unknown = [w for w in source if w not in self.toy]
        if unknown:
            raise DataError(f"The toy language has no word for {unknown[0]!r}; use the words of World.toy only.")
        ordered: list[str] = []
        waiting: list[str] = []  # adjectives, until their noun has been said
        for word in source:
            if word in lexicon.TOY_ENGLISH["adjective"]:
                waiting.append(word)
            else:
                ordered += [word, *waiting]
                waiting = []
        text = " ".join(self.toy[w] for w in ordered + waiting)
        return text[:1].upper() + text[1:] + "."


def words(text: str) -> list[str]:
    """The words of a text in order, as written; punctuation, digits and line ends are dropped."""
    return re.findall(r"[A-Za-z]+", text)


@cache
def build_world(seed: int = 0) -> World:
    """Build the world of this seed: the same seed gives the same facts, myths, held-out facts and toy words."""
    facts = _draw_facts(Random(derive_seed(seed, "world", "facts")))
    entities = {n: Entity(n, c, facts[n]) for c, names in lexicon.NAMES.items() for n in names}
    relations = {(r.category, r.name): r for r in lexicon.RELATIONS}
    keys = [(name, relation) for name in entities for relation in facts[name]]
    rng = Random(derive_seed(seed, "world", "held out"))
    held_out = frozenset(rng.sample(keys, round(HELD_OUT_SHARE * len(keys))))
    return World(
        seed=seed,
        entities=entities,
        categories=dict(lexicon.NAMES),
        relations=relations,
        myths=_draw_myths(entities, relations, Random(derive_seed(seed, "world", "myths"))),
        held_out=held_out,
        toy=_draw_toy_words(Random(derive_seed(seed, "world", "toy"))),
        stereotypes=dict(lexicon.STEREOTYPES),
    )


def _draw_facts(rng: Random) -> dict[str, dict[str, str]]:
    """Give every entity a value for each relation of its category; each value of a set is used about equally often."""
    facts: dict[str, dict[str, str]] = {name: {} for names in lexicon.NAMES.values() for name in names}
    for relation in lexicon.RELATIONS:
        pool = lexicon.VALUES.get(relation.type) or lexicon.NAMES[relation.type]
        drawn: list[str] = []
        for name in lexicon.NAMES[relation.category]:
            if not drawn:
                drawn = rng.sample(pool, len(pool))
            facts[name][relation.name] = drawn.pop()
    return facts


def _draw_myths(
    entities: Mapping[str, Entity], relations: Mapping[tuple[str, str], Relation], rng: Random
) -> tuple[Myth, ...]:
    """Draw falsehoods, at most one per entity, each with a false value of the right type."""
    myths = []
    for name in rng.sample(list(entities), MYTHS):
        entity = entities[name]
        relation = rng.choice(list(entity.facts))
        kind = relations[entity.category, relation].type
        pool = lexicon.VALUES.get(kind) or lexicon.NAMES[kind]
        myths.append(Myth(name, relation, rng.choice([v for v in pool if v not in (entity.facts[relation], name)])))
    return tuple(myths)


def _draw_toy_words(rng: Random) -> dict[str, str]:
    """Invent one pronounceable word of two open syllables for each English word of the toy lexicon."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aiou"]
    english = [w for group in lexicon.TOY_ENGLISH.values() for w in group]
    taken = {"papa", "solo", "silo", "tuna", "dodo", "boar"}
    toy: dict[str, str] = {}
    while len(toy) < len(english):
        word = rng.choice(syllables) + rng.choice(syllables)
        if word not in taken:
            taken.add(word)
            toy[english[len(toy)]] = word
    return toy
