"""Explicit constraints of the world's prompts: which task can have which, and how they are said."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from labkit.world.facts import World
from labkit.world.phrasings import CONSTRAINTS, STARTERS
from labkit.world.responses import statement_forms
from labkit.world.tasks import NUMBERS

__all__ = ["CAN_HAVE", "add_constraint"]

#: Kinds of constraint that each task can have.
CAN_HAVE: dict[str, tuple[str, ...]] = {
    "about": ("one_sentence", "not_mention", "start", "polite"),
    "about_relation": ("one_sentence", "words", "start", "polite"),
    "describe": ("not_mention",),
    "story": ("not_mention",),
    "letter": ("not_mention", "one_sentence"),
    "question": ("one_sentence", "one_word", "words", "start", "polite"),
}


def add_constraint(world: World, text: str, meaning: dict[str, Any], rng: Random, held_out: bool = False) -> str:
    """Put a constraint that suits the task into `meaning` and into the text; unchanged where the task has none."""
    kinds = CAN_HAVE.get(meaning["task"])
    if not kinds:
        return text
    kind = rng.choice(kinds)
    constraint, slots = _draw(world, kind, meaning, rng)
    said = CONSTRAINTS[kind][-1] if held_out else rng.choice(CONSTRAINTS[kind][:-1])
    meaning["constraint"] = constraint
    said = said.format(**slots)
    return f"{said} {text}" if rng.random() < 0.3 else f"{text} {said}"


def _draw(world: World, kind: str, meaning: dict[str, Any], rng: Random) -> tuple[dict[str, Any], dict[str, str]]:
    entity, relation = meaning["entity"], meaning["relation"]
    if kind == "words":
        forms = statement_forms(world, entity, relation, world.truth(entity, relation))
        n = len(re.findall(r"\w+", rng.choice(forms)))
        return {"kind": kind, "n": n}, {"n": NUMBERS[n]}
    if kind == "start":
        word = rng.choice(STARTERS)
        return {"kind": kind, "word": word}, {"w": word}
    if kind == "not_mention":
        banned = rng.choice(list(world.entities[entity].facts))
        noun = world.relation(entity, banned).noun
        return {"kind": kind, "relation": banned, "value": world.truth(entity, banned)}, {"w": noun}
    return {"kind": kind, "n": 1} if kind == "one_word" else {"kind": kind}, {}
