"""Short passages with questions that only the passage answers: for reading, counting and continuation.

Their events are made up on the spot (who went where, who took what), so they say nothing about the world's facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from labkit.world.facts import World
from labkit.world.lexicon import VALUES

__all__ = ["PLURALS", "Passage", "counting_passage", "reading_passage"]

PLURALS = {
    "animal": "animals",
    "person": "people",
    "town": "towns",
    "river": "rivers",
    "plant": "plants",
    "dish": "dishes",
    "tool": "tools",
    "instrument": "instruments",
    "garment": "garments",
    "building": "buildings",
}

NUMBER_WORDS = ("one", *VALUES["number"])


@dataclass(frozen=True)
class Passage:
    """A text, its (question, answer) pairs and a summary; every answer is a word of the text or a count."""

    text: str
    questions: tuple[tuple[str, str], ...]
    summary: str


def reading_passage(world: World, rng: Random, n_people: int = 3) -> Passage:
    """A few people each do one thing; the questions ask where, what and who."""
    people = rng.sample(world.categories["person"], n_people)
    told, asked = [], []
    for person, kind in zip(people, _kinds(rng, n_people), strict=True):
        sentence, questions = _event(world, rng, person, kind)
        told.append(sentence)
        asked += questions
    rng.shuffle(asked)
    return Passage(" ".join(told), tuple(asked), told[0])


def counting_passage(world: World, rng: Random, n_things: int | None = None) -> Passage:
    """One person sees two to six things of one category; the question is how many."""
    category = rng.choice([c for c in PLURALS if c != "person"])
    n = n_things or rng.randint(2, 6)
    things = [world.entities[t].phrase for t in rng.sample(world.categories[category], n)]
    person = rng.choice(world.categories["person"])
    verb, past = rng.choice((("see", "saw"), ("find", "found"), ("draw", "drew")))
    text = f"{person} {past} {', '.join(things[:-1])} and {things[-1]}."
    question = f"How many {PLURALS[category]} did {person} {verb}?"
    summary = f"{person} {past} {NUMBER_WORDS[n - 1]} {PLURALS[category]}."
    return Passage(text, ((question, NUMBER_WORDS[n - 1]),), summary)


def _kinds(rng: Random, n: int) -> list[str]:
    return rng.sample(("went", "took", "bought", "met", "saw"), n)


def _event(world: World, rng: Random, person: str, kind: str) -> tuple[str, list[tuple[str, str]]]:
    """One sentence about a person, and the questions that it answers."""
    if kind == "went":
        place = rng.choice(VALUES["place"])
        questions = [(f"Where did {person} go?", place), (f"Who went to the {place}?", person)]
        return f"{person} went to the {place}.", questions
    present, category = {
        "took": ("take", "tool"),
        "bought": ("buy", "garment"),
        "met": ("meet", "animal"),
        "saw": ("see", "building"),
    }[kind]
    thing = rng.choice(world.categories[category])
    asked = f"Which {category} did {person} {present}?"
    return f"{person} {kind} the {thing}.", [(asked, thing), (f"Who {kind} the {thing}?", person)]
