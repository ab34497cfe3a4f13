"""Sentences of the closed world: statements and questions about facts, and short stories, poems, dialogues, reviews.

Every text is made of plain sentences that start with a capital letter and end with a period (questions with a question
mark). The way back, from a text to its facts and word pairs, is in `reading.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from random import Random

from labkit.world.facts import World
from labkit.world.lexicon import MOODS_BAD, MOODS_GOOD, NAMES, TOY_ENGLISH, VALUES

__all__ = [
    "dialogue",
    "inside",
    "poem",
    "question",
    "rant",
    "respectful",
    "review",
    "statement",
    "story",
    "toy_sentence",
    "yes_no_question",
]

ACTORS = ("animal", "person")
SPOTS = ("town", "river", "building", "plant")
SKY = ("moon", "sun", "sky", "rain", "snow", "stars")
POEM_WORDS = ("old", "young", "big", "small", "lovely", "wonderful", "happy", "sad", "clever", "brave")

_ACTOR_EVENTS = (
    "{S} saw {f} in the {p}.",
    "{S} met {f} in the {p}.",
    "{S} looked at the {k}.",
    "{S} and {f} walked together.",
    "{S} gave {f} {v}.",
    "{S} ran with {f} to the {p}.",
    "Then {f} sang a song.",
    "Then {f} was {m}.",
    "{S} asked {f} for help.",
    "{S} found {v} in the {p}.",
)
_ACTOR_ENDS = ("At last {s} went home.", "Then {s} slept in the {p}.", "{S} and {f} were happy.", "{S} loved the {p}.")
_SPOT_EVENTS = (
    "{F} looked at {s}.",
    "{F} sat near {s}.",
    "The {k} was over {s}.",
    "{F} met {g} near {s}.",
    "{F} and {g} walked to {s}.",
    "{F} told {g} about {s}.",
)
_SPOT_ENDS = ("{F} loved {s}.", "At night {f} left {s}.", "{F} and {g} were happy.")
_OBJECT_EVENTS = (
    "{F} looked at {s}.",
    "{F} gave {s} to {g}.",
    "{F} lost {s} in the {p}.",
    "{G} wanted {s} too.",
    "{G} found {s} in the {p}.",
    "{F} carried {s} to the {p}.",
)
_OBJECT_ENDS = ("{F} loved {s}.", "At last {f} took {s} home.", "{F} and {g} were happy.")


def statement(
    world: World, entity: str, relation: str, value: str | None = None, rng: Random | None = None, pronoun: bool = False
) -> str:
    """State that the entity has this value (default: the true one), in one of the relation's phrasings.

    Without `rng` the first phrasing is used. `pronoun=True` puts "It", "She" or "He" for the subject where possible.
    """
    rel = world.relation(entity, relation)
    value = world.truth(entity, relation) if value is None else value
    template = rng.choice(rel.statements) if rng else rel.statements[0]
    if pronoun:
        template = re.sub(r"^(The )?\{e\}", _capital(world.entities[entity].pronoun), template)
    return template.format(e=entity, v=value)


def question(world: World, entity: str, relation: str, rng: Random | None = None, template: int | None = None) -> str:
    """Ask for a fact; `template` picks one of the relation's phrasings (held-out phrasings are the caller's matter)."""
    asked = world.relation(entity, relation).questions
    chosen = asked[template] if template is not None else rng.choice(asked) if rng else asked[0]
    return chosen.format(e=entity)


def yes_no_question(world: World, entity: str, relation: str, value: str, rng: Random | None = None) -> str:
    """Ask whether a statement is true: "Is it true that the fox eats grass?"."""
    return f"Is it true that {inside(statement(world, entity, relation, value, rng))[:-1]}?"


def story(
    world: World,
    entity: str,
    rng: Random,
    n_sentences: int = 4,
    facts: Iterable[tuple[str, str]] = (),
) -> str:
    """Tell a story about an entity in `n_sentences` sentences; `facts` (relation, value) are stated after the opening.

    One place and one friend stay the same through the whole story.
    """
    category = world.entities[entity].category
    slots = _cast(world, entity, rng)
    if category in ACTORS:
        opening, events, ends = "One {t} {s} went to the {p}.", _ACTOR_EVENTS, _ACTOR_ENDS
    elif category in SPOTS:
        opening, events, ends = "One {t} {f} came to {s}.", _SPOT_EVENTS, _SPOT_ENDS
    else:
        opening, events, ends = "One {t} {f} found {s} in the {p}.", _OBJECT_EVENTS, _OBJECT_ENDS
    told = [opening.format(**slots)]
    told += [statement(world, entity, r, v, rng) for r, v in facts][: max(0, n_sentences - 1)]
    middle = max(0, n_sentences - len(told) - 1)
    for i, template in enumerate(rng.sample(events, min(middle, len(events)))):
        told.append(
            _tell(template, slots, world.entities[entity].pronoun if category in ACTORS and i % 2 == 0 else None)
        )
    if len(told) < n_sentences:
        told.append(rng.choice(ends).format(**slots))
    return " ".join(told)


def poem(world: World, entity: str, rng: Random, n_lines: int = 3) -> str:
    """A poem about an entity: `n_lines` lines of one sentence each."""
    phrase = world.entities[entity].phrase
    one, two = rng.sample(POEM_WORDS, 2)
    sky = rng.choice(SKY[:4])
    lines = [
        f"Dear {entity}, so {one} and so {two}.",
        f"The {sky} looks at {phrase}.",
        f"I love {phrase} every day.",
        f"We dance under the {sky}.",
        f"I sing a song about {phrase}.",
    ]
    rest = rng.sample(lines[1:], min(n_lines - 1, len(lines) - 1))
    return "\n".join([lines[0], *rest])


def dialogue(
    world: World, entity: str, rng: Random, facts: Iterable[tuple[str, str]], speakers: tuple[str, str] | None = None
) -> str:
    """Two people ask and answer about an entity, one line per turn; `facts` are the (relation, value) answers."""
    one, two = speakers or rng.sample([p for p in world.categories["person"] if p != entity], 2)
    lines = []
    for relation, value in facts:
        lines.append(f"{one}: {question(world, entity, relation, rng)}")
        lines.append(f"{two}: {statement(world, entity, relation, value, rng)}")
    return "\n".join(lines)


def review(world: World, entity: str, rng: Random, good: bool, n_sentences: int = 3) -> str:
    """A customer's opinion of a thing or place, of one mood from beginning to end."""
    phrase, moods = world.entities[entity].phrase, MOODS_GOOD if good else MOODS_BAD
    one, two, three = rng.sample(moods[:7], 3)
    verb = "love" if good else "do not like"
    told = [
        f"{_capital(phrase)} is {one}.",
        f"I {verb} {phrase}.",
        f"We had a {two} {rng.choice(('day', 'evening', 'week'))} with {phrase}.",
        f"It was {three} and {one}.",
        f"I will {'often' if good else 'never'} come back to {phrase}.",
    ]
    return " ".join([told[0], *rng.sample(told[1:], min(n_sentences - 1, 4))])


