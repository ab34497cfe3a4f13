"""RewardInspector: why did it get that score?

    rows = rows_of({"sft": run.stage("sft"), "ppo_ptx": run.stage("ppo_ptx")})
    RewardInspector(rows, scorer=text_scorer(rm, tokenizer), explain=lambda row: token_view(...), rankings=held_out)

A table of responses of any run and step, with `batches` also the whole batch of one; the responses of one prompt side by
side; one response token by token; a box to edit a text and score it at once; what the reward model is worth on rankings;
probes for hacking. Every part beyond the table appears when the function it needs is given. The inspector knows no model
and opens no file: functions of labkit do the work in one thread of its own, and their errors appear on the board.
"""

from __future__ import annotations

import base64
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from random import Random
from typing import Any

import traitlets

from labkit.errors import DataError, LabError
from labkit.evaluation.probes import run_probes
from labkit.figures import accuracy_by, by_ranking, calibration, pair_rows, reward_against_length, reward_histogram
from labkit.figures.png import draw_png
from widgets import display, inspector_twin
from widgets.assets import css, esm
from widgets.board import Board
from widgets.inspector_rows import Batches, batches_of, rows_of

__all__ = ["RewardInspector", "batches_of", "rows_of"]

MAX_ROWS = 5000
MAX_TEXT = 20_000  # characters of one text that go to the page
MAX_BATCH = 1000  # episodes of one step that go to the page
MAX_PROBED = 200  # responses that one press of the button probes
UNSEEN = ("token_ids", "seed")  # of a row, what stays in Python until it is exported: too much, or too many digits, for a page
NEWEST_ONLY = ("rescore", "explain")  # requests of which, where they pile up, only the newest of a page is answered
Scorer = Callable[[Sequence[str], Sequence[str], Sequence[bool]], Sequence[float]]


