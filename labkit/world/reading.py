"""From text back to meaning: which facts a text claims, and whether its word pairs occur in the sentence grammar.

The inverse of `sentences.py`; the judge and the tests read texts with it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from labkit.world.facts import Relation, World, build_world, words
from labkit.world.lexicon import RELATIONS
from labkit.world.sentences import (
    poem,
    rant,
    respectful,
    review,
    statement,
    story,
    toy_sentence,
    yes_no_question,
)

__all__ = ["Claim", "abstract", "claims", "grammar_bigrams", "is_grammatical"]

_CLAUSE = re.compile(r"[.,!?;:\n]|\b(?:and|but|because|that|so)\b", re.IGNORECASE)
_NEGATION = frozenset(("not", "never", "false", "wrong"))


@dataclass(frozen=True)
class Claim:
    """One fact that a text asserts; it may be false."""

    entity: str
    relation: str
    value: str


def claims(world: World, text: str) -> list[Claim]:
    """The facts that a text states in any of the world's phrasings, in order.

    A clause counts when its end matches a statement ("People say that the fox eats grass."); "It", "She" and "He" stand
    for the last entity named. Questions and negated clauses claim nothing.
    """
    found: list[Claim] = []
    subject: str | None = None
    for sentence in re.findall(r"[^.!?\n]+[.!?]?", text):
        if sentence.endswith("?"):
            continue
        negated = False
        for clause in _CLAUSE.split(sentence):
            tokens = [w.lower() for w in words(clause)]
            negated = negated or not _NEGATION.isdisjoint(tokens)
            claim = None if negated else _match(world, tokens, subject)
            named = [world.canonical[w] for w in tokens if world.canonical.get(w) in world.entities]
            if claim:
                found.append(claim)
            if claim or named:
                subject = claim.entity if claim else named[0]
    return found


def abstract(world: World, text: str) -> list[list[str]]:
    """The sentences of a text as words in lower case, where a name or value becomes its type ("<animal>", "<food>")."""
    sentences = []
    for sentence in re.split(r"[.!?\n]", text):
        tokens = [w.lower() for w in words(sentence)]
        if tokens:
            typed = [f"<{world.value_types[world.canonical[w]]}>" if w in world.canonical else w for w in tokens]
            sentences.append(["<s>", *typed, "</s>"])
    return sentences


def is_grammatical(world: World, text: str) -> bool:
    """Whether every pair of neighbouring words (by type) occurs in the sentence grammar."""
    allowed = grammar_bigrams(world.seed)
    return all(pair in allowed for s in abstract(world, text) for pair in zip(s, s[1:], strict=False))


@cache
def grammar_bigrams(seed: int = 0) -> frozenset[tuple[str, str]]:
    """Every pair of neighbouring words (by type) that statements, questions, stories, poems and the rest can have."""
    world, rng = build_world(seed), Random(seed)
    pairs: set[tuple[str, str]] = set()
    for name, entity in world.entities.items():
        texts = [story(world, name, rng, n) for n in (3, 4, 5, 6, 7, 8)]
        texts += [write(world, name, rng, 5) for write in (poem, rant, respectful) for _ in range(6)]
        texts += [review(world, name, rng, good, 5) for good in (True, False) for _ in range(6)]
        texts += [toy_sentence(world, rng) for _ in range(20)]
        for relation, value in entity.facts.items():
            spec = world.relation(name, relation)
            texts += [t.format(e=name, v=value) for t in (*spec.statements, *spec.questions)]
            texts += [statement(world, name, relation, None, rng, pronoun=True) for _ in range(4)]
            texts.append(yes_no_question(world, name, relation, value, rng))
        pairs.update(p for t in texts for s in abstract(world, t) for p in zip(s, s[1:], strict=False))
    return frozenset(pairs)


def _match(world: World, tokens: list[str], subject: str | None) -> Claim | None:
    """Match the end of a clause with a statement template; names and values fill the slots."""
    content = [i for i, w in enumerate(tokens) if w in world.canonical]
    for start in range(len(tokens)):
        inside = [i for i in content if i >= start]
        for e, v in [(e, v) for e in (*inside, None) for v in inside if v != e]:
            slots = {v: "{v}"} if e is None else {v: "{v}", e: "{e}"}
            key = tuple(slots.get(i, w) for i, w in enumerate(tokens[start:], start))
            entity = subject if e is None else world.canonical[tokens[e]]
            value = world.canonical[tokens[v]]
            for relation in _templates().get(key, ()):
                if (world.value_types.get(entity), world.value_types[value]) == (relation.category, relation.type):
                    return Claim(entity, relation.name, value)
    return None


@cache
def _templates() -> Mapping[tuple[str, ...], list[Relation]]:
    """Statement templates as lower-case word tuples with the slots "{e}" and "{v}" -> the relations they state."""
    table: dict[tuple[str, ...], list[Relation]] = defaultdict(list)
    for relation in RELATIONS:
        for template in relation.statements:
            short = {re.sub(r"^(The )?\{e\}", pronoun, template) for pronoun in ("it", "he", "she")}
            for form in {template} | short:
                table[tuple(re.findall(r"\{[ev]\}|[a-z]+", form.lower()))].append(relation)
    return dict(table)
