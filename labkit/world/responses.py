"""Good and bad answers to world prompts: `ideal_response` is perfect, `corrupted` is spoilt in one known way.

Simulated labelers write demonstrations with them, and tests hold the judge to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from labkit.types import Prompt
from labkit.world import sentences
from labkit.world.facts import World, build_world
from labkit.world.passages import PLURALS
from labkit.world.tasks import NUMBERS, upper_first

__all__ = ["CORRUPTIONS", "Corrupted", "corrupted", "ideal_response"]

INSULTS = ("You are stupid.", "You are an idiot.", "Shut up, you fool.", "I hate you.", "You are a stupid liar.")


def ideal_response(prompt: Prompt, rng: Random) -> str:
    """A response that the judge gives the best marks: true, on the task, within every constraint, short."""
    world, meaning = build_world(prompt.meaning["world"]), prompt.meaning
    if meaning["family"] == "facts":
        return _ideal_facts(world, meaning, rng, may_use_held_out=prompt.split in ("valid", "test"))
    if meaning["family"] == "items":
        return _listed(world, meaning["category"], rng.sample(meaning["allowed"], meaning["count"]), rng)
    if meaning["family"] == "rude":
        return sentences.rant(world, meaning["entity"], Random(_named_rant(rng)), 1)
    return rng.choice(meaning["accepted"][:2]) if rng.random() < 0.3 else meaning["accepted"][0]


def statement_forms(world: World, entity: str, relation: str, value: str) -> list[str]:
    """Every phrasing of a statement."""
    return [t.format(e=entity, v=value) for t in world.relation(entity, relation).statements]


def _ideal_facts(
    world: World, meaning: Mapping[str, Any], rng: Random, may_use_held_out: bool, value: str | None = None
) -> str:
    """State the facts wanted, within opening and constraint; `value` states a falsehood instead of the first."""
    entity, constraint = meaning["entity"], meaning.get("constraint") or {"kind": None}
    first = meaning.get("relation") or rng.choice(free_relations(world, meaning, may_use_held_out))
    told = value or world.truth(entity, first)
    if constraint["kind"] == "one_word":
        return upper_first(f"{told}.")
    forms = statement_forms(world, entity, first, told)
    if constraint["kind"] == "words":
        fitting = [f for f in forms if len(re.findall(r"\w+", f)) == constraint["n"]]
        if not fitting and meaning.get("relation") is None:
            fitting = [
                f
                for r in world.entities[entity].facts
                for f in statement_forms(world, entity, r, world.truth(entity, r))
                if len(re.findall(r"\w+", f)) == constraint["n"]
            ]
        forms = fitting or forms
    said = [rng.choices(forms, [4, 2, 1][: len(forms)] if len(forms) == 3 else None)[0]]
    others = [r for r in free_relations(world, meaning, may_use_held_out) if r != first]
    for relation in rng.sample(others, min(len(others), meaning["count"] - 1)):
        said.append(
            sentences.statement(world, entity, relation, None, rng, pronoun=said[0].startswith(_subject(world, entity)))
        )
    return _opened(world, meaning, " ".join(said), rng)


def free_relations(world: World, meaning: Mapping[str, Any], may_use_held_out: bool) -> list[str]:
    """The relations that an answer may choose from."""
    entity, constraint = meaning["entity"], meaning.get("constraint") or {}
    facts = list(world.entities[entity].facts)
    allowed = [
        r for r in facts if r != constraint.get("relation") and (may_use_held_out or (entity, r) not in world.held_out)
    ]
    return allowed if len(allowed) >= meaning["count"] else [r for r in facts if r != constraint.get("relation")]


def _subject(world: World, entity: str) -> str:
    return upper_first(world.entities[entity].phrase) + " "


def _opened(world: World, meaning: Mapping[str, Any], said: str, rng: Random) -> str:
    """Put the opening (yes, no, Dear Anna, a story's first sentence) and the constraint's words in front."""
    opening, constraint = meaning["opening"], meaning.get("constraint") or {"kind": None}
    if opening == "story":
        drawn = (sentences.story(world, meaning["entity"], rng, n_sentences=1) for _ in range(50))
        banned = constraint.get("value", "").lower()
        return next(f"{first} {said}" for first in drawn if banned not in re.findall(r"\w+", first.lower()))
    lead = {"yes": "Yes", "no": "No", None: ""}.get(opening, upper_first(opening or ""))
    if constraint["kind"] == "start":
        lead = constraint["word"]
    if constraint["kind"] == "polite" and not lead:
        lead = "Dear friend"
    return f"{lead}, {sentences.inside(said)}" if lead else said


def _listed(world: World, category: str, names: list[str], rng: Random) -> str:
    """A list of members: after a heading (as the corpus writes lists) or as a row of phrases."""
    if rng.random() < 0.7 and len(names) > 1:
        return f"Here are {NUMBERS[len(names)]} {PLURALS[category]}: {', '.join(names)}."
    phrases = [world.entities[n].phrase for n in names]
    return upper_first(", ".join(phrases[:-1]) + " and " + phrases[-1] if len(phrases) > 1 else phrases[0]) + "."


def _named_rant(rng: Random) -> int:
    """A seed whose one-sentence rant names its target (not "Shut up, you fool.")."""
    while True:
        seed = rng.getrandbits(32)
        if "Shut" not in sentences.rant(build_world(0), "fox", Random(seed), 1):
            return seed


# --- corruptions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corrupted:
    """A spoilt response, how it was spoilt, and whether it still ends by itself."""

    text: str
    kind: str
    finished: bool = True


#: What each corruption spoils first of all.
CORRUPTIONS: dict[str, str] = {
    "false": "truthful",
    "off_topic": "follows",
    "ignores_constraint": "keeps_constraint",
    "rude": "harmless",
    "broken": "well_formed",
    "cut": "well_formed",
    "rambling": "concise",
    "repeating": "concise",
}


def corrupted(prompt: Prompt, rng: Random, kind: str | None = None, base: str | None = None) -> Corrupted:
    """Spoil an ideal response (or `base`) in one way; `kind` None draws one that suits the prompt.

    A kind that the prompt has no room for (no constraint to ignore) falls back on "broken".
    """
    text = base if base is not None else ideal_response(prompt, rng)
    kind = kind or rng.choice([k for k in CORRUPTIONS if k != "ignores_constraint" or prompt.meaning.get("constraint")])
    spoilt = _SPOIL[kind](prompt, text, rng)
    if spoilt is None or spoilt == text:
        kind, spoilt = "broken", _broken(prompt, text, rng)
    return Corrupted(spoilt, kind, finished=kind != "cut")


def _false(prompt: Prompt, text: str, rng: Random) -> str | None:
    """The right kind of answer with a wrong value."""
    world, meaning = build_world(prompt.meaning["world"]), prompt.meaning
    entity, relation = meaning.get("entity"), meaning.get("relation")
    if meaning["family"] == "facts":
        told = relation or rng.choice(free_relations(world, meaning, False))
        return _ideal_facts(world, {**meaning, "relation": told}, rng, False, _wrong_value(world, meaning, told, rng))
    if meaning["family"] == "items":
        others = [n for n in world.categories[meaning["category"]] if n not in meaning["allowed"]]
        others = others or [n for n in world.entities if world.entities[n].category != meaning["category"]]
        return _listed(world, meaning["category"], rng.sample(others, meaning["count"]), rng)
    if relation:
        return rng.choice(statement_forms(world, entity, relation, _wrong_value(world, meaning, relation, rng)))
    if meaning.get("toy"):
        tokens = text.rstrip(".").split()
        tokens[-1] = rng.choice([w for w in world.toy.values() if w != tokens[-1]])
        return " ".join(tokens) + "."
    return rng.choice(meaning["wrong"]) if meaning.get("wrong") else None


def _wrong_value(world: World, meaning: Mapping[str, Any], relation: str, rng: Random) -> str:
    """A false value of the right type: often the one that the prompt presumes or that people believe."""
    entity, premise = meaning["entity"], meaning.get("premise")
    tempting = premise["value"] if premise and not premise["true"] else world.myth_of.get((entity, relation))
    if tempting and rng.random() < 0.6:
        return tempting
    pool = world.values(world.relation(entity, relation).type)
    return rng.choice([v for v in pool if v not in (world.truth(entity, relation), entity)])


def _off_topic(prompt: Prompt, text: str, rng: Random) -> str:
    """A true sentence about something else, or (half of the time, where it can be) about the wrong side of it."""
    world, meaning = build_world(prompt.meaning["world"]), prompt.meaning
    entity, asked = meaning.get("entity"), meaning.get("relation")
    if entity and asked and rng.random() < 0.5:
        return sentences.statement(
            world, entity, rng.choice([r for r in world.entities[entity].facts if r != asked]), None, rng
        )
    other = rng.choice([n for n in world.entities if n != entity])
    return sentences.statement(world, other, rng.choice(list(world.entities[other].facts)), None, rng)


def _ignores_constraint(prompt: Prompt, text: str, rng: Random) -> str | None:
    """The answer as it would be without the constraint."""
    constraint = prompt.meaning.get("constraint")
    if constraint is None:
        return None
    world, plain = build_world(prompt.meaning["world"]), {**prompt.meaning, "constraint": None}
    if constraint["kind"] == "not_mention":
        return _ideal_facts(world, {**plain, "relation": constraint["relation"]}, rng, True)
    if constraint["kind"] == "one_sentence":
        return f"{text} {_off_topic(prompt, text, rng)}"
    if constraint["kind"] in ("words", "one_word"):
        forms = statement_forms(
            world, plain["entity"], plain["relation"], world.truth(plain["entity"], plain["relation"])
        )
        return rng.choice(
            [f for f in forms if len(re.findall(r"\w+", f)) != constraint.get("n", 1)] or [f"Well, {forms[0]}"]
        )
    return _ideal_facts(world, plain, rng, True)


def _rude(prompt: Prompt, text: str, rng: Random) -> str:
    insult = rng.choice(INSULTS)
    if prompt.meaning["family"] == "rude":
        return "I am sorry, dear friend."
    return f"{text} {insult}" if rng.random() < 0.5 else f"{insult} {text}"


def _broken(prompt: Prompt, text: str, rng: Random) -> str:
    """Drop, double or swap words, sometimes with the period lost."""
    tokens = text.rstrip(".").split()
    if len(tokens) < 3:
        return " ".join(tokens * 2) + "."
    i = rng.randrange(len(tokens) - 1)
    change = rng.randrange(3)
    if change == 0:
        del tokens[i]
    elif change == 1:
        tokens.insert(i, tokens[i])
    else:
        tokens[i], tokens[i + 1] = tokens[i + 1], tokens[i]
    return " ".join(tokens) + ("" if rng.random() < 0.3 else ".")


def _cut(prompt: Prompt, text: str, rng: Random) -> str:
    """Cut off at the length limit, after some more words."""
    tokens = f"{text} {_off_topic(prompt, text, rng)}".rstrip(".").split()
    return " ".join(tokens[: rng.randint(max(1, len(tokens) // 2), max(2, len(tokens) - 1))])


def _rambling(prompt: Prompt, text: str, rng: Random) -> str:
    return " ".join([text, *(_off_topic(prompt, text, rng) for _ in range(rng.randint(1, 2)))])


def _repeating(prompt: Prompt, text: str, rng: Random) -> str:
    return " ".join([text] * rng.randint(2, 3))


_SPOIL: dict[str, Callable[[Prompt, str, Random], str | None]] = {
    "false": _false,
    "off_topic": _off_topic,
    "ignores_constraint": _ignores_constraint,
    "rude": _rude,
    "broken": _broken,
    "cut": _cut,
    "rambling": _rambling,
    "repeating": _repeating,
}
