"""Tasks: one prompt with its completions in the order in which one labeler sees them, model names hidden."""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from labkit.errors import DataError
from labkit.seeds import derive_seed
from labkit.types import Completion, Prompt, Ranking

__all__ = ["MAX_K", "Card", "Task", "build_tasks", "shuffled", "silent_repeats", "task_id"]

#: One letter per card; the paper shows 4 to 9.
MAX_K = 26


@dataclass(frozen=True)
class Card:
    """One completion as a labeler may see it: no model, no sampling parameters."""

    id: str
    label: str  # A, B, C ... in shown order
    text: str
    position: int  # 1 is shown first


@dataclass(frozen=True)
class Task:
    """One prompt with the completions to be ranked. A silent repeat looks like any other task."""

    id: str
    prompt: Prompt
    completions: tuple[Completion, ...]  # as given, with model and provenance: hidden until submit
    shown: tuple[str, ...]  # completion ids in the order for this labeler
    repeat_of: str | None = None

    @property
    def cards(self) -> tuple[Card, ...]:
        """The completions in shown order, anonymous."""
        texts = {c.id: c.text for c in self.completions}
        return tuple(Card(i, chr(ord("A") + n), texts[i], n + 1) for n, i in enumerate(self.shown))

    @property
    def labels(self) -> dict[str, str]:
        """Letter by completion id."""
        return {card.id: card.label for card in self.cards}


def task_id(prompt: Prompt, completions: Iterable[Completion]) -> str:
    """Prompt id and a short hash of the completions: new completions for an old prompt are a new task."""
    digest = blake2b(digest_size=4)
    for completion in sorted(completions, key=lambda c: c.id):
        digest.update(f"{completion.id}\0{completion.text}\0".encode("utf-8", "surrogatepass"))
    return f"{prompt.id}:{digest.hexdigest()}"


def build_tasks(given: Iterable[tuple[Prompt, Sequence[Completion]]], labeler: str, seed: int) -> list[Task]:
    """The tasks of one labeler; the order of the completions is drawn from (seed, labeler, task)."""
    tasks: dict[str, Task] = {}
    for prompt, completions in given:
        completions = tuple(completions)
        Ranking(prompt=prompt, completions=completions, groups=(), labeler=labeler)  # checks K and the ids
        if len(completions) > MAX_K:
            raise DataError(
                f"Prompt {prompt.id!r} has {len(completions)} completions; "
                f"a card holds at most {MAX_K} (the paper: 4 to 9)."
            )
        id = task_id(prompt, completions)
        if id in tasks:
            raise DataError(
                f"Prompt {prompt.id!r} comes twice with the same completions; "
                "drop one (repeats are made by repeat_share)."
            )
        tasks[id] = Task(id, prompt, completions, shuffled(completions, id, labeler, seed))
    if not tasks:
        raise DataError("There is nothing to label: `tasks` is empty. Give (prompt, completions) pairs.")
    return list(tasks.values())


def shuffled(completions: Iterable[Completion], task: str, labeler: str, seed: int) -> tuple[str, ...]:
    """The completion ids in the order for this labeler and task."""
    order = [c.id for c in completions]
    random.Random(derive_seed(seed, labeler, task, "order")).shuffle(order)
    return tuple(order)


def silent_repeats(
    tasks: Sequence[Task], share: float, labeler: str, seed: int, shown: Container[str] = ()
) -> list[Task]:
    """Second showings of a `share` of the tasks, drawn by lot, each in an order of its own.

    shown: task ids that came up before; a repeat among them stays one, however many tasks there are by now.
    """
    by_lot = sorted(tasks, key=lambda t: derive_seed(seed, labeler, t.id, "repeat"))
    by_lot.sort(key=lambda t: f"{t.id}:again" not in shown)
    known = sum(f"{t.id}:again" in shown for t in tasks)
    chosen = by_lot[: max(round(share * len(tasks)), known)]
    return [
        replace(t, id=f"{t.id}:again", repeat_of=t.id, shown=shuffled(t.completions, f"{t.id}:again", labeler, seed))
        for t in chosen
    ]
