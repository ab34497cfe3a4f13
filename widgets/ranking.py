"""RankingBoard: label a small comparison set inside the notebook, by mouse, keyboard or screen reader.

    session = LabelSession(tasks, "ann", labels_path("runs/tour", "ann"))
    board = RankingBoard(session, actions={"Train the RM on these": train})
    board

One prompt and its K = 2..9 completions are on the screen. As in the paper (Fig. 12) each completion is first rated by
itself, overall quality 1-7 and the flags of Table 3, then all are ranked, ties allowed; `rate=False` or `rank=False`
switches a part off. The board is a view on a `LabelSession`: it opens no file and knows no model. What comes from the
page is checked here once more before the session sees it; which model wrote what reaches the page only after a submit,
and with `blind=True` not even then: who has seen one model's answers by name is no longer a blind judge of the next ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import traitlets

from labkit.errors import DataError, LabError, SettingsError
from labkit.labels.disagreement import worst_first
from labkit.labels.session import LabelSession, Stored, Task
from labkit.types import Ranking
from widgets import ranking_twin
from widgets.assets import css, esm
from widgets.board import Board
from widgets.ranking_page import clean, draft_to_page, flag_chips, read_draft, row_key, text_of

__all__ = ["RankingBoard"]

MAX_CARDS = 9  # one digit each, as many as the paper shows
MAX_PAGES = 16  # that are answered at once; each reload of one makes another
STANDS = {"ranked": "ranked", "skip": "skipped", "cannot_judge": "not to be judged"}  # what a decided card is
MAX_HISTORY = 50  # decided cards that the page lists; the log has them all
Reveal = Callable[[Ranking], Mapping[str, Any]]
Remark = Callable[[Ranking], str]
Action = Callable[[Callable[[str], None]], Any]


class RankingBoard(Board):
    """A view on `session`; see the module's docstring.

    on_submit: called with each stored `Ranking`; an error it raises is shown under the board, the label stays stored.
    rate, rank: switch a part off.
    actions: buttons under the board. Each callable runs in a thread of its own, gets `report(text)` for progress lines,
        and may return a closing sentence: {"Train the RM on these": lambda report: ...}.
    reveal: ranking -> short text by completion id, shown in the echo after the submit (say, the RM's scores).
    remark: ranking -> a sentence on the whole card, shown there as well (say, how the RM orders it).
    blind: True: which model wrote what is never told, for an evaluation by people.
    """

    _esm = esm("ranking")
    _css = css("board", "ranking")
    card = traitlets.Dict().tag(sync=True)  # the prompt and its anonymous texts; changes with the turn
    view = traitlets.Dict().tag(sync=True)  # everything small: draft, progress, warnings, echo, errors
    jobs = traitlets.List().tag(sync=True)  # the action buttons and what their threads report

    def __init__(
        self,
        session: LabelSession,
        on_submit: Callable[[Ranking], Any] | None = None,
        *,
        rate: bool = True,
        rank: bool = True,
        actions: Mapping[str, Action] | None = None,
        reveal: Reveal | None = None,
        remark: Remark | None = None,
        blind: bool = False,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - set(self.trait_names()))
        if unknown:
            known = "on_submit, rate, rank, actions, reveal, remark, blind, layout"
            raise TypeError(f"RankingBoard has no argument {unknown[0]!r}; it takes a session and {known}.")
        _check(session, rate, rank)
        self.session, self.on_submit, self.blind = session, on_submit, blind
        self.reveal, self.remark = reveal, remark
        self.modes = [mode for mode, on in (("rate", rate), ("rank", rank)) if on]
        self._actions = dict(actions or {})
        self._lock = threading.RLock()
        self._turn, self._task = 0, ("", "")  # the card that is up, and what was decided on it before
        self._turns: dict[int, str] = {}  # which task was up at each turn
        self._acks: dict[str, int] = {}  # newest message of each page that shows this board, the latest page last
        self._last: dict[str, Any] = {"echo": None, "error": "", "message": "", "refused": False, "by": ""}
        super().__init__(**kwargs)
        self.jobs = [{"name": name, "running": False, "lines": []} for name in self._actions]
        self.on_msg(lambda _, content, buffers: self._receive(content))
        self.refresh()

    # -- for the notebook ------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the session as it now stands, after something else than this board has moved it."""
        with self._lock:
            task = self.session.current
            up = (task.id, self._decided(task)) if task else ("", "")
            if up != self._task or not self._turn:
                self._turn, self._task = self._turn + 1, up
                self._turns[self._turn] = up[0]
            with self.hold_sync():
                self.card = self._card(task)
                self.view = self._view(task)

    def worst_disagreements(self, scores: Callable[[Ranking], Mapping[str, float]], count: int = 5) -> list[Ranking]:
        """The rankings that an RM contradicts most, worst first; `scores` gives its score by completion id."""
        return worst_first(self.session.rankings, scores)[:count]

    def revisit(self, rankings: list[Ranking]) -> None:
        """Bring these rankings' cards back after the one that is up, first one first; their earlier ranks stand in the draft."""
        wanted = [(r.prompt.id, frozenset(c.id for c in r.completions)) for r in rankings]
        tasks = {(t.prompt.id, frozenset(c.id for c in t.completions)): t.id for t in self.session.tasks}
        self.session.revisit([tasks[key] for key in wanted if key in tasks])
        self.refresh()

    def twin(self) -> dict[str, Any]:
        """The cards, as text and a table."""
        return ranking_twin.bundle(self.session, self.modes, blind=self.blind)

    def static(self) -> list[dict[str, Any]]:
        """A figure of the rankings, where there are cards, and the cards."""
        figure = [ranking_twin.figure(self.session, blind=self.blind)] if self.session.tasks else []
        return [*figure, self.twin()]

    # -- from the page ---------------------------------------------------------------------------------------------

    def _receive(self, content: Any) -> None:
        """Do what the page asks, and show the outcome; an error becomes a sentence under the board."""
        with self._lock:
            self._last.update(error="", message="", refused=True, by=self._acknowledge(content))
            try:
                self._obey(content)
                self._last["refused"] = False
            except LabError as error:
                self._last["error"] = str(error)
            except Exception as error:  # whatever went wrong must not vanish into the kernel's log
                self._last["error"] = f"{type(error).__name__}: {error}"
            self.refresh()

    def _acknowledge(self, content: Any) -> str:
        """Note the number of a message for the page that sent it, and no other; returns the page's name, empty where it has none."""
        client, seq = (content.get(name) if isinstance(content, dict) else None for name in ("client", "seq"))
        if not isinstance(client, str) or isinstance(seq, bool) or not isinstance(seq, int):
            return ""
        client = client[:32]
        known = [(name, number) for name, number in self._acks.items() if name != client]
        self._acks = dict([*known, (client, seq)][-MAX_PAGES:])
        return client

    def _obey(self, content: Any) -> None:
        if not isinstance(content, dict):
            raise DataError("The page sent something that is no message; reload the page.")
        kind, task = content.get("do"), self.session.current
        if kind in {"draft", "submit", "skip", "cannot_judge"}:
            if task is None or content.get("turn") != self._turn:
                raise DataError("That card is no longer up; the board now shows the current one. Nothing was changed.")
            self._on_card(kind, task, content)
        elif kind in {"undo", "redo"}:
            self._last.update(echo=None, message=getattr(self.session, kind)() or f"Nothing to {kind}.")
        elif kind == "show":
            found = [row.task for row in self.session.history() if row_key(row) == content.get("row")]
            if not found:
                raise DataError("That card is not among the decided ones any more; the list now shows those that are. Nothing was changed.")
            self.session.show(found[0])
        elif kind == "note":
            self.session.note(text_of(content.get("text"), "note"), self._task_at(content.get("turn")))
        elif kind == "action":
            self._start(content.get("name"))
        elif kind != "hello":
            raise DataError(f"The page asked for {kind!r}, which the board does not know; reload the page.")

    def _task_at(self, turn: Any) -> str:
        """The task that was up at a turn of this board."""
        if isinstance(turn, bool) or not isinstance(turn, int) or not self._turns.get(turn):
            raise DataError("The page sent a note on a card that this board never showed; reload the page.")
        return self._turns[turn]

    def _on_card(self, kind: str, task: Task, content: Mapping[str, Any]) -> None:
        if kind in {"skip", "cannot_judge"}:
            self._last["echo"] = {"text": clean(self._aside(kind, task, text_of(content.get("reason"), "reason"))), "rows": [], "warnings": []}
        else:
            draft = read_draft(content.get("draft"), task, self.modes, self.session.draft)
            if kind == "draft":
                self.session.save_draft(draft)
                return
            stored = self.session.submit(draft)
            self._last["echo"] = self._echo(stored)
            if self.on_submit:
                self._call_back(lambda: self.on_submit(stored.ranking), "Stored, but on_submit failed")

    def _aside(self, kind: str, task: Task, reason: str) -> str:
        """Put a card aside, or leave it as it was; returns what became of it and of what was stored on it, and the way back."""
        session, named = self.session, f"prompt {task.prompt.id}"
        ranking, draft = session.state.submitted.get(task.id), session.draft
        left = session.skip(reason) if kind == "skip" else session.cannot_judge(reason)
        what, stored = session.state.aside.get(task.id, ("ranked", ""))
        why = f": {stored.strip()}" if stored.strip() else ""
        if left:
            changed = ranking is not None and (draft.order, draft.ratings) != (ranking.groups, ranking.ratings)
            taken = " What was changed on it is taken back; undo brings it again." if changed else ""
            return f"Left as it was: {named}, {STANDS[what]}{why}.{taken}"
        if kind == "skip":
            return f"Skipped {named}{why}. It can be opened again under Decided cards."
        withdrawn = " Its ranking is withdrawn; undo brings it back." if ranking else ""
        return f"Stored: {named} cannot be judged{why}.{withdrawn}"

    def _call_back(self, call: Callable[[], Any], what: str) -> Any:
        try:
            return call()
        except Exception as error:
            self._last["error"] = f"{what}: {type(error).__name__}: {error}"
            return None

    # -- to the page -----------------------------------------------------------------------------------------------

    def _card(self, task: Task | None) -> dict[str, Any]:
        if task is None:
            return {"turn": self._turn, "prompt": "", "use_case": "", "cards": [], "decided": ""}
        return {
            "turn": self._turn,
            "prompt": clean(task.prompt.text),
            "use_case": task.prompt.use_case,
            "cards": [{"label": card.label, "text": clean(card.text)} for card in task.cards],
            "decided": self._decided(task),
        }

    def _decided(self, task: Task) -> str:
        """What the card that is up was decided to be before: ranked, skip, cannot_judge, or nothing yet."""
        state = self.session.state
        return "ranked" if task.id in state.submitted else state.aside.get(task.id, ("",))[0]

    def _view(self, task: Task | None) -> dict[str, Any]:
        session = self.session
        return {
            **self._last,
            "acks": self._acks,
            "turn": self._turn,
            "labeler": session.labeler,
            "modes": self.modes,
            "flags": flag_chips(),
            "draft": draft_to_page(session.draft, task) if task else None,
            "warnings": [clean(w) for w in session.warnings()] if task else [],
            "notice": clean(session.score_error) if task else "",
            "progress": _progress(session),
            "coming": session.coming if task else 0,
            "can_undo": session.can_undo,
            "can_redo": session.can_redo,
            "history": [
                {"key": row_key(row), "prompt": clean(row.prompt_id), "what": row.what, "text": clean(row.text)}
                for row in session.history()[:MAX_HISTORY]
            ],
            "closing": [] if task else ranking_twin.closing(session),
        }

    def _echo(self, stored: Stored) -> dict[str, Any]:
        """What was stored, with what was hidden until now: the models' names (unless blind), scores, a remark."""
        ranking = stored.ranking
        extra = self._told(self.reveal, ranking, "reveal") if self.reveal else {}
        remark = self._told(self.remark, ranking, "remark") if self.remark else ""
        return {
            "text": clean(stored.echo),
            "rows": self._rows(stored, extra or {}) if extra or not self.blind else [],
            "warnings": [clean(w) for w in stored.warnings],
            "remark": clean(str(remark or "")),
        }

    def _told(self, tell: Callable[[Ranking], Any], ranking: Ranking, name: str) -> Any:
        return self._call_back(lambda: tell(ranking), f"Stored, but {name} failed")

    def _rows(self, stored: Stored, extra: Mapping[str, Any]) -> list[dict[str, Any]]:
        """One row per card of the echo, best first."""
        ranks, models = stored.ranking.ranks, {c.id: c.model or "unknown" for c in stored.ranking.completions}
        rows = [
            {"label": letter, "rank": ranks.get(i), "model": "" if self.blind else clean(models[i]), "extra": clean(str(extra.get(i, "")))}
            for i, letter in stored.task.labels.items()
        ]
        return sorted(rows, key=lambda row: (row["rank"] or MAX_CARDS + 1, row["label"]))

    # -- actions ---------------------------------------------------------------------------------------------------

    def _start(self, name: Any) -> None:
        if name not in self._actions:
            raise DataError(f"The board has no action {name!r}; it has {', '.join(self._actions) or 'none'}.")
        if any(job["running"] for job in self.jobs):
            raise DataError("An action is running; wait until it is done.")
        self._job(name, running=True, lines=[])
        threading.Thread(target=self._work, args=(name,), name=f"board: {name}", daemon=True).start()

    def _work(self, name: str) -> None:
        lines: list[str] = []

        def report(text: str) -> None:
            lines.append(clean(str(text)))
            self._job(name, running=True, lines=lines[-200:])

        try:
            closing = self._actions[name](report)
            if isinstance(closing, str):
                lines.append(clean(closing))
        except Exception as error:
            lines.append(
                f"Failed: {error}" if isinstance(error, LabError) else f"Failed: {type(error).__name__}: {error}"
            )
        self._job(name, running=False, lines=lines[-200:])
        self.refresh()

    def _job(self, name: str, *, running: bool, lines: list[str]) -> None:
        with self._lock:
            fresh = {"name": name, "running": running, "lines": list(lines)}
            self.jobs = [fresh if job["name"] == name else job for job in self.jobs]


def _progress(session: LabelSession) -> dict[str, Any]:
    now = session.progress()
    return {
        "done": now.total - now.left,
        "total": now.total,
        "skipped": now.skipped,
        "not_judged": now.not_judged,
        "pace": now.seconds_per_card,
        "eta": now.eta_seconds,
    }


def _check(session: LabelSession, rate: bool, rank: bool) -> None:
    if not isinstance(session, LabelSession):
        kind = type(session).__name__
        raise SettingsError(f"A RankingBoard shows a LabelSession, not a {kind}; give LabelSession(tasks, labeler, labels_path(run, labeler)).")
    needed = {"rate": rate, "rank": rank}
    if not any(needed.values()):
        raise SettingsError("rate=False and rank=False leave nothing to do; switch on at least one of them.")
    for part in session.require:
        if not needed[part]:
            raise SettingsError(
                f"{part}=False, but the session requires it; build LabelSession(..., require=...) without {part!r}."
            )
    for task in session.tasks:
        if len(task.completions) > MAX_CARDS:
            raise DataError(
                f"Prompt {task.prompt.id!r} has {len(task.completions)} completions; a board shows at most {MAX_CARDS}."
            )
