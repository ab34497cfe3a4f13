"""LabelSession: one labeler going through comparison cards, as on the paper's screen (Fig. 12), without any view.

The session says which card is up and in which order its completions stand, keeps the draft, and turns a submit into
a stored `Ranking`. A widget, a terminal or a test drives it through the same few calls:

    session = LabelSession(tasks, "ann", labels_path("runs/tour", "ann"), seed=0, repeat_share=0.1)
    card = session.current                      # Task or None when all is done
    session.save_draft(Draft(groups=(("b",), ("a", "c")), ratings={"b": Rating(likert=6)}))
    stored = session.submit()                   # .ranking, .echo, .warnings; session.current is the next card
    session.undo(); session.redo()              # reach back past submits and restarts
    session.skip("too long"); session.cannot_judge("needs a chemist")

Everything is durable when the call returns (see store.py), and a new session on the same log stands exactly where
the old one stood. Calls may come from any thread. Model names stay inside `Task.completions`: show `Task.cards`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import DataError
from labkit.labels import reports
from labkit.labels.store import Draft, LabelLog, LabelState, MemoryLog, read_log
from labkit.labels.tasks import Card, Task, build_tasks, silent_repeats, task_id
from labkit.seeds import derive_seed
from labkit.types import Completion, Prompt, Ranking

__all__ = ["Card", "LabelSession", "Stored", "Task", "task_id"]

#: A silent repeat comes at least this many decisions after the first showing, where that many cards are left.
REPEAT_GAP = 5

#: What `undo` and `redo` call an action, where not by its own name.
_ACTED = {"cannot_judge": "cannot judge", "leave": "left as it was"}

Score = Callable[[Prompt, tuple[Completion, ...]], float]


@dataclass(frozen=True)
class Stored:
    """What a submit left on the disk, the sentence that says so, and soft warnings about it."""

    task: Task
    ranking: Ranking
    echo: str
    warnings: tuple[str, ...] = ()


class LabelSession:
    """One labeler's way through `tasks`; see the module's docstring for the calls.

    tasks: (prompt, completions) pairs, K = 2..26 completions each.
    log_path: the labeler's log (`labels_path`), or None to keep nothing (a demonstration).
    seed: of the shuffled orders, random picks and repeats; the seed of the first opening is stored and stays in force.
    repeat_share: share of the tasks shown a second time, silently, for self-consistency.
    score: optional (prompt, completions) -> uncertainty; the next card is then the most uncertain open one, except for
        a `random_share` of picks at random, which keeps the sample honest. Without a score: the order of `tasks`.
        Asked for every open card at each step (cache it); may be set later; a failure is told in `score_error`, which
        stands until the next choice.
    require: what a submit needs: "rank" (two completions ranked) and/or "rate" (each completion has a Likert rating).
    watch: only show what the log holds, as where nobody is there to label: nothing is written, and whoever holds the
        board open elsewhere goes on.
    """

    def __init__(
        self,
        tasks: Iterable[tuple[Prompt, Sequence[Completion]]],
        labeler: str,
        log_path: str | Path | None,
        *,
        seed: int = 0,
        repeat_share: float = 0.0,
        score: Score | None = None,
        random_share: float = 0.2,
        require: Sequence[str] = ("rank",),
        clock: Callable[[], float] = time.time,
        watch: bool = False,
    ) -> None:
        if not (0 <= repeat_share <= 1 and 0 <= random_share <= 1):
            shares = f"repeat_share is {repeat_share} and random_share {random_share}"
            raise DataError(f"{shares}; both are shares between 0 and 1.")
        if not require or set(require) - {"rank", "rate"}:
            raise DataError(f"require is {tuple(require)!r}; name 'rank', 'rate' or both.")
        self.labeler, self.score, self.random_share, self.require = labeler, score, random_share, tuple(require)
        self.score_error = ""  # why the last choice by `score` failed, if it did
        self.lock = threading.RLock()
        opening = {"seed": seed, "clock": clock}
        written = LabelLog(log_path, labeler, **opening) if log_path and not watch else None
        self._log = written or MemoryLog(labeler, **opening, state=read_log(log_path) if log_path and Path(log_path).exists() else None)
        self.seed = int(self.state.seed or 0)
        self.tasks = build_tasks(tasks, labeler, self.seed)
        repeats = silent_repeats(self.tasks, repeat_share, labeler, self.seed, self.state.shown)
        self._by_id = {task.id: task for task in [*self.tasks, *repeats]}
        self._settle()

    # -- what is up ------------------------------------------------------------------------------------------------

    @property
    def state(self) -> LabelState:
        """What the log amounts to: rankings, drafts, skipped cards, time spent. Read it; never change it."""
        return self._log.state

    @property
    def current(self) -> Task | None:
        """The card that is up, or None when every task is decided."""
        return self._by_id.get(self.state.current or "")

    @property
    def draft(self) -> Draft:
        """The draft of the current card; empty at first. A card that is revisited starts from what was submitted."""
        return self.state.drafts.get(self.state.current or "", Draft())

    @property
    def rankings(self) -> list[Ranking]:
        """The rankings in force for this session's tasks, in task order; silent repeats are left out."""
        return [self.state.submitted[t.id] for t in self.tasks if t.id in self.state.submitted]

    @property
    def first_and_now(self) -> list[tuple[Ranking, Ranking]]:
        """(as first submitted, as it stands) of each ranking in force, in the order of the first submits.

        A card that comes back has been seen beside a model's order; how it was ranked first is blind, and its place stays.
        """
        now = {t.id: self.state.submitted[t.id] for t in self.tasks if t.id in self.state.submitted}
        return [(first, now[task]) for task, first in self.state.first_submits.items() if task in now]

    # -- what a labeler does ---------------------------------------------------------------------------------------

    def save_draft(self, draft: Draft) -> None:
        """Keep the card as it now stands; one undoable move. A draft equal to the one kept changes nothing."""
        with self.lock:
            task = self._up()
            if draft.check(task.shown) != self.draft:
                self._log.append("draft", task=task.id, draft=draft.to_json())

    def submit(self, draft: Draft | None = None) -> Stored:
        """Store the current card's ranking (of `draft`, or of the draft kept) and go to the next card."""
        with self.lock:
            task = self._up()
            draft = (self.draft if draft is None else draft).check(task.shown)
            self._check_complete(task, draft)
            ranking = self._ranking(task, draft)
            more = {"repeat_of": task.repeat_of} if task.repeat_of else {}
            self._log.append("submit", task=task.id, ranking=ranking.to_json(), comment=draft.comment, **more)
            self._settle()
            ranking = self.state.submitted[task.id]
            return Stored(task, ranking, reports.echo(ranking), tuple(reports.contradictions(ranking)))

    def skip(self, reason: str = "") -> bool:
        """Put the current card aside without judging it. One that was decided before stays as it was, unless it was put
        aside and there is a new reason. What was changed on a ranked card goes, its note stays. Returns whether it was left as it was.
        """
        with self.lock:
            task = self._up().id
            left = task in self.state.submitted or (task in self.state.aside and not reason.strip())
            self._set_aside("leave" if left else "skip", reason)
            return left

    def cannot_judge(self, reason: str) -> None:
        """Say that the current card cannot be judged, and why; the reason is required. A ranking that it has is withdrawn."""
        if not reason.strip():
            raise DataError("Cannot judge needs a reason, one phrase for whoever reads the labels: 'needs a chemist'.")
        self._set_aside("cannot_judge", reason.strip())

    def undo(self) -> str | None:
        """Take back the last action, even a submit from before a restart; says what, or None if there is none."""
        return self._travel("undo", self.state.done)

    def redo(self) -> str | None:
        """Repeat the last action taken back; says what, or None if there is none."""
        return self._travel("redo", self.state.undone)

    @property
    def can_undo(self) -> bool:
        return bool(self.state.done) and self.state.done[-1]["task"] in self._by_id

    @property
    def can_redo(self) -> bool:
        return bool(self.state.undone) and self.state.undone[-1]["task"] in self._by_id

    def note(self, text: str, task: str | None = None) -> None:
        """Keep a free remark on a task, by default the current one (on the session, when none is up)."""
        with self.lock:
            self._log.append("note", task=task or self.state.current, text=text)

    def show(self, task: str) -> Task:
        """Bring up any task by its id, decided or not: to go back to a card from the history."""
        with self.lock:
            if task not in self._by_id:
                raise DataError(f"There is no task {task!r} in this session; `session.tasks` lists the ids.")
            self._show(task, "asked")
            return self._by_id[task]

    def revisit(self, tasks: Sequence[str]) -> None:
        """Show these tasks again before any other, first one first: for example the worst disagreements with the RM.

        The card that is up stays up until it is decided: it may be in somebody's hands, down to a reason half typed.
        """
        with self.lock:
            self._log.append("revisit", tasks=[t for t in tasks if t in self._by_id])
            self._settle()

    @property
    def coming(self) -> int:
        """How many cards that were asked for by `revisit` come after the one that is up."""
        return sum(t in self._by_id and t != self.state.current for t in self.state.queue)

    def close(self) -> None:
        """Give up the log file; the session can be read but not changed any more."""
        self._log.close()

    # -- what a view tells -----------------------------------------------------------------------------------------

    def warnings(self, draft: Draft | None = None) -> list[str]:
        """Soft warnings where Likert, flags and rank of the current draft contradict each other."""
        task = self.current
        if task is None:
            return []
        return reports.contradictions(self._ranking(task, self.draft if draft is None else draft))

    def progress(self) -> reports.Progress:
        """Cards done and left, pace and time left; silent repeats count, unless their first showing was put aside."""
        state = self.state
        asked = [t.id for t in self._by_id.values() if t.repeat_of not in state.aside or state.decided(t.id)]
        return reports.progress(state, asked)

    @property
    def repeats(self) -> int:
        """How many cards come a second time, silently; which ones is not told."""
        return len(self._by_id) - len(self.tasks)

    def history(self) -> list[reports.HistoryRow]:
        """What was decided, newest first, in words; `.task` can be given to `show`."""
        return reports.history(self.state, self._by_id)

    def position_bias(self) -> reports.PositionBias:
        """Whether the completion shown earlier wins more often than the one shown later."""
        return reports.position_bias(self.rankings, seed=self.seed)

    def self_consistency(self) -> reports.Consistency:
        """How far the labeler agrees with their own first ranking on silently repeated cards."""
        return reports.self_consistency(self.state.repeated, seed=self.seed)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _up(self) -> Task:
        task = self.current
        if task is None:
            raise DataError("Every card is decided; undo, or bring one up from the history.")
        return task

    def _check_complete(self, task: Task, draft: Draft) -> None:
        if "rank" in self.require and len(draft.ranked) < 2:
            raise DataError(
                "Rank at least two completions before submitting, or skip the card, or say it cannot be judged."
            )
        rated = {i for i, rating in draft.ratings.items() if rating.likert is not None}
        unrated = [task.labels[i] for i in task.shown if i not in rated]
        if "rate" in self.require and unrated:
            raise DataError(f"Completion {unrated[0]} has no Likert rating yet; rate each from 1 to 7, then submit.")

    def _ranking(self, task: Task, draft: Draft) -> Ranking:
        return Ranking(
            prompt=task.prompt,
            completions=task.completions,
            groups=draft.order,
            labeler=self.labeler,
            ratings=dict(draft.ratings),
            seconds=round(self._log.seconds(task.id), 3),
            shown=task.shown,
        )

    def _set_aside(self, kind: str, reason: str) -> None:
        with self.lock:
            task = self._up()
            card = {"prompt": task.prompt.to_json(), "completions": [c.to_json() for c in task.completions]}
            self._log.append(kind, task=task.id, reason=reason, **({} if kind == "leave" else {"card": card}))
            self._settle()

    def _travel(self, direction: str, stack: list[dict[str, Any]]) -> str | None:
        with self.lock:
            if not stack or stack[-1]["task"] not in self._by_id:
                return None
            action = stack[-1]
            self._log.append(direction)
            self._settle()
            verb, what = ("Took back" if direction == "undo" else "Repeated"), _ACTED.get(action["event"], action["event"])
            return f"{verb}: {what} on prompt {self._by_id[action['task']].prompt.id}."

    def _settle(self) -> None:
        """Make sure that a card is up and that its showing is on record."""
        if self.current is None:
            chosen = self._next()
            if chosen:
                self._show(*chosen)
        elif self.current.id not in self.state.shown:
            self._show(self.current.id, "asked")

    def _show(self, task: str, why: str) -> None:
        self._log.append("shown", task=task, order=list(self._by_id[task].shown), why=why)

    def _next(self) -> tuple[str, str] | None:
        state = self.state
        queued = next((t for t in state.queue if t in self._by_id), None)
        if queued:
            return queued, "revisit"
        open_tasks = [t for t in self.tasks if not state.decided(t.id)]
        repeats = [t for t in self._by_id.values() if t.repeat_of in state.submitted and not state.decided(t.id)]
        due = [t for t in repeats if state.decisions_since(t.repeat_of) >= REPEAT_GAP or not open_tasks]
        if due:
            return due[0].id, "repeat"
        return self._pick(open_tasks) if open_tasks else None

    def _pick(self, tasks: list[Task]) -> tuple[str, str]:
        self.score_error = ""
        if self.score is None:
            return tasks[0].id, "order"
        lot = random.Random(derive_seed(self.seed, self.labeler, self.state.events, "next"))
        if lot.random() < self.random_share:
            return lot.choice(tasks).id, "random"
        try:
            return max(tasks, key=lambda t: float(self.score(t.prompt, t.completions))).id, "uncertain"
        except Exception as error:  # the label is stored already: a failing score must not look like a failed submit
            reason = f"{type(error).__name__}: {error}"
            self.score_error = f"The next card could not be chosen by uncertainty ({reason}); it comes in order."
            return tasks[0].id, "order"
