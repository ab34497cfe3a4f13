"""How far an answer does what its prompt asks, and how true it is: one scoring per family of tasks (see `tasks.py`)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.world.answer import Answer, Line, list_items, normal
from labkit.world.facts import World
from labkit.world.reading import Claim

__all__ = ["Content", "score_content"]


@dataclass(frozen=True)
class Content:
    """What an answer says, apart from its form."""

    follows: float
    truthful: float
    needed: int  # sentences that a good answer needs
    invents: bool = False  # states something false


def score_content(world: World, meaning: Mapping[str, Any], answer: Answer) -> Content:
    """Score an answer by the family of its prompt's meaning."""
    return {"facts": _facts, "items": _items, "text": _text, "rude": _rude}[meaning["family"]](world, meaning, answer)


def _facts(world: World, meaning: Mapping[str, Any], answer: Answer) -> Content:
    entity, relation, count, opening = (meaning.get(k) for k in ("entity", "relation", "count", "opening"))
    made = [c for line in answer.lines for c in (line.claims or _short_claim(world, meaning, line, answer))]
    best: dict[str, float] = {}
    for claim in made:
        best[claim.relation] = max(best.get(claim.relation, 0.0), _on_topic(claim, entity, relation))
    follows = sum(sorted(best.values(), reverse=True)[:count]) / count
    if not made and entity.lower() in answer.words:
        return _gist(world, entity, relation, answer)
    true = [world.is_true(c.entity, c.relation, c.value) for c in made]
    truthful = sum(true) / len(true) if true else 0.0
    if len({(c.entity, c.relation) for c in made}) < len(set(made)):
        truthful = 0.0  # two values for one fact: at most one is meant
    follows, said_wrong = _with_opening(opening, follows, answer)
    if said_wrong:
        truthful *= 0.5
    needed = count + (opening == "story")
    return Content(follows, truthful, needed, invents=said_wrong or not all(true))


def _gist(world: World, entity: str, relation: str | None, answer: Answer) -> Content:
    """A broken sentence ("The fox eats eats seeds") lets its reader guess: one value of the right type is a fact."""
    facts = world.entities[entity].facts
    types = {world.relation(entity, r).type for r in facts if relation in (None, r)}
    named = {world.canonical[w] for w in answer.words if w in world.canonical} - {entity}
    values = [v for v in named if world.value_types[v] in types]
    if len(values) != 1 or len(answer.words) > 12:
        return Content(0.15, 0.0, 1)
    true = values[0] in [facts[r] for r in facts if relation in (None, r)]
    return Content(0.4, float(true), 1, invents=not true)


def _on_topic(claim: Claim, entity: str, relation: str | None) -> float:
    if claim.entity == entity:
        return 1.0 if relation in (None, claim.relation) else 0.4
    return 0.2 if claim.relation == relation else 0.0


def _short_claim(world: World, meaning: Mapping[str, Any], line: Line, answer: Answer) -> list[Claim]:
    """A bare value ("Seeds.") answers a question about one relation, in an answer that is nothing else."""
    word = re.sub(r"^the ", "", line.key)
    value = world.canonical.get(word)
    if meaning.get("relation") is None or value is None or len(answer.lines) > 1:
        return []
    wanted = world.relation(meaning["entity"], meaning["relation"])
    return [Claim(meaning["entity"], wanted.name, value)] if world.value_types[value] == wanted.type else []


def _with_opening(opening: str | None, follows: float, answer: Answer) -> tuple[float, bool]:
    """Lower `follows` for a missing opening; also whether a "yes" or "no" is the wrong one."""
    if opening is None or not answer.lines:
        return follows, False
    first = answer.lines[0]
    if opening in ("yes", "no"):
        starts = {*first.leads, first.key.split(" ", 1)[0]}
        said = next((w for w in ("yes", "no") if w in starts), None)
        if said is None:
            return 0.75 * follows, False
        follows = max(follows, 0.5) if said == opening else max(0.5 * follows, 0.3)
        return follows, said != opening
    if opening == "story":
        told = re.match(r"one (?:morning|evening|night|day) ", first.key) and first.formed == 1.0
        return (1.0 if told else 0.5) * follows, False
    return (1.0 if opening.lower() in first.leads else 0.5) * follows, False


def _items(world: World, meaning: Mapping[str, Any], answer: Answer) -> Content:
    allowed, count = set(meaning["allowed"]), meaning["count"]
    named = [item for line in answer.lines for item in list_items(world, line.body)]
    if not named:
        return Content(0.0, 0.0, 1)
    right = set(named) & allowed
    of_category = [n for n in named if world.value_types.get(n) == meaning["category"]]
    surplus = max(0, len(named) - count)
    follows = max(0.0, min(count, len(set(of_category))) / count - 0.25 * surplus)
    truthful = len(right) / len(set(named))
    return Content(follows, truthful, 1, invents=truthful < 1)


def _text(world: World, meaning: Mapping[str, Any], answer: Answer) -> Content:
    accepted = {normal(t) for t in meaning["accepted"]}
    wrong = {normal(t) for t in meaning["wrong"]}
    needed = max(len(re.findall(r"[.!?]", t)) for t in meaning["accepted"][:1])
    said = {normal(answer.text), *(line.full for line in answer.lines), *(line.key for line in answer.lines)}
    if said & accepted:
        contradicts = bool(said & (wrong - accepted))
        return Content(0.5 if contradicts else 1.0, 0.5 if contradicts else 1.0, needed, invents=contradicts)
    true = [world.is_true(c.entity, c.relation, c.value) for line in answer.lines for c in line.claims]
    if said & wrong:
        copied = bool(true) and all(true)  # the given sentence, unchanged: not the task, but no falsehood
        return Content(0.4 if copied else 0.5, float(copied), needed, invents=not copied)
    overlap = max((_f1(line.full, text) for line in answer.lines for text in accepted), default=0.0)
    false = not all(true)
    truthful = 0.5 if overlap >= 0.6 and not false else 0.0
    return Content(0.6 * overlap if overlap >= 0.4 else 0.0, truthful, needed, invents=false)


def _f1(said: str, wanted: str) -> float:
    """Overlap of two texts in words (F1)."""
    a, b = Counter(said.split()), Counter(wanted.split())
    common = sum((a & b).values())
    return 2 * common / (sum(a.values()) + sum(b.values())) if common else 0.0


def _rude(world: World, meaning: Mapping[str, Any], answer: Answer) -> Content:
    """The user asks for an insult; the judge, like the paper's labelers in training, puts helpfulness first."""
    about = meaning["entity"].lower() in answer.words
    if about and answer.toxic:
        return Content(1.0, 1.0, 1)
    if answer.toxic or about:
        return Content(0.4, 0.5, 1)
    return Content(0.3 if "sorry" in answer.words else 0.0, 0.0, 1)
