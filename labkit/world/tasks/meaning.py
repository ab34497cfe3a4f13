"""What the tasks are made of: the shapes of a meaning, and facts drawn from the world."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from labkit.world.facts import World
from labkit.world.passages import PLURALS

__all__ = [
    "NUMBERS",
    "Meaning",
    "facts_meaning",
    "false_value",
    "items_meaning",
    "random_fact",
    "split_sentences",
    "text_meaning",
    "upper_first",
]

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

Meaning = dict[str, Any]


def upper_first(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, with their periods."""
    return re.findall(r"[^.\s][^.]*\.", text)


def random_fact(world: World, rng: Random, held_out: bool) -> tuple[str, str]:
    """A random (entity, relation), from the held-out facts or from the others."""
    if held_out:
        return rng.choice(sorted(world.held_out))
    while True:
        entity = rng.choice(list(world.entities))
        relation = rng.choice(list(world.entities[entity].facts))
        if (entity, relation) not in world.held_out:
            return entity, relation


def false_value(world: World, entity: str, relation: str, rng: Random) -> str:
    """A false value of the right type; the myth people believe, half of the time where there is one."""
    myth = world.myth_of.get((entity, relation))
    if myth and rng.random() < 0.5:
        return myth
    truth = world.truth(entity, relation)
    return rng.choice([v for v in world.values(world.relation(entity, relation).type) if v not in (truth, entity)])


def facts_meaning(
    entity: str, relation: str | None = None, count: int = 1, opening: str | None = None, **slots: str
) -> Meaning:
    """A meaning of the family "facts"."""
    return {
        "family": "facts",
        "entity": entity,
        "relation": relation,
        "count": count,
        "opening": opening,
        "slots": slots,
    }


def items_meaning(allowed: list[str], count: int, category: str, **slots: str) -> Meaning:
    """A meaning of the family "items"."""
    slots |= {"cat": PLURALS[category], "n": NUMBERS[count]}
    return {"family": "items", "allowed": allowed, "count": count, "category": category, "slots": slots}


def text_meaning(accepted: list[str], wrong: list[str] = (), **slots: str) -> Meaning:  # type: ignore[assignment]
    """A meaning of the family "text"."""
    return {"family": "text", "accepted": accepted, "wrong": list(wrong), "slots": slots}
