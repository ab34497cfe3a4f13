"""The cards of a run's board, kept beside its label logs: answers are drawn once, however often the board is opened.

    runs/<name>/labels/cards/cards.jsonl    {"prompt": {...}, "completions": [{...}, ...]}, one card a line

A log names a card by its texts, so answers drawn anew, of another model or beside another demonstration, would make
another card, with the old one's draft and undo out of reach. Cards are only ever added, behind those that are there.
Runs from before cards were kept have none; their logs still hold the cards that were submitted: `cards_of_logs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.disk import read_all, read_jsonl, write_jsonl
from labkit.errors import DataError
from labkit.labels.store import read_log
from labkit.labels.tasks import task_id
from labkit.types import Completion, Prompt, Ranking

__all__ = ["Given", "cards_of_logs", "cards_path", "cards_shown", "keep_cards", "kept_cards", "said_of_cards"]

Given = tuple[Prompt, list[Completion]]


def cards_path(run_path: str | Path) -> Path:
    """Where a run's cards lie: in a folder of their own, since every .jsonl beside the logs is taken for a log."""
    return Path(run_path) / "labels" / "cards" / "cards.jsonl"


def kept_cards(run_path: str | Path) -> list[Given]:
    """The cards kept so far, in the order in which they were drawn; a line that is no card is an error that names it."""
    path = cards_path(run_path)
    return [card.given for card in read_all(_Card, path)] if path.exists() else []


def keep_cards(run_path: str | Path, cards: Iterable[Given]) -> list[Given]:
    """Keep these cards behind those that are there; returns all. A card that is kept already stays as it is."""
    found = {task_id(*card): card for card in kept_cards(run_path)}  # read now: another kernel may have kept some
    before = len(found)
    for card in cards:
        found.setdefault(task_id(*card), card)
    if len(found) > before:
        rows = ({"prompt": p.to_json(), "completions": [c.to_json() for c in drawn]} for p, drawn in found.values())
        write_jsonl(cards_path(run_path), rows)
    return list(found.values())


def cards_of_logs(run_path: str | Path, prompts: Sequence[Prompt]) -> list[Given]:
    """The cards of these prompts that were ever submitted in the run, taken back or not, oldest first by labeler."""
    wanted, found = {p.id for p in prompts}, {}
    for log in _logs(run_path):
        for event in read_jsonl(log):
            if event.get("event") == "submit":
                ranking = Ranking.from_json(event["ranking"])
                if ranking.prompt.id in wanted:
                    card = (ranking.prompt, list(ranking.completions))
                    found.setdefault(task_id(*card), card)
    return list(found.values())


def cards_shown(run_path: str | Path) -> set[str]:
    """The task ids of all cards that ever came up before a labeler of the run."""
    return {task for log in _logs(run_path) for task in read_log(log).shown}


def said_of_cards(cards: Sequence[Given], most: int, repeats: int = 0) -> str:
    """How many answers the cards of a board have, how many come again unannounced, and, where none has `most`, what was asked for, why."""
    counts = [len(drawn) for _, drawn in cards]
    if not counts:
        return "There is no card to rank: no prompt has two different answers."
    low, high = min(counts), max(counts)
    said = f"{len(counts)} card{'s' * (len(counts) > 1)} of {low if low == high else f'{low} to {high}'} answers."
    said += f" {repeats} of them come{'s' * (repeats == 1)} a second time, unannounced, and count{'s' * (repeats == 1)} again." if repeats else ""
    if high == most:
        return said
    return f"{said} None has {most}: equal answers are shown once, and cards that were drawn stay as they are; more prompts bring new ones, of up to {most}."


def _logs(run_path: str | Path) -> list[Path]:
    return sorted((Path(run_path) / "labels").glob("*.jsonl"))


@dataclass(frozen=True)
class _Card:
    given: Given

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> _Card:
        if not isinstance(row, dict) or not isinstance(row.get("completions"), list):
            raise DataError("this is no card: it needs a prompt and a list of completions. Put the line back as it was.")
        return cls((Prompt.from_json(row.get("prompt")), [Completion.from_json(c) for c in row["completions"]]))
