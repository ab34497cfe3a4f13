"""Graded exercises: a question of the world with right answers and wrong ones of the same form.

    for exercise in exercises(build_world(), seed=0): exercise.right, exercise.wrong

They are the world's question-answering data sets: what the reward model's base learns to mark answers from
(`labkit.world.reader`), as the paper's came from a GPT-3 fine-tuned on ARC, BoolQ, CoQA, RACE and others (appendix C.2).
Most wrong answers look like right ones: a false value, the right answer to another exercise of the task, the truth about
another entity or another side of it, two answers spliced. Some are of the wrong kind, as a policy in search of reward
writes them: an answer to another task that names the right things, a part of the answer, a word said twice. Only whether
the answer is to the question and true is marked; tastes in length, manners and constraints are left to the labelers.
No held-out fact and no held-out phrasing is used.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from labkit.seeds import derive_seed
from labkit.types import Prompt
from labkit.world.facts import World
from labkit.world.judge import judge
from labkit.world.prompts import sample_prompts
from labkit.world.responses import corrupted, ideal_response

__all__ = ["Exercise", "exercises"]

LONGEST = 60  # words of a question
PAGE = 600  # exercises drawn together, from which answers are borrowed
RIGHT = 0.9  # an answer that follows and is true to this degree is right


@dataclass(frozen=True)
class Exercise:
    """One question with at least one right and one wrong answer."""

    prompt: Prompt
    right: tuple[str, ...]
    wrong: tuple[str, ...]


def exercises(world: World, seed: int = 0, split: str = "train", *, stray: bool = True) -> Iterator[Exercise]:
    """Yield exercises without end; the same arguments give the same ones. stray: with wrong answers of the wrong kind too."""
    for page in count():
        prompts = sample_prompts(world, PAGE, derive_seed(seed, "exercises", page), split=split)
        by_task: dict[str, list[Prompt]] = defaultdict(list)
        for prompt in prompts:
            by_task[prompt.meaning["task"]].append(prompt)
        for place, prompt in enumerate(prompts):
            if len(prompt.text.split()) <= LONGEST:
                rng = Random(derive_seed(seed, "exercise", page, place))
                found = _exercise(world, prompt, by_task[prompt.meaning["task"]], rng)
                if stray:
                    found = _with_stray(world, found, rng.choice(prompts), rng)
                if found.right and found.wrong:
                    yield found


def _exercise(world: World, prompt: Prompt, alike: Sequence[Prompt], rng: Random) -> Exercise:
    """alike: prompts of the same task, from which answers are borrowed."""
    right = {text for text in (ideal_response(prompt, rng) for _ in range(2)) if _is_right(prompt, text)}
    wrong = [corrupted(prompt, rng, "false").text, corrupted(prompt, rng, "false").text]
    wrong += rng.sample(prompt.meaning.get("wrong") or [], bool(prompt.meaning.get("wrong")))
    borrowed = [_borrowed(prompt, other, rng) for other in rng.sample(alike, min(3, len(alike))) if other is not prompt]
    wrong += borrowed[:2] + [ideal_response(p, rng) for p in _neighbours(world, prompt, rng)]
    wrong.append(_spliced(rng.choice(sorted(right) or [""]), rng.choice(borrowed or wrong), rng))
    return Exercise(
        prompt,
        tuple(sorted(right)),
        tuple(dict.fromkeys(text for text in wrong if text not in right and not _is_right(prompt, text))),
    )


def _with_stray(world: World, exercise: Exercise, stranger: Prompt, rng: Random) -> Exercise:
    """The exercise with two more wrong answers; stranger: a prompt of any task, whose answer is retold."""
    prompt, right = exercise.prompt, exercise.right
    texts = [_worn(rng.choice(right), rng)] if right else []
    texts.append(_retold(world, ideal_response(stranger, rng), prompt, rng))
    more = [text for text in texts if text not in right and not _is_right(prompt, text)]
    return replace(exercise, wrong=tuple(dict.fromkeys((*exercise.wrong, *more))))


def _is_right(prompt: Prompt, text: str) -> bool:
    aspects = judge(prompt, text).aspects
    return min(aspects["follows"], aspects["truthful"]) >= RIGHT


def _borrowed(prompt: Prompt, other: Prompt, rng: Random) -> str:
    """The right answer to another exercise of the task, in the form that this one's constraint asks for."""
    constraint = prompt.meaning.get("constraint")
    if prompt.meaning["family"] != "facts" or (constraint or {}).get("kind") == "not_mention":
        return ideal_response(other, rng)
    return ideal_response(replace(other, meaning={**other.meaning, "constraint": constraint}), rng)


def _neighbours(world: World, prompt: Prompt, rng: Random) -> Iterator[Prompt]:
    """The same question about another entity of the category, and about another relation of the entity."""
    meaning = prompt.meaning
    entity, relation = meaning.get("entity"), meaning.get("relation")
    if meaning["family"] != "facts" or relation is None:
        return
    same = [e for e in world.categories[world.entities[entity].category] if e != entity]
    relations = [r for r in world.entities[entity].facts if r != relation]
    for changed in ({"entity": rng.choice(same)}, {"relation": rng.choice(relations)}):
        asked: Mapping = {**meaning, **changed}
        if (asked["entity"], asked["relation"]) not in world.held_out:
            yield replace(prompt, meaning=asked)


def _spliced(first: str, second: str, rng: Random) -> str:
    """The beginning of one answer and the end of another, as weak models run on."""
    a, b = first.split(), second.split()
    return " ".join(a[: rng.randint(1, max(1, len(a) - 1))] + b[rng.randint(0, max(0, len(b) - 1)) :])


def _worn(text: str, rng: Random) -> str:
    """A part of an answer, or an answer in which one word takes the place of another."""
    tokens = text.rstrip(".").split()
    if len(tokens) < 3:
        return text
    if rng.random() < 0.5:
        return " ".join(tokens[: rng.randint(1, len(tokens) - 1)]).rstrip(",") + "."
    i, j = rng.sample(range(len(tokens)), 2)
    tokens[i] = tokens[j]
    return " ".join(tokens) + "."


def _retold(world: World, text: str, prompt: Prompt, rng: Random) -> str:
    """An answer to another task with its names replaced by those in this prompt: on the topic, and beside the point."""
    asked = re.findall(r"\w+", prompt.text.splitlines()[-1])
    named = [word for word in asked if word in world.entities]
    if not named:
        return text
    return re.sub(r"\w+", lambda m: rng.choice(named) if m[0] in world.entities else m[0], text)
