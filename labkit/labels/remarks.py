"""What labelers said in words: why a card was put aside, and their notes. Rankings and ratings say nothing of it.

    for remark in remarks(read_log(path)):
        print(remark.labeler, remark.what, remark.prompt_id, remark.text)
    print(put_aside_sentence(found))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labkit.labels.state import LabelState

__all__ = ["Remark", "put_aside_sentence", "remarks"]

#: What a remark may be.
WHAT = {
    "skip": "the card was put aside; the reason may be empty",
    "cannot_judge": "the card cannot be judged; the reason",
    "leave": "the card was looked at again and left as it was; the reason",
    "comment": "the note on a card, ranked or not",
    "note": "a note made beside a card, or on the whole session where the task is empty",
}


@dataclass(frozen=True)
class Remark:
    """One reason or note in force. `what` is one of WHAT; `time` is None where the log does not say it of this remark alone."""

    labeler: str
    what: str
    text: str
    task: str = ""
    time: float | None = None

    @property
    def prompt_id(self) -> str:
        """The prompt's id, which a task's id begins with."""
        return self.task.removesuffix(":again").rpartition(":")[0]


def remarks(state: LabelState) -> list[Remark]:
    """All that one log says in words and that was not taken back: reasons first, in order of time, then comments and notes."""
    return [*_reasons(state), *_comments(state), *_notes(state)]


def put_aside_sentence(found: Iterable[Remark]) -> str:
    """How many cards were put aside, with every reason that was given, and how many notes there are; empty where there is nothing."""
    found = list(found)
    kinds = (("skip", "skipped"), ("cannot_judge", "that cannot be judged"))
    aside = [_counted(said, [r.text.strip() for r in found if r.what == what]) for what, said in kinds if any(r.what == what for r in found)]
    notes = sum(r.what in ("comment", "note") for r in found)
    parts = [f"Cards put aside: {', '.join(aside)}."] if aside else []
    parts += [f"{notes} note{'' if notes == 1 else 's'}."] if notes else []
    return " ".join(parts)


def _counted(what: str, reasons: list[str]) -> str:
    counts = Counter(reason or "no reason given" for reason in reasons).most_common()
    return f"{len(reasons)} {what} ({'; '.join(reason if n == 1 else f'{reason}: {n}' for reason, n in counts)})"


def _reasons(state: LabelState) -> Iterator[Remark]:
    """Of each card put aside the reason in force, and any that was given for leaving a card as it was."""
    ranked, aside, left = set(), {}, []
    for event in state.done:
        task, kind = event["task"], event["event"]
        if kind == "submit":
            ranked.add(task)
        elif kind == "cannot_judge" or (kind == "skip" and task not in ranked):
            ranked.discard(task)
            aside[task] = event
        elif kind in ("skip", "leave") and event.get("reason"):
            left.append(event)
    for event in sorted([e for task, e in aside.items() if task in state.aside] + left, key=lambda e: e["n"]):
        what = event["event"] if aside.get(event["task"]) is event else "leave"
        yield Remark(state.labeler, what, str(event.get("reason") or ""), event["task"], event.get("time"))


def _comments(state: LabelState) -> Iterator[Remark]:
    """Of every card the newest note, and the one that was submitted where that is another."""
    for task in dict.fromkeys([*state.submitted, *state.drafts]):
        stored = state.submitted[task].comment if task in state.submitted else ""
        drafted = state.drafts[task].comment if task in state.drafts else ""
        for text in dict.fromkeys((stored, drafted)):
            if text.strip():
                yield Remark(state.labeler, "comment", text, task)


def _notes(state: LabelState) -> Iterator[Remark]:
    for event in state.notes:
        yield Remark(state.labeler, "note", str(event.get("text") or ""), str(event.get("task") or ""), event.get("time"))
