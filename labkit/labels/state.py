"""What the events of a label log amount to: drafts, rankings, cards put aside, undo stacks, time spent.

The state on the screen and the state after a restart come from one function, `LabelState.apply`, so they cannot
differ. store.py lists the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from labkit.errors import DataError
from labkit.types import Ranking, Rating

__all__ = ["ACTIONS", "IDLE_SECONDS", "Draft", "LabelState", "fold"]

#: Events that undo takes back.
ACTIONS = ("draft", "submit", "skip", "cannot_judge", "leave")
#: A pause longer than this is not counted as work on a card.
IDLE_SECONDS = 300.0


@dataclass(frozen=True)
class Draft:
    """A card as it stands: groups of completion ids by rank, best first (one group = a tie), ratings by id, a comment.

    An empty group is a rank that nobody has yet: it stays while the card is a draft, so that cards come back where they
    were put; a ranking closes it. Ids in no group lie in the unranked tray.
    """

    groups: tuple[tuple[str, ...], ...] = ()
    ratings: Mapping[str, Rating] = field(default_factory=dict)
    comment: str = ""

    @property
    def ranked(self) -> tuple[str, ...]:
        return tuple(i for group in self.groups for i in group)

    @property
    def order(self) -> tuple[tuple[str, ...], ...]:
        """The groups without gaps: what a ranking stores."""
        return tuple(group for group in self.groups if group)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Draft:
        """Read `to_json`'s form, or what a view sends; ratings may be partial."""
        ratings = {
            str(i): Rating(likert=r.get("likert"), flags=tuple(r.get("flags") or ()))
            for i, r in (row.get("ratings") or {}).items()
        }
        groups = tuple(tuple(str(i) for i in group) for group in row.get("groups") or ())
        return cls(groups=groups, ratings=ratings, comment=str(row.get("comment") or ""))

    def check(self, known: Iterable[str]) -> Draft:
        """Return self if it names only completions of its card, each ranked once; else raise DataError."""
        known, ranked = set(known), self.ranked
        for i in [*ranked, *self.ratings]:
            if i not in known:
                ids = ", ".join(sorted(known))
                raise DataError(f"The draft names completion {i!r}, which is not on this card; use {ids}.")
        if len(set(ranked)) < len(ranked):
            raise DataError("The draft ranks a completion twice; put each id into one group.")
        return self


