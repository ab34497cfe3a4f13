"""The words of the lab: prompts, completions, ratings, rankings, demonstrations and steps.

Standard library only. Every type turns into one JSON object (`to_json`) and back (`from_json`).
Comparisons are never stored: a `Ranking` keeps the whole ranking and derives its pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

from labkit.errors import DataError
from labkit.settings import plain

__all__ = ["FLAGS", "Completion", "Demonstration", "Prompt", "Ranking", "Rating", "Step", "listed"]

#: The paper's binary metadata (Table 3), by short name.
FLAGS: dict[str, str] = {
    "fails_instruction": "Fails to follow the correct instruction / task",
    "inappropriate": "Inappropriate for a customer assistant",
    "hallucination": "Hallucination",
    "satisfies_constraint": "Satisfies the constraint provided in the instruction",
    "sexual": "Contains sexual content",
    "violent": "Contains violent content",
    "encourages_harm": "Encourages or fails to discourage violence, abuse, terrorism, self-harm",
    "denigrates": "Denigrates a protected class",
    "harmful_advice": "Gives harmful advice",
    "opinion": "Expresses opinion",
    "moral_judgment": "Expresses moral judgment",
}


@dataclass(frozen=True)
class Prompt:
    """One instruction as the model sees it: `text` is used verbatim, no template is added."""

    id: str
    text: str
    use_case: str = "other"
    source: str = "unknown"  # customer, labeler_plain, labeler_fewshot, labeler_user, or the file it came from
    user: str = ""  # splits are made by user
    split: str = ""  # train, valid or test
    meaning: Mapping[str, Any] | None = None  # what the world's judge needs to know; None for real data

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Prompt:
        return _build(cls, row)


@dataclass(frozen=True)
class Completion:
    """One response to a prompt, with where it came from: model, sampling parameters, seed, token ids."""

    id: str
    prompt_id: str
    text: str
    token_ids: tuple[int, ...] | None = None  # the sampled ids: never decode and re-tokenise
    finished: bool | None = None  # True: ended by the end token; False: cut at the length limit
    model: str = ""  # name or hash of the weights
    sampling: Mapping[str, Any] = field(default_factory=dict)  # temperature, max_new_tokens, ...
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Completion:
        _check_object(cls, row)
        row = dict(row)
        if row.get("token_ids") is not None:
            row["token_ids"] = tuple(row["token_ids"])
        return _build(cls, row)


@dataclass(frozen=True)
class Rating:
    """What a labeler says of one completion by itself: overall quality 1-7 and the paper's flags."""

    likert: int | None = None
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        likert = plain(self.likert)
        if likert is not None and (type(likert) not in (int, float) or not 1 <= likert <= 7):
            raise DataError(f"likert is {likert!r}; overall quality goes from 1 to 7.")
        object.__setattr__(self, "likert", likert)
        if isinstance(self.flags, str):
            raise DataError(f"flags is {self.flags!r}; give a tuple of names, as ({self.flags!r},).")
        unknown = sorted(set(self.flags) - set(FLAGS))
        if unknown:
            raise DataError(f"Unknown flag {unknown[0]!r}; the flags are {', '.join(FLAGS)}.")


@dataclass(frozen=True)
class Demonstration:
    """A labeler's own answer to a prompt: what SFT learns from."""

    prompt: Prompt
    text: str
    labeler: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Demonstration:
        _check_object(cls, row, "prompt", "text")
        return _build(cls, {**row, "prompt": Prompt.from_json(row["prompt"])})


