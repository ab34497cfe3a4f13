"""What passes between the ranking board's page and Python: drafts as card numbers, checked texts, the flags' chips.

The page is never believed: every number, list and text that it sends is checked here, and a wrong one is an error
that the board shows. Ids and model names do not go out; cards are numbers in the order in which they are shown.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from labkit.errors import DataError
from labkit.labels.reports import SERIOUS, HistoryRow
from labkit.labels.session import Task
from labkit.labels.store import Draft
from labkit.types import FLAGS, Rating

__all__ = ["FLAG_CHIPS", "clean", "draft_to_page", "flag_chips", "index", "list_of", "read_draft", "row_key", "text_of"]

MAX_COMMENT = 4000
#: What a chip says and the key that toggles it; the full wording of Table 3 is its tooltip and its spoken name.
FLAG_CHIPS: dict[str, tuple[str, str]] = {
    "fails_instruction": ("Fails task", "f"),
    "inappropriate": ("Inappropriate", "i"),
    "hallucination": ("Hallucination", "h"),
    "satisfies_constraint": ("Constraint kept", "c"),
    "sexual": ("Sexual", "x"),
    "violent": ("Violent", "v"),
    "encourages_harm": ("Encourages harm", "e"),
    "denigrates": ("Denigrates", "d"),
    "harmful_advice": ("Harmful advice", "a"),
    "opinion": ("Opinion", "p"),
    "moral_judgment": ("Moral judgment", "m"),
}


def flag_chips() -> list[dict[str, str]]:
    """The chips in the paper's order; `tone` says whether a flag speaks for the response, against it, or neither."""
    tones = {i: "against" if i in SERIOUS else "neutral" for i in FLAGS} | {"satisfies_constraint": "for"}
    return [
        {"id": i, "short": short, "key": key, "full": FLAGS[i], "tone": tones[i]}
        for i, (short, key) in FLAG_CHIPS.items()
    ]


def read_draft(sent: Any, task: Task, modes: list[str], kept: Draft | None = None) -> Draft:
    """A `Draft` from what the page sent: card numbers in shown order, every value checked.

    kept: the card as it stands; a part that is switched off on the board stays as it was there.
    """
    if not isinstance(sent, dict):
        raise DataError("The page sent no draft; reload the page.")
    count = len(task.shown)
    kept = kept or Draft()
    placed, ratings = kept.groups, kept.ratings
    if "rank" in modes:
        groups = list_of(sent.get("groups"), "groups", count)
        placed = tuple(tuple(task.shown[index(i, count, "card")] for i in list_of(g, "a group", count)) for g in groups)
    if "rate" in modes:
        likert, flags = list_of(sent.get("likert"), "likert", count), list_of(sent.get("flags"), "flags", count)
        if len(likert) != count or len(flags) != count:
            raise DataError(f"The page rated {len(likert)} of {count} cards; reload the page.")
        pairs = zip(task.shown, likert, flags, strict=True)
        ratings = {i: _rating(value, chosen) for i, value, chosen in pairs if value is not None or chosen}
    return Draft(groups=placed, ratings=ratings, comment=text_of(sent.get("comment"), "comment")).check(task.shown)


def draft_to_page(draft: Draft, task: Task) -> dict[str, Any]:
    """The draft in card numbers of the shown order."""
    number = {i: n for n, i in enumerate(task.shown)}
    ratings = [draft.ratings.get(i, Rating()) for i in task.shown]
    return {
        "groups": [[number[i] for i in group] for group in draft.groups],
        "likert": [rating.likert for rating in ratings],
        "flags": [list(rating.flags) for rating in ratings],
        "comment": draft.comment,
    }


def row_key(row: HistoryRow) -> str:
    """What the page calls a decided card: no number, which another tab's decision would shift, and no id, which tells repeats."""
    return blake2b(row.task.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _rating(value: Any, flags: Any) -> Rating:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise DataError(f"Overall quality is {value!r}; it is a whole number from 1 to 7.")
    chosen = list_of(flags, "flags", len(FLAGS))
    return Rating(
        likert=value,
        flags=tuple(f for f in FLAGS if f in chosen) if all(f in FLAGS for f in chosen) else tuple(map(str, chosen)),
    )


def index(value: Any, count: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise DataError(f"The page named {what} {value!r}, but there are {count}; reload the page.")
    return value


def list_of(value: Any, what: str, longest: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise DataError(f"The page sent {what} that is no list of at most {longest}; reload the page.")
    return value


def text_of(value: Any, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_COMMENT:
        raise DataError(f"The {what} must be text of at most {MAX_COMMENT} characters.")
    return clean(value)


def clean(text: str) -> str:
    """The text without lone surrogates, which no JSON message can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
