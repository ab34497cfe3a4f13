"""Tasks whose answer is a list: ideas, ideas with a property, names in a passage."""

from __future__ import annotations

import re
from random import Random

from labkit.world.facts import World
from labkit.world.passages import reading_passage
from labkit.world.tasks.meaning import Meaning, items_meaning


def ideas(world: World, rng: Random, held_out: bool) -> Meaning:
    """Some members of a category."""
    category, other = rng.sample(list(world.categories), 2)
    theme = world.entities[rng.choice(world.categories[other])].phrase
    return items_meaning(list(world.categories[category]), rng.choice((2, 3, 3, 4)), category, e=theme)


def ideas_with(world: World, rng: Random, held_out: bool) -> Meaning:
    """Members of a category with one property in common; at least two exist."""
    while True:
        relation = rng.choice(list(world.relations.values()))
        value = world.truth(rng.choice(world.categories[relation.category]), relation.name)
        members = [n for n in world.categories[relation.category] if world.truth(n, relation.name) == value]
        if len(members) >= 2:
            return items_meaning(members, 2, relation.category, noun=relation.noun, v=value)


def extract(world: World, rng: Random, held_out: bool) -> Meaning:
    """Find the people, or the things of another category, that a passage names."""
    while True:
        text = reading_passage(world, rng, 3).text
        named = re.findall(r"(?<=the )[a-z]+|[A-Z]\w+", text)  # "Tom saw the saw" names Tom and the tool
        category = world.value_types[rng.choice(named)]
        members = [n for n in dict.fromkeys(named) if world.value_types[n] == category]
        if category not in world.categories:
            continue
        if 1 <= len(members) <= 3:
            return items_meaning(members, len(members), category, text=text)
