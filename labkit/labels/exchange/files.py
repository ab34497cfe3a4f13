"""From files of labels to rankings, and to one file that others read: what `labkit labels export` does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from labkit.disk import read_jsonl
from labkit.errors import DataError
from labkit.labels.agreement.records import is_log
from labkit.labels.cards import Given, cards_path, kept_cards
from labkit.labels.exchange.export import kwise_rows, pair_rows, write_rows
from labkit.labels.exchange.importers import read_rankings_from
from labkit.labels.remarks import remarks
from labkit.labels.store import LabelState, read_logs
from labkit.labels.tasks import task_id
from labkit.types import Completion, Prompt, Ranking

__all__ = ["FORMS", "export", "rankings_of_files", "remark_rows"]

#: What an export may be, and what its lines are called.
FORMS = {"kwise": "K-wise rows", "trl": "pairs", "remarks": "remarks"}


def export(files: Iterable[str | Path], out: str | Path, to: str, margin: str = "own") -> str:
    """Write the rankings of `files` to `out` as JSONL; returns the sentence that says what was written.

    files: label logs, folders of them, or any file of rankings that the lab reads; silent repeats are left out.
    to: "kwise", one row per ranking with all that is known of it, the labeler's comment too; or "trl", one row per pair,
    with `margin` "own", "rank", "likert" or "none" (`labkit.labels.exchange.export.MARGINS`); or "remarks", one row per card put
    aside, with the reason, and per note. A label log, or a file that is read, is never written over.
    """
    if to not in FORMS:
        raise DataError(f"There is no form {to!r}; the forms are {', '.join(FORMS)}.")
    paths, out = [file for given in files for file in _files(Path(given))], Path(out)
    _check_free(out, paths)
    rankings, said = _read(paths)
    first = {}
    for ranking in rankings:
        first.setdefault(ranking.prompt.id, len(first))
    rankings.sort(key=lambda ranking: first[ranking.prompt.id])
    rows = said if to == "remarks" else _rows(rankings, to, None if margin == "none" else margin)
    if not rows:
        lacks = "no card put aside and no note" if to == "remarks" else f"no ranking that gives {FORMS[to]}"
        also = f" It holds {_count(len(said), 'remark')}: --to remarks writes them." if said else ""
        raise DataError(f"There is nothing to export in {', '.join(map(str, paths))}: {lacks}.{also}")
    write_rows(out, rows)
    wrote = f"wrote {len(rows)} {FORMS[to]} to {out}, each a line of {', '.join(rows[0])}."
    if to == "remarks":
        return f"{_count(len({row['labeler'] for row in rows}), 'labeler')}: {wrote}"
    people = len({ranking.labeler for ranking in rankings})
    counts = f"{_count(len(rankings), 'ranking')} by {_count(people, 'labeler')} on {_count(len(first), 'prompt')}"
    left = [row for row in said if to == "trl" or row["what"] != "comment" or not row["ranked"]]
    return f"{counts}: {wrote}" + (f" Not in it: {_left_out(left)}; --to remarks writes them." if left else "")


def _left_out(said: list[dict[str, Any]]) -> str:
    aside = sum(row["what"] in ("skip", "cannot_judge") for row in said)
    parts = [_count(aside, "card") + " put aside"] if aside else []
    return " and ".join([*parts, *([_count(len(said) - aside, "note")] if len(said) > aside else [])])


def rankings_of_files(files: Iterable[str | Path]) -> list[Ranking]:
    """The rankings of label logs, folders of them, or any file of rankings that the lab reads; silent repeats are left out."""
    return _read(files)[0]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def remark_rows(files: Iterable[str | Path]) -> list[dict[str, Any]]:
    """One row per card put aside (`text` is the reason, which may be empty) and per note, of label logs, folders of them, or
    other files of rankings. `ranked` says whether the card has a ranking in force; without a card it is a note on the session.
    """
    return _read(files)[1]


def _read(files: Iterable[str | Path]) -> tuple[list[Ranking], list[dict[str, Any]]]:
    """All rankings, and what was said in words, of these files."""
    paths, rankings, said = [file for given in files for file in _files(Path(given))], [], []
    logs = read_logs(path for path in paths if _is_log(path))
    for path in paths:
        log = logs.get(path)
        own = list(log.rankings.values()) if log else read_rankings_from(path)
        rankings += own
        said += _said_in_log(path, log) if log else _said_beside(own)
    return rankings, said


def _said_in_log(path: Path, state: LabelState) -> Iterator[dict[str, Any]]:
    cards = _cards_beside(path)
    for remark in remarks(state):
        prompt, completions = cards.get(remark.task.removesuffix(":again"), (None, []))
        row = _said(remark.labeler, remark.what, remark.text, prompt, completions, ranked=remark.task in state.submitted)
        yield {**row, "prompt_id": remark.prompt_id, "task": remark.task, "time": remark.time}


def _said_beside(rankings: Iterable[Ranking]) -> Iterator[dict[str, Any]]:
    for ranking in rankings:
        if ranking.comment:
            row = _said(ranking.labeler, "comment", ranking.comment, ranking.prompt, ranking.completions, ranked=True)
            yield {**row, "task": task_id(ranking.prompt, ranking.completions), "time": None}


def _said(
    labeler: str, what: str, text: str, prompt: Prompt | None, completions: Sequence[Completion], *, ranked: bool
) -> dict[str, Any]:
    return {
        "labeler": labeler,
        "what": what,
        "text": text,
        "ranked": ranked,
        "prompt_id": prompt.id if prompt else "",
        "prompt": prompt.text if prompt else "",
        "completion_ids": [c.id for c in completions],
        "completions": [c.text for c in completions],
    }


def _cards_beside(log: Path) -> dict[str, Given]:
    """The cards that a log tells of, by task: those kept beside it, and those that its own events hold."""
    run = log.parent.parent
    found = {task_id(*card): card for card in kept_cards(run)} if cards_path(run).parent.parent == log.parent else {}
    for event in read_jsonl(log):
        held = event.get("card") or event.get("ranking")
        if held and event.get("task"):
            card = (Prompt.from_json(held["prompt"]), [Completion.from_json(c) for c in held["completions"]])
            found.setdefault(event["task"].removesuffix(":again"), card)
    return found


def _rows(rankings: list[Ranking], to: str, margin: str | None) -> list[dict[str, Any]]:
    return pair_rows(rankings, margin=margin) if to == "trl" else kwise_rows(rankings)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists() and (len(path.parts) != 2 or path.parent.is_dir()):  # else a data set on the hub, perhaps
            raise DataError(f"There is no file or folder {path}; check the name.")
        return [path]
    found = sorted(path.glob("*.jsonl"))
    if not found:
        raise DataError(f"{path} holds no .jsonl file; name the files, or a folder with label logs.")
    return found


def _is_log(path: Path) -> bool:
    with contextlib.suppress(DataError):  # whatever else it is, its reader will say
        return is_log(path)
    return False


def _check_free(out: Path, files: list[Path]) -> None:
    """Refuse to write over a folder or labels, or where the export itself would be taken for labels."""
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a file in it, such as --out {out / 'labels.jsonl'}.")
    if out.is_file() and _is_log(out):
        raise DataError(f"{out} holds labels by hand, which no export may replace; name another --out.")
    if out.resolve() in {f.resolve() for f in files}:
        raise DataError(f"{out} is to be read and written; name another --out.")
    if any(f.parent.resolve() == out.parent.resolve() and _is_log(f) for f in files):
        raise DataError(f"{out} would lie among label logs and be taken for one; name another folder in --out.")