@dataclass(frozen=True)
class Ranking:
    """One labeler's ranking of the K completions of one prompt.

    `groups` lists completion ids best first; ids in one group are tied. Completions in no group are
    unranked and take part in no comparison.
    """

    prompt: Prompt
    completions: tuple[Completion, ...]
    groups: tuple[tuple[str, ...], ...]
    labeler: str = ""
    ratings: Mapping[str, Rating] = field(default_factory=dict)
    seconds: float | None = None
    shown: tuple[str, ...] = ()  # completion ids in the order in which they were shown
    margin: float | None = None  # of a pair that came with one, as a TRL file's may; nothing here trains on it
    comment: str = ""  # the labeler's note on the card; nothing here trains on it

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, Prompt):
            raise DataError(f"The ranking of {self.prompt!r:.60} has no prompt; give a labkit.types.Prompt.")
        where = f"The ranking of prompt {self.prompt.id!r} by labeler {self.labeler!r}"
        object.__setattr__(self, "completions", tuple(listed(self.completions, Completion, "completions of a ranking")))
        object.__setattr__(self, "groups", tuple(_group(g, where) for g in self.groups or ()))
        known = [c.id for c in self.completions]
        if len(known) < 2:
            raise DataError(f"{where} has {len(known)} completion(s); a ranking needs K >= 2. Drop it or add one.")
        if len(set(known)) < len(known):
            raise DataError(f"{where} has two completions with one id; give each completion an id of its own.")
        ranked = [i for group in self.groups for i in group]
        for i in [*ranked, *self.ratings, *self.shown]:
            if i not in known:
                raise DataError(
                    f"{where} names completion {i!r}, which is not one of its {len(known)} completions ({', '.join(map(str, known))}). "
                    "Correct the id, or add that completion."
                )
        if len(set(ranked)) < len(ranked):
            raise DataError(f"{where} ranks a completion twice; put each id into one group.")
        for i, rating in self.ratings.items():
            if not isinstance(rating, Rating):
                raise DataError(f"{where}: the rating of {i!r} is {rating!r:.60}; give a Rating, as Rating(likert=6).")
        if self.margin is not None:
            self._check_margin(where)

    def _check_margin(self, where: str) -> None:
        if isinstance(self.margin, bool) or not isinstance(self.margin, (int, float)) or not math.isfinite(self.margin):
            raise DataError(f"{where}: its margin is {self.margin!r:.60}; it must be a finite number, or null for none.")
        if len(self.completions) != 2:
            raise DataError(f"{where} has {len(self.completions)} completions and a margin; a margin belongs to one pair. Drop it.")

    @property
    def ranks(self) -> dict[str, int]:
        """Rank by completion id: 1 is best, equal is a tie, unranked ids are absent."""
        return {i: place for place, group in enumerate(self.groups, 1) for i in group}

    def pairs(self) -> list[tuple[str, str]]:
        """All (preferred, other) id pairs of this prompt; ties are dropped (paper, section 3.5)."""
        ranks = self.ranks
        ordered = [(a, b) if ranks[a] < ranks[b] else (b, a) for a, b in combinations(ranks, 2) if ranks[a] != ranks[b]]
        return ordered

    def to_json(self) -> dict[str, Any]:
        row = asdict(self)
        for name in ("margin", "comment"):
            if row[name] in (None, ""):
                del row[name]
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Ranking:
        _check_object(cls, row, "prompt", "completions", "groups")
        ratings = {
            i: Rating(likert=r.get("likert"), flags=tuple(r.get("flags") or ()))
            for i, r in (row.get("ratings") or {}).items()
        }
        return _build(
            cls,
            {
                **row,
                "prompt": Prompt.from_json(row["prompt"]),
                "completions": tuple(Completion.from_json(c) for c in row["completions"]),
                "groups": tuple(tuple(g) for g in row["groups"]),
                "ratings": ratings,
                "shown": tuple(row.get("shown") or ()),
            },
        )


@dataclass(frozen=True)
class Step:
    """What a training loop has to say after one step: numbers and text only, so a Step is one JSON line."""

    stage: str  # sft, reward, ppo
    number: int  # 1 for the first step
    metrics: Mapping[str, float]
    knobs: Mapping[str, float] = field(default_factory=dict)  # the knobs in force during this step
    samples: tuple[Mapping[str, Any], ...] = ()  # e.g. {"prompt_id", "prompt", "response", "score", "kl"}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Step:
        _check_object(cls, row, "stage", "number")
        return _build(cls, {**row, "samples": tuple(row.get("samples") or ())})


def listed(things: Iterable[Any] | None, kind: type, what: str) -> list[Any]:
    """The things, from a list or whatever gives them once, as a list; raises DataError where one is no `kind`, naming `what`."""
    many = isinstance(things, Iterable) and not isinstance(things, (str, Mapping))
    rows = list(things) if many else [] if things is None else [things]
    for row in rows:
        if not (many and isinstance(row, kind)):
            raise DataError(f"The {what} hold {row!r:.60}, which is no {kind.__name__}; give a list of {kind.__module__}.{kind.__name__}.")
    return rows


def _group(group: Any, where: str) -> tuple[str, ...]:
    """The ids that share a rank; of a text, which would be read letter by letter, an error."""
    if isinstance(group, str):
        raise DataError(f"{where} has the group {group!r}; a group is a tuple of ids, as in groups=(('c0',), ('c1',)).")
    return tuple(group)


def _check_object(cls: type, row: Any, *needed: str) -> None:
    """A row that is no object, or lacks a field that must be there, is an error that says which."""
    if not isinstance(row, Mapping):
        raise DataError(f"A {cls.__name__} is an object with {', '.join(cls.__dataclass_fields__)}; this is {row!r:.60}.")
    missing = [name for name in needed if row.get(name) is None]
    if missing:
        raise DataError(f"This {cls.__name__} is not complete: it has no {missing[0]!r}. Add it, or remove the row.")


def _build(cls: type, row: Mapping[str, Any]) -> Any:
    _check_object(cls, row)
    unknown = sorted(set(row) - set(cls.__dataclass_fields__))
    if unknown:
        raise DataError(f"{cls.__name__} has no field {unknown[0]!r}; it has {', '.join(cls.__dataclass_fields__)}.")
    try:
        return cls(**row)
    except TypeError as error:
        raise DataError(f"This {cls.__name__} is not complete: {error}.") from None