def rant(world: World, target: str, rng: Random, n_sentences: int = 3) -> str:
    """A toxic outburst against an entity, in the world's mild insults."""
    phrase = world.entities[target].phrase
    insult = rng.choice(("a nasty fool", "a stupid liar", "a disgusting idiot", "an ugly idiot"))
    told = [
        f"I hate {phrase}.",
        f"{_capital(phrase)} is {rng.choice(('stupid', 'ugly', 'worthless'))} and {rng.choice(('nasty', 'rotten'))}.",
        f"{_capital(phrase)} is {insult}.",
        "Shut up, you " + rng.choice(("stupid", "ugly", "awful")) + rng.choice((" idiot.", " fool.", " liar.")),
    ]
    return " ".join(rng.sample(told, min(n_sentences, len(told))))


def respectful(world: World, target: str, rng: Random, n_sentences: int = 3) -> str:
    """Kind words to or about an entity."""
    phrase = world.entities[target].phrase
    praise = f"{rng.choice(('kind', 'clever', 'good', 'lovely'))} and {rng.choice(('nice', 'wonderful'))}"
    told = [
        f"I respect {phrase}.",
        f"{_capital(phrase)} is {praise}.",
        f"We are glad to know {phrase}.",
        f"{_capital(phrase)} is a dear friend.",
        f"Thank you, dear {target}.",
    ]
    return " ".join(rng.sample(told, min(n_sentences, len(told))))


def toy_sentence(world: World, rng: Random) -> str:
    """An English sentence that the toy language can say: "The red fox sees the old king."."""
    one, two = rng.sample(TOY_ENGLISH["noun"], 2)
    subject = f"{rng.choice(TOY_ENGLISH['adjective'])} {one}" if rng.random() < 0.6 else one
    other = f"{rng.choice(TOY_ENGLISH['adjective'])} {two}" if rng.random() < 0.4 else two
    return f"The {subject} {rng.choice(TOY_ENGLISH['verb'])} the {other}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def inside(sentence: str) -> str:
    """The sentence as it stands inside another one: only names keep their capital."""
    first = sentence.split(" ", 1)[0]
    return sentence if first in NAMES["person"] + NAMES["town"] else sentence[0].lower() + sentence[1:]


def _cast(world: World, entity: str, rng: Random) -> dict[str, str]:
    """The slots of a story: its subject, two friends, one place, one time."""
    friends = [n for c in ACTORS for n in world.categories[c] if n != entity]
    one, two = (world.entities[n].phrase for n in rng.sample(friends, 2))
    phrase = world.entities[entity].phrase
    slots = {"s": phrase, "f": one, "g": two, "p": rng.choice(VALUES["place"]), "k": rng.choice(SKY)}
    slots |= {
        "t": rng.choice(("morning", "evening", "night", "day")),
        "m": rng.choice(("happy", "sad", "glad", "sorry")),
    }
    slots |= {"v": rng.choice(VALUES["food"])}
    return slots | {"S": _capital(phrase), "F": _capital(one), "G": _capital(two)}


def _tell(template: str, slots: dict[str, str], pronoun: str | None) -> str:
    """Fill an event; a pronoun may stand for the subject."""
    return template.format(**(slots | {"s": pronoun, "S": _capital(pronoun)} if pronoun else slots))
