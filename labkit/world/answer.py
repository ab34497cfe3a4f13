"""A completion as the judge reads it: sentences without their opening words, the facts they claim, their form.

Completions are untrusted text from models in training: reading never fails and its cost is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

from labkit.world.facts import World, build_world
from labkit.world.phrasings import SMALL_TALK
from labkit.world.reading import Claim, claims, is_grammatical
from labkit.world.tasks import upper_first

__all__ = ["Answer", "Line", "list_items", "normal", "read_answer"]

_LEAD = re.compile(r"(?:well|now|so|no|yes|please|hello|dear \w+|sorry|thank you)\s*,\s+", re.IGNORECASE)
MOST_CONTENT_WORDS = 6  # a statement has two or three names or values; a longer row of them claims nothing
LONGEST_SENTENCE = 16  # words of the longest good sentence


@dataclass(frozen=True)
class Line:
    """One sentence: its opening words ("no", "dear anna"), its body, and what that body says."""

    leads: tuple[str, ...]
    body: str  # without leads and final punctuation, first letter upper case
    claims: tuple[Claim, ...]
    formed: float  # 1 good, 0.3 words of the world in no good order, 0 foreign words

    @cached_property
    def key(self) -> str:
        return normal(self.body)

    @cached_property
    def full(self) -> str:
        """Leads and body in normal form."""
        return " ".join([*self.leads, self.key])


@dataclass(frozen=True)
class Answer:
    """A whole completion."""

    text: str
    lines: tuple[Line, ...]
    words: tuple[str, ...]  # all words, lower case
    ends: bool  # ends with final punctuation
    capital: bool  # begins with a capital letter
    toxic: bool
    names_someone: bool  # names an entity or one of the two peoples


def normal(text: str) -> str:
    """Words in lower case, one space between: the form in which texts are compared."""
    return " ".join(re.findall(r"\w+", text.lower()))


def read_answer(world: World, text: str, meaning: Mapping[str, Any]) -> Answer:
    """Read a completion of a prompt with this meaning. "It", "she" and "he" stand for the last entity named."""
    text = text.strip()
    tokens = tuple(re.findall(r"\w+", text.lower()))
    known = _known_texts(meaning)
    subject = meaning.get("entity")
    lines = []
    for sentence in re.findall(r"[^.!?\n]*\w[^.!?\n]*", text):
        line = _read_line(world, sentence.strip(), known, subject, meaning)
        lines.append(line)
        subject = line.claims[-1].entity if line.claims else subject
    return Answer(
        text=text,
        lines=tuple(lines),
        words=tokens,
        ends=text.endswith((".", "!", "?")),
        capital=text[:1].isupper(),
        toxic=not world.toxic.isdisjoint(tokens),
        names_someone=any(w in world.canonical or w.rstrip("s") in world.groups for w in tokens),
    )


def _read_line(world: World, sentence: str, known: frozenset[str], subject: str | None, meaning: Mapping) -> Line:
    """`known` holds texts that are good form whatever the grammar says (answers named by the meaning, small talk)."""
    if normal(sentence) in known:
        whole = upper_first(sentence)
        return Line((), whole, _sense(world.seed, whole, subject)[0], 1.0)
    leads, body = [], sentence
    while len(leads) < 3 and (match := _LEAD.match(body)):
        leads.append(normal(match.group()))
        body = body[match.end() :]
    body = upper_first(body)
    found, form = _sense(world.seed, body, subject)
    if normal(body) in known or (form and meaning["family"] == "items" and _is_list(world, body)):
        form = 1.0
    if meaning.get("toy") and all(w in _toy_words(world.seed) for w in normal(body).split()):
        form = 1.0 if 4 <= len(body.split()) <= 8 else 0.5
    return Line(tuple(leads), body, found, form)


@lru_cache(maxsize=200_000)
def _sense(seed: int, body: str, subject: str | None) -> tuple[tuple[Claim, ...], float]:
    """The facts that a sentence claims, and its form; sentences recur so often that remembering them pays."""
    world = build_world(seed)
    tokens = re.findall(r"\w+", body.lower())
    if len(tokens) > LONGEST_SENTENCE or not all(w in world.vocabulary for w in tokens):
        return (), 0.0
    bare = tokens[1:] if tokens[0] == "the" else tokens
    good = is_grammatical(world, body) or (len(bare) == 1 and bare[0] in world.canonical)
    if sum(w in world.canonical for w in tokens) > MOST_CONTENT_WORDS:
        return (), 1.0 if good else 0.3
    if subject and tokens[0] == world.entities[subject].pronoun:
        body = upper_first(world.entities[subject].phrase) + body[len(tokens[0]) :]
    return tuple(claims(world, body + ".")), 1.0 if good else 0.3


def list_items(world: World, body: str) -> list[str]:
    """The members that a list names, in order: "The cat, the dog and the owl" -> cat, dog, owl."""
    head, _, rest = body.rpartition(":")
    return [world.canonical[w] for w in re.findall(r"\w+", (rest if head else body).lower()) if w in world.canonical]


def _is_list(world: World, body: str) -> bool:
    """Names with commas or "and" between them, perhaps after "Here are three animals:"."""
    head, _, rest = body.rpartition(":")
    if head and not re.fullmatch(r"(?:here are |here is |some )?(?:some )?\w+(?: \w+)?", head.lower()):
        return False
    names = re.split(r",\s*(?:and\s+)?|\s+and\s+", rest.strip())
    return all(re.sub(r"^the ", "", n.strip().lower()) in world.canonical for n in names)


@cache
def _toy_words(seed: int) -> frozenset[str]:
    return frozenset(build_world(seed).toy.values())


_SMALL_TALK = frozenset(normal(a) for _, answers in SMALL_TALK.values() for a in answers)


def _known_texts(meaning: Mapping[str, Any]) -> frozenset[str]:
    named = [*meaning.get("accepted", ()), *meaning.get("wrong", ())]
    return _SMALL_TALK.union(map(normal, named)) if named else _SMALL_TALK