@dataclass
class LabelState:
    """What the events of one log amount to. `apply` is the only thing that changes it."""

    labeler: str = ""
    seed: int | None = None
    events: int = 0
    current: str | None = None  # task id of the card on the screen
    shown: dict[str, tuple[str, ...]] = field(default_factory=dict)  # completion ids in shown order, by task
    drafts: dict[str, Draft] = field(default_factory=dict)
    submitted: dict[str, Ranking] = field(default_factory=dict)  # by task, silent repeats among them
    repeat_of: dict[str, str] = field(default_factory=dict)  # task of a silent repeat -> task that it repeats
    aside: dict[str, tuple[str, str]] = field(default_factory=dict)  # task -> (skip | cannot_judge, reason)
    asked: list[str] = field(default_factory=list)  # tasks of the newest revisit, first one first
    asked_at: int = 0  # the number of that event
    notes: list[dict[str, Any]] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)  # seconds of work by task
    done: list[dict[str, Any]] = field(default_factory=list)  # actions in force, oldest first
    undone: list[dict[str, Any]] = field(default_factory=list)  # actions taken back, next redo last
    last_time: float | None = None  # of the newest event
    opener: tuple[str, str] = ("", "")  # user (empty in older logs) and machine of the newest session
    labeled_at: list[tuple[str, str]] = field(default_factory=list)  # those of all sessions in which somebody labeled, the newest last

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event, as read from the log; unknown kinds (of a newer lab) are passed over."""
        kind, self.events = event.get("event"), self.events + 1
        self._count_time(event)
        if kind == "open":
            self.labeler = event.get("labeler", self.labeler)
            self.seed = event.get("seed", 0) if self.seed is None else self.seed
            self.opener = event.get("user", ""), event.get("host", "")
        elif kind == "shown":
            self.current, self.shown[event["task"]] = event["task"], tuple(event["order"])
        elif kind == "revisit":
            self.asked, self.asked_at = list(event["tasks"]), self.events
        elif kind == "note":
            self.notes.append(dict(event))
        elif kind in ACTIONS:
            self.done.append({**event, "n": self.events})
            self.undone.clear()
            self.labeled_at = [place for place in self.labeled_at if place != self.opener] + [self.opener]
            self._act(event)
        elif kind == "undo" and self.done:
            self.undone.append(self.done.pop())
            self.current = self.undone[-1]["task"]
            self._replay()
        elif kind == "redo" and self.undone:
            self.done.append(self.undone.pop())
            self._act(self.done[-1])

    @property
    def rankings(self) -> dict[str, Ranking]:
        """The rankings in force by task, silent repeats left out."""
        return {task: ranking for task, ranking in self.submitted.items() if task not in self.repeat_of}

    @property
    def first_submits(self) -> dict[str, Ranking]:
        """How each task was ranked the first time, in that order, of all that was not taken back."""
        first: dict[str, Mapping[str, Any]] = {}
        for event in self.done:
            if event["event"] == "submit":
                first.setdefault(event["task"], event)
        return {task: _ranking_of(event) for task, event in first.items()}

    @property
    def repeated(self) -> list[tuple[Ranking, Ranking]]:
        """(first, second) rankings of the cards that were silently shown twice."""
        pairs = [(self.submitted.get(first), self.submitted.get(task)) for task, first in self.repeat_of.items()]
        return [(first, second) for first, second in pairs if first and second]

    @property
    def queue(self) -> list[str]:
        """Tasks to revisit, next first: a card leaves when it is decided, not when it is shown, and comes back by undo."""
        since = {e["task"] for e in self.done if e["event"] != "draft" and e["n"] > self.asked_at}
        return [task for task in self.asked if task not in since]

    def decided(self, task: str) -> bool:
        """Whether a card is out of the way: ranked, skipped or not judgeable."""
        return task in self.submitted or task in self.aside

    def decisions_since(self, task: str) -> int:
        """How many cards were decided after the latest submit of `task`."""
        decided = [e["task"] for e in self.done if e["event"] != "draft"]
        return decided[::-1].index(task) if task in decided else 0

    def _act(self, event: Mapping[str, Any]) -> None:
        task, kind = event["task"], event["event"]
        if kind == "draft":
            self.drafts[task], self.current = Draft.from_json(event["draft"]), task
            return
        self.current = None
        if kind == "submit":
            self.submitted.pop(task, None)  # the newest stands last, also where a card was worked on again
            ranking = self.submitted[task] = _ranking_of(event)
            self.drafts[task] = Draft(ranking.groups, ranking.ratings, ranking.comment)
            self.aside.pop(task, None)
            if event.get("repeat_of"):
                self.repeat_of[task] = event["repeat_of"]
        elif kind == "cannot_judge" or (kind == "skip" and task not in self.submitted):
            self.submitted.pop(task, None)
            self.aside[task] = (kind, event.get("reason", ""))
        elif task in self.submitted:  # left as it was; older logs say "skip" of that too
            ranking = self.submitted[task] = replace(self.submitted[task], comment=self.drafts[task].comment)
            self.drafts[task] = Draft(ranking.groups, ranking.ratings, ranking.comment)

    def _replay(self) -> None:
        current = self.current
        for derived in (self.drafts, self.submitted, self.repeat_of, self.aside):
            derived.clear()
        for event in self.done:
            self._act(event)
        self.current = current

    def _count_time(self, event: Mapping[str, Any]) -> None:
        now = float(event.get("time", 0.0))
        if self.last_time is not None and event.get("event") != "open" and self.current is not None:
            gap = min(max(now - self.last_time, 0.0), IDLE_SECONDS)
            self.spent[self.current] = self.spent.get(self.current, 0.0) + gap
        self.last_time = now


def _ranking_of(submit: Mapping[str, Any]) -> Ranking:
    """The ranking of a submit; the log keeps its comment beside it."""
    return replace(Ranking.from_json(submit["ranking"]), comment=submit.get("comment") or "")


def fold(events: Iterable[Mapping[str, Any]]) -> LabelState:
    """The state after all `events`."""
    state = LabelState()
    for event in events:
        state.apply(event)
    return state