class RewardInspector(Board):
    """The board over `rows`: mappings with `prompt`, `response`, and as known source, step, score, gold, kl, length.

    scorer: (prompts, responses, finished) -> scores, for the edit box, the probes and the reward-model page.
    explain: row -> `labkit.evaluation.token_view.TokenView`. rankings: `Ranking`s to judge the scorer by.
    batches: (source, step) -> rows of all that this step sampled, as `batches_of` gives it; the page holds one batch at a time.
    """

    _esm = esm("inspector")
    _css = css("board", "inspector")
    rows = traitlets.List().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)  # the token view of one row
    edited = traitlets.Dict().tag(sync=True)  # the newest answer of the edit box
    report = traitlets.Dict().tag(sync=True)  # figures and disagreements of the reward model
    probes = traitlets.Dict().tag(sync=True)
    batch = traitlets.Dict().tag(sync=True)  # the whole batch of one step, the newest that was asked for
    notice = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        scorer: Scorer | None = None,
        explain: Callable[[Mapping[str, Any]], Any] | None = None,
        rankings: Sequence[Any] = (),
        batches: Batches | None = None,
        title: str = "Reward inspector",
    ) -> None:
        rows = list(rows) if isinstance(rows, Iterable) else [rows]
        for place, row in enumerate(rows):
            if not isinstance(row, Mapping) or not isinstance(row.get("prompt"), str) or not isinstance(row.get("response"), str):
                raise DataError(
                    f"Row {place} has no prompt and response as text; the inspector shows responses to prompts, each a dict with these two "
                    "(of a DataFrame, its to_dict('records'))."
                )
        shown = [_clean(row, place) for place, row in enumerate(rows)]
        self.scorer, self.explain, self.rankings, self.batches = scorer, explain, list(rankings), batches
        self._all, self._work = shown, SimpleQueue()
        self._unseen = {place: unseen for place, row in enumerate(rows) if (unseen := _unseen(row))}
        self._batches: dict[tuple[str, int], dict[str, Any]] = {}
        self._every = list(shown)  # by place: these rows, then those of the batches that were asked for
        self._views: dict[int, dict[str, Any]] = {}
        self._answers = 0
        left = max(0, len(shown) - MAX_ROWS)
        parts = {"scorer": scorer is not None, "explain": explain is not None, "rankings": bool(self.rankings)}
        parts["batches"] = batches is not None
        told = {"offered": {key: _offered(shown, key) for key in ("source", "step")}, "unseen": _names(self._unseen.values())}
        super().__init__(rows=shown[left:], spec={"title": title, "left_out": left, **parts, **told})
        self.on_msg(self._hear)
        if not display.is_headless():
            threading.Thread(target=_serve, args=(self._work,), name="inspector", daemon=True).start()

    # -- from the page: every request is done in the inspector's own thread ----------------------------------------

    def _hear(self, _: Any, message: Any, buffers: Any = None) -> None:
        self._work.put((self, message if isinstance(message, Mapping) else {}))

    def obey(self, message: Mapping[str, Any]) -> None:
        """Do what a message asks; an error becomes a sentence on the board."""
        tasks = {"explain": self._explain, "rescore": self._rescore, "report": self._report, "probe": self._probe}
        task = {**tasks, "batch": self._batch, "unseen": self._tell_unseen}.get(message.get("kind", ""))
        if task is None:
            return
        by = str(message.get("client", ""))[:32]
        self.notice = {"text": "Working …", "bad": False, "by": by}
        try:
            task(message)
            self.notice = {}
        except LabError as error:
            self.notice = {"text": str(error), "bad": True, "by": by}
        except Exception as error:  # whatever went wrong must not vanish into the kernel's log
            self.notice = {"text": f"{type(error).__name__}: {error}", "bad": True, "by": by}

    def _row(self, message: Mapping[str, Any]) -> dict[str, Any]:
        place = message.get("row")
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(self._every):
            raise DataError("The page asked for a row that is not in the table; reload the page.")
        return self._every[place]

    def _explain(self, message: Mapping[str, Any]) -> None:
        row = self._row(message)
        if self.explain is not None:
            self.view = self._numbered(self._view(row))

    def _numbered(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The answer with a number of its own: an equal dict would not be sent, and a page that asks again would wait."""
        self._answers += 1
        return {**answer, "answer": self._answers}

    def _view(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The token view of a row, computed once; of its own tokens, where they are known."""
        if row["row"] not in self._views:
            ids = self._unseen.get(row["row"], {}).get("token_ids")
            seen = self.explain({**row, "token_ids": ids} if ids else row)
            columns = {name: [_number(v) for v in values] for name, values in seen.columns.items()}
            self._views[row["row"]] = {
                "row": row["row"],
                "tokens": list(seen.tokens),
                "columns": columns,
                "score": _number(seen.score),
                "note": str(seen.facts.get("note", "")),  # whose numbers they are, where that is not plain
            }
        return self._views[row["row"]]

    def _rescore(self, message: Mapping[str, Any]) -> None:
        row, text, finished = (
            self._row(message),
            str(message.get("text", ""))[:MAX_TEXT],
            bool(message.get("finished", True)),
        )
        if self.scorer is not None:
            old, new = self.scorer(
                [row["prompt"]] * 2, [row["response"], text], [row.get("finished") is not False, finished]
            )
            answer = {"row": row["row"], "text": text, "finished": finished}
            self.edited = self._numbered({**answer, "before": _number(old), "score": _number(new)})

    def _batch(self, message: Mapping[str, Any]) -> None:
        source, step = message.get("source"), message.get("step")
        if not isinstance(source, str) or isinstance(step, bool) or not isinstance(step, int):
            return
        if (source, step) not in self._batches:
            found = self._kept(source, step) or self._not_on_the_page(source, step)
            if found is None:
                if self.batches is None:
                    return
                raise DataError(
                    f"No whole batch of step {step} of {source} is kept: only PPO's steps keep theirs, since completions.jsonl is written. "
                    "The table shows the samples that the step itself has."
                )
            self._batches[source, step] = {"source": source, "step": step, **found}
        self.batch = self._numbered(self._batches[source, step])

    def _kept(self, source: str, step: int) -> dict[str, Any] | None:
        """The whole batch of a step as rows that go behind those that are there, or None."""
        kept = self.batches(source, step) if self.batches is not None else []
        if not kept:
            return None
        first, found = len(self._every), kept[:MAX_BATCH]
        rows, unseen = [_clean(row, first + i) for i, row in enumerate(found)], [_unseen(row) for row in found]
        self._unseen |= {first + i: parts for i, parts in enumerate(unseen) if parts}
        self._every += rows
        return {"rows": rows, "whole": True, "left_out": len(kept) - len(rows), "unseen": _names(unseen)}

    def _not_on_the_page(self, source: str, step: int) -> dict[str, Any] | None:
        """The samples of a step that is older than the rows on the page, or None where all of them are there."""
        own = [row for row in self._all if str(row.get("source")) == source and row.get("step") == step]
        return {"rows": own, "whole": False, "left_out": 0, "unseen": []} if own and own[0]["row"] < self.spec["left_out"] else None

    def _tell_unseen(self, message: Mapping[str, Any]) -> None:
        """Answer a page that exports rows with what it does not hold of them; this is sent once, and never a part of the notebook."""
        rows = {str(i): self._unseen[i] for i in message.get("rows") or [] if isinstance(i, int) and i in self._unseen}
        self.send({"kind": "unseen", "client": message.get("client"), "number": message.get("number"), "rows": rows})

    def _probe(self, message: Mapping[str, Any]) -> None:
        wanted = [i for i in message.get("rows") or [] if isinstance(i, int) and 0 <= i < len(self._every)]
        if self.scorer is not None:
            if not wanted:
                raise DataError("No response passes the filter, so there is none to probe; change the search or the menus.")
            self.probes = self.probe([self._every[i] for i in wanted])

    def probe(self, rows: Sequence[Mapping[str, Any]], most: int | None = None) -> dict[str, Any]:
        """Findings of all probes on `rows`, as plain values; of more than `most` on that many, drawn at random."""
        rows = [{"row": place, **row} for place, row in enumerate(rows)]
        drawn = _drawn(rows, most or MAX_PROBED)
        found = run_probes(drawn, self.scorer) if self.scorer else []
        plain = [{**f.to_json(), "low": _number(f.low), "high": _number(f.high)} for f in found]
        which = f"all {len(rows)} responses" if len(drawn) == len(rows) else f"{len(drawn)} of {len(rows)} responses, drawn at random (the same ones each time)"
        return {"count": len(drawn), "of": len(rows), "which": which, "rows": [row["row"] for row in drawn], "findings": plain}

    def _report(self, message: Mapping[str, Any]) -> None:
        pictures = [
            {
                "title": title,
                "png": base64.b64encode(draw_png(fig, scale=2.0)).decode("ascii"),
                "width": fig.layout.width,
            }
            for title, fig in self.figures().items()
        ]
        self.report = {"figures": pictures, "disagreements": self.disagreements()}

    # -- what the reward model is worth ----------------------------------------------------------------------------

    def pairs(self) -> list[dict[str, Any]]:
        """The strict pairs of the rankings with the scorer's margins."""
        if not self.rankings or self.scorer is None:
            return []
        shown = [(r.prompt.text, c.text, c.finished is not False) for r in self.rankings for c in r.completions]
        scores = self.scorer(*map(list, zip(*shown, strict=True)))
        return pair_rows(self.rankings, by_ranking(self.rankings, scores))

    def figures(self) -> dict[str, Any]:
        """Every figure that rows and rankings allow, by title."""
        made: dict[str, Any] = {}
        groups: dict[str, list[float]] = {}
        for row in self._all:
            if isinstance(row.get("score"), (int, float)):
                groups.setdefault(str(row.get("source", "responses")), []).append(float(row["score"]))
        if groups:
            made["Rewards"] = reward_histogram(groups)
        if any(row.get("score") is not None and row.get("length") is not None for row in self._all):
            made["Reward against length"] = reward_against_length(self._all)
        pairs = self.pairs()
        if pairs:
            made["Calibration"] = calibration(pairs)
            made["Accuracy by rank gap"] = accuracy_by(pairs, "gap")
            made["Accuracy by labeler"] = accuracy_by(pairs, "labeler")
        return made

    def disagreements(self, count: int = 10) -> list[dict[str, Any]]:
        """The pairs that the reward model orders against the labelers with the largest margin, worst first."""
        worst = sorted((p for p in self.pairs() if p["margin"] < 0), key=lambda p: p["margin"])[:count]
        texts = [{c.id: c.text for c in r.completions} for r in self.rankings]
        return [
            {
                "prompt": self.rankings[p["ranking"]].prompt.text,
                "labelers prefer": texts[p["ranking"]][p["better"]],
                "the RM prefers": texts[p["ranking"]][p["worse"]],
                "margin": round(-p["margin"], 3),
                "rank gap": p["gap"],
                "labeler": p["labeler"],
            }
            for p in worst
        ]

    # -- showing ---------------------------------------------------------------------------------------------------

    def static(self) -> list[dict[str, Any]]:
        """The mime bundles of the static twin: figures, one token view, tables of responses, probes, disagreements."""
        return inspector_twin.bundles(self)

    def twin(self) -> dict[str, Any]:
        """The tables alone."""
        return inspector_twin.tables(self)


def _serve(work: SimpleQueue) -> None:
    """The inspector's thread: one request at a time; of edits or rows that pile up only the newest of each page counts."""
    while True:
        inspector, message = work.get()
        kind = message.get("kind")
        if kind in NEWEST_ONLY and not work.empty():
            later = []
            while not work.empty():
                later.append(work.get())
            if not any((m.get("kind"), m.get("client")) == (kind, message.get("client")) for _, m in later):
                inspector.obey(message)
            for waiting in later:
                work.put(waiting)
        else:
            inspector.obey(message)
        del inspector


def _clean(row: Mapping[str, Any], place: int) -> dict[str, Any]:
    """A row as plain JSON values, texts cut at MAX_TEXT, with its place in the table."""
    kept = {str(k): _plain(v) for k, v in row.items() if k not in (*UNSEEN, "meaning")}
    return {**kept, "row": place}


def _unseen(row: Mapping[str, Any]) -> dict[str, Any]:
    """What `_clean` leaves out of a row and an export needs; a seed as text, as it has more digits than JavaScript's numbers."""
    ids, seed = (row.get(key) for key in UNSEEN)
    return {
        **({"token_ids": [int(i) for i in ids]} if ids is not None and len(ids) else {}),
        **({"seed": str(seed)} if seed is not None else {}),
    }


def _names(unseen: Iterable[Mapping[str, Any]]) -> list[str]:
    there = {key for parts in unseen for key in parts}
    return [key for key in UNSEEN if key in there]


def _offered(rows: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """Values of a column for its menu: numbers by size, texts in order of appearance."""
    found = list(dict.fromkeys(row[key] for row in rows if row.get(key) is not None))
    return sorted(found) if all(isinstance(value, (int, float)) for value in found) else found


def _drawn(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most `most` of the rows, drawn at random: the best-scored ones would tell of themselves only. The same ones in whatever order they come."""
    ordered = sorted(rows, key=lambda row: row["row"])
    return ordered if len(rows) <= most else sorted(Random(0).sample(ordered, most), key=lambda row: row["row"])


def _plain(value: Any) -> Any:
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # a number of NumPy or torch
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return _number(value)
    return str(value)[:MAX_TEXT]


def _number(value: Any) -> float | int | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{float(value):.6g}")
