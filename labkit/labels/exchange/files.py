"""From files of labels to rankings, and to one file that others read: what `labkit labels export` does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from labkit.errors import DataError
from labkit.labels.agreement.records import read_objects
from labkit.labels.exchange.export import kwise_rows, pair_rows, write_rows
from labkit.labels.exchange.importers import read_rankings_from
from labkit.labels.store import read_log
from labkit.types import Ranking

__all__ = ["FORMS", "export", "rankings_of_files"]

#: What an export may be, and what its lines are called.
FORMS = {"kwise": "K-wise rows", "trl": "pairs"}

Labels = list[tuple[Ranking, str]]


def export(files: Iterable[str | Path], out: str | Path, to: str, margin: str = "own") -> str:
    """Write the rankings of `files` to `out` as JSONL; returns the sentence that says what was written.

    files: label logs, folders of them, or any file of rankings that the lab reads; silent repeats are left out.
    to: "kwise", one row per ranking with all that is known of it, the labeler's comment too; or "trl", one row per pair,
    with `margin` "own", "rank", "likert" or "none" (`labkit.labels.exchange.export.MARGINS`). A label log, or a file that is read, is never written over.
    """
    if to not in FORMS:
        raise DataError(f"There is no form {to!r}; the forms are {', '.join(FORMS)}.")
    paths, out = [file for given in files for file in _files(Path(given))], Path(out)
    _check_free(out, paths)
    labels = [label for path in paths for label in _labels(path)]
    first = {}
    for ranking, _ in labels:
        first.setdefault(ranking.prompt.id, len(first))
    labels.sort(key=lambda label: first[label[0].prompt.id])
    rows = _rows(labels, to, None if margin == "none" else margin)
    if not rows:
        raise DataError(f"There is nothing to export in {', '.join(map(str, paths))}: no ranking that gives {FORMS[to]}.")
    write_rows(out, rows)
    people = len({ranking.labeler for ranking, _ in labels})
    counts = f"{_count(len(labels), 'ranking')} by {_count(people, 'labeler')} on {_count(len(first), 'prompt')}"
    return f"{counts}: wrote {len(rows)} {FORMS[to]} to {out}, each a line of {', '.join(rows[0])}."


def rankings_of_files(files: Iterable[str | Path]) -> list[Ranking]:
    """The rankings of label logs, folders of them, or any file of rankings that the lab reads; silent repeats are left out."""
    return [ranking for given in files for file in _files(Path(given)) for ranking, _ in _labels(file)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _rows(labels: Labels, to: str, margin: str | None) -> list[dict[str, Any]]:
    if to == "trl":
        return pair_rows((ranking for ranking, _ in labels), margin=margin)
    return [{**kwise_rows([ranking])[0], "comment": comment} for ranking, comment in labels]


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
        return next((row for _, row in read_objects(path)), {}).get("event") == "open"
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


def _labels(path: Path) -> Iterator[tuple[Ranking, str]]:
    """(ranking, comment) of each ranking in force."""
    if not _is_log(path):
        yield from ((ranking, "") for ranking in read_rankings_from(path))
        return
    state = read_log(path)
    comments = {e["task"]: e.get("comment", "") for e in state.done if e["event"] == "submit"}
    yield from ((ranking, comments.get(task, "")) for task, ranking in state.rankings.items())
