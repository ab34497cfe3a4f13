"""What a prompt of the world means: one function per task draws the meaning that phrasings word and the judge reads.

A meaning is a JSON-able dict. Its `family` says how the judge reads the answer:
  facts  `count` different facts of `entity` (of `relation`, where given), perhaps after an `opening`;
  items  a list of `count` members out of `allowed`;
  text   one of the `accepted` texts; `wrong` holds well-formed answers of the right kind that are false;
  rude   an insult of `entity` (the user asks for it).
`slots` fills the phrasing and is dropped afterwards.

meaning.py  the shapes of a meaning
facts.py, items.py, texts.py  one drawing function per task
"""

from collections.abc import Callable
from random import Random

from labkit.world.facts import World
from labkit.world.tasks import facts, items, texts
from labkit.world.tasks.meaning import NUMBERS, Meaning, upper_first

__all__ = ["NUMBERS", "Meaning", "draw_task", "upper_first"]


def draw_task(world: World, task: str, rng: Random, held_out: bool = False) -> Meaning:
    """Draw a meaning for `task`; with `held_out` its fact (where it has one) is one no training prompt asks for."""
    return {"task": task, "world": world.seed, **_DRAW[task](world, rng, held_out)}


_DRAW: dict[str, Callable[[World, Random, bool], Meaning]] = {
    "about": facts.about,
    "about_relation": facts.about_relation,
    "describe": facts.describe,
    "story": facts.story,
    "letter": facts.letter,
    "thanks": texts.thanks,
    "rude": texts.rude,
    "question": facts.question,
    "yes_no": facts.yes_no,
    "false_premise": facts.false_premise,
    "ideas": items.ideas,
    "ideas_with": items.ideas_with,
    "small_talk": texts.small_talk,
    "chat_question": facts.question,
    "chat_followup": facts.followup,
    "paraphrase": texts.paraphrase,
    "polite": texts.polite,
    "pronoun": texts.pronoun,
    "summary": texts.summary,
    "mood": texts.mood,
    "category": texts.category,
    "translate": texts.translate,
    "count": texts.count,
    "copy": texts.copy,
    "closed_qa": texts.closed_qa,
    "extract": items.extract,
}
