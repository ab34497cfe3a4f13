"""Rankings and ratings from any JSONL file, with errors that name file, line, field and remedy.

One JSON object per line. The first key of each list that is present counts; other keys are ignored.

    prompt or item   prompt_id, prompt, item_id, item, question_id, question, task, id
    labeler          labeler_id, labeler, annotator_id, annotator, rater_id, rater, worker_id, worker, judge, user
    a ranking        ranks or ranking: {"completion id": rank}, lower is better, equal = tie, null = unranked;
                     or ranking, groups: [["best"], ["tied", "tied"], "last"];
                     or ranks: [2, 1, null] in the order of completion_ids (or completions), as K-wise rows have it
    a rating         rating, value, label, score, likert: a number ("3" is one too) or a category
    flags            flags: the short names of those of the paper's (labkit.types.FLAGS) that a labeler ticked, [] for none
    of a completion  completion_id, completion, response_id, response, system, model (optional, with a rating)

Also read as they are: the lab's own `Ranking` lines, K-wise rows and label logs (runs/<name>/labels/<labeler>.jsonl);
their Likert ratings become ratings of the completions. Files may be gzipped (.gz).

A labeler may have ranked several cards of one prompt (pairs, or an old and a new draw of its answers): each counts. Only
a later line on the same completions replaces an earlier one.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from labkit.errors import DataError, LabError
from labkit.labels.remarks import Remark, remarks
from labkit.labels.store import read_logs, said_of_names
from labkit.types import Ranking, Rating, listed

__all__ = ["Records", "add_row", "field_of", "is_log", "number_of", "read_objects", "read_records", "records_of"]

PROMPT = ("prompt_id", "prompt", "item_id", "item", "question_id", "question", "task", "id")
LABELER = (
    *("labeler_id", "labeler", "annotator_id", "annotator", "rater_id", "rater"),
    *("worker_id", "worker", "judge", "user"),
)
TEXTS = ("completions", "responses")
RANKS = ("ranks", "ranking", "groups")
VALUE = ("rating", "value", "label", "score", "likert")
COMPLETION = ("completion_id", "completion", "response_id", "response", "system", "model")


#: Whose ranking it is, and of which completions (unranked ones among them).
Card = tuple[str, frozenset[str]]


@dataclass
class Records:
    """What the files say, by prompt (or item) and labeler."""

    rankings: dict[str, dict[Card, dict[str, float]]] = field(default_factory=dict)  # prompt -> card -> ranks
    ratings: dict[tuple[str, str], dict[str, float | str]] = field(default_factory=dict)  # (prompt, completion or "")
    flags: dict[tuple[str, str], dict[str, tuple[str, ...]]] = field(default_factory=dict)  # (prompt, completion): of all rated
    said: list[Remark] = field(default_factory=list)  # of label logs: why cards were put aside, and notes
    names: str = ""  # a caution where several people's logs count as one labeler's
    replaced: int = 0  # labels that a later line of the same labeler on the same thing replaced
    _texts: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)  # of completions, where they are told

    def add_ranks(
        self, prompt: str, labeler: str, ranks: Mapping[str, float], among: Iterable[str] | None = None
    ) -> None:
        """Take in one ranking; among: the completions on its card, where some of them were left unranked."""
        home, card = self.rankings.setdefault(prompt, {}), (labeler, frozenset(ranks if among is None else among))
        self.replaced += home.pop(card, None) is not None  # out and in again: the newest stands last
        home[card] = dict(ranks)

    def name(self, prompt: str, completion: str, text: str) -> str:
        """The completion's id; with a mark where the same id stood for another text before (answers drawn anew)."""
        known = self._texts.setdefault((prompt, completion), text)
        return completion if known == text else f"{completion} #{blake2b(text.encode(), digest_size=5).hexdigest()}"

    def add_rating(self, prompt: str, completion: str, labeler: str, value: float | str) -> None:
        home = self.ratings.setdefault((prompt, completion), {})
        self.replaced += labeler in home
        home[labeler] = value

    def add_flags(self, prompt: str, completion: str, labeler: str, flags: Iterable[str]) -> None:
        """Take in what a labeler flagged in a completion; nothing is an answer too."""
        self.flags.setdefault((prompt, completion), {})[labeler] = tuple(flags)


def records_of(rankings: Iterable[Ranking]) -> Records:
    """The lab's own rankings as records; Likert ratings become ratings of the completions."""
    records = Records()
    for ranking in listed(rankings, Ranking, "rankings"):
        _add_ranking(records, ranking)
    return records


def read_records(paths: Iterable[str | Path]) -> Records:
    """Read files; a folder stands for its *.jsonl files. No usable line at all is an error."""
    records, files = Records(), []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path} holds no .jsonl file; name the files, or a folder with label logs.")
        files += inside
    logs = read_logs(file for file in files if is_log(file))
    records.names = said_of_names(logs)
    for file in files:
        if file in logs:
            for ranking in logs[file].rankings.values():
                _add_ranking(records, ranking)
            records.said += remarks(logs[file])
        else:
            for where, row in read_objects(file):
                add_row(records, row, where)
    if not records.rankings and not records.ratings and not records.flags:
        names = ", ".join(str(p) for p in paths)
        raise DataError(
            f"{names}: there is no ranking and no rating in it; each line needs a prompt, a labeler and ranks."
        )
    return records


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("file, line n", object) for each non-empty line of a JSONL file, gzipped or not."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{path}, line {number}"
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{where} is not JSON ({error.msg}); write one JSON object per line.") from None
                except (ValueError, RecursionError):  # JSON, but with a number of thousands of digits, or as many brackets
                    raise DataError(f"{where} holds a number too long or brackets too deep to read; drop or mend the line.") from None
                if not isinstance(row, dict):
                    raise DataError(f"{where} is {row!r:.60}; write one JSON object per line.")
                yield where, row
    except (EOFError, zlib.error):
        raise DataError(f"{path} ends in the middle, or is damaged; fetch or pack it again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. Check the name.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as UTF-8 JSONL.") from None


def is_log(path: Path) -> bool:
    """Whether a JSONL file is a label log of the lab."""
    return next((row for _, row in read_objects(path)), {}).get("event") == "open"


def field_of(row: Mapping[str, Any], keys: tuple[str, ...], what: str, where: str) -> str:
    """The first of `keys` in `row` as text; missing, null or empty is an error that lists the keys."""
    key = next((k for k in keys if k in row), None)
    if key is None:
        raise DataError(f"{where} has no {what}; add the field {keys[0]!r} (also read: {', '.join(keys[1:])}).")
    value = row[key]
    value = value.get("id") if isinstance(value, Mapping) else value
    if value is None or value == "" or isinstance(value, (list, dict)):
        raise DataError(f"{where}: field {key!r} is {row[key]!r}; it must name the {what}, as text or a number.")
    return str(value)


def add_row(records: Records, row: dict[str, Any], where: str) -> None:
    """Take in one line; `where` is what an error calls it."""
    if "completions" in row and "groups" in row:
        try:
            _add_ranking(records, Ranking.from_json(row))
        except (LabError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where} is not a complete Ranking: {error}") from None
        return
    prompt, labeler = field_of(row, PROMPT, "prompt or item", where), field_of(row, LABELER, "labeler", where)
    key = next((k for k in RANKS if k in row), None)
    if key == "ranks" and isinstance(row[key], list):
        _add_kwise(records, row, prompt, labeler, where)
        return
    if key is not None:
        among = map(str, row[key]) if isinstance(row[key], Mapping) else None
        records.add_ranks(prompt, labeler, _ranks(row[key], key, where), among)
        return
    key, flagged = next((k for k in VALUE if k in row), None), isinstance(row.get("flags"), list)
    if key is None and not flagged:
        raise DataError(
            f"{where} has neither ranks nor a rating; add 'ranks': {{completion id: rank}} "
            "or 'rating' (also read: value, label, score, likert), or 'flags', a list."
        )
    found = next((k for k in COMPLETION if row.get(k) is not None), None)
    completion = str(row[found]) if found else ""
    if flagged:
        records.add_flags(prompt, completion, labeler, _flags(row["flags"], where))
    if key is not None:
        records.add_rating(prompt, completion, labeler, _value(row[key], key, where))


def _add_ranking(records: Records, ranking: Ranking) -> None:
    prompt, labeler = ranking.prompt.id, ranking.labeler
    name = {c.id: records.name(prompt, c.id, c.text) for c in ranking.completions}
    if len(ranking.ranks) > 1:
        records.add_ranks(prompt, labeler, {name[i]: rank for i, rank in ranking.ranks.items()}, name.values())
    for i, rating in ranking.ratings.items():
        records.add_flags(prompt, name[i], labeler, rating.flags)
        if rating.likert is not None:
            records.add_rating(prompt, name[i], labeler, rating.likert)


def _add_kwise(records: Records, row: Mapping[str, Any], prompt: str, labeler: str, where: str) -> None:
    """A row whose ranks, and Likert ratings if it has any, stand in the order of its completions."""
    texts = next((row[k] for k in TEXTS if row.get(k)), None)
    ids, ranks = row.get("completion_ids") or texts, row["ranks"]
    if not isinstance(ids, list) or len(ids) != len(ranks) or not all(isinstance(i, (str, int)) for i in ids):
        raise DataError(
            f"{where}: field 'ranks' is a list of {len(ranks)}, so 'completion_ids' (or 'completions') must say what each "
            "of them ranks; or write {completion id: rank}."
        )
    if isinstance(texts, list) and len(texts) == len(ids):
        names = [records.name(prompt, str(i), str(text)) for i, text in zip(ids, texts, strict=True)]
    else:  # ids alone: they name whatever another file has under them
        names = [str(i) for i in ids]
    if len(set(names)) < len(names):
        raise DataError(f"{where} holds a completion twice; give each an id of its own in 'completion_ids'.")
    likert = row.get("likert") if isinstance(row.get("likert"), list) else []
    rated = [(name, value) for name, value in zip(names, likert, strict=False) if value is not None]
    if sum(rank is not None for rank in ranks) > 1 or not rated:  # a card may have been rated only
        records.add_ranks(prompt, labeler, _ranks(dict(zip(names, ranks, strict=True)), "ranks", where), names)
    for name, value in rated:
        records.add_rating(prompt, name, labeler, _value(value, "likert", where))
    flags = row.get("flags") if isinstance(row.get("flags"), list) else []
    for name, own in zip(names, flags, strict=False):
        if own or name in dict(rated):  # without a rating an empty list is no answer
            records.add_flags(prompt, name, labeler, _flags(own, where))


def _ranks(value: Any, key: str, where: str) -> dict[str, float]:
    if isinstance(value, list):
        groups = [group if isinstance(group, list) else [group] for group in value]
        pairs = [(str(i), place) for place, group in enumerate(groups, 1) for i in group]
        if len(dict(pairs)) < len(pairs):
            raise DataError(f"{where}: field {key!r} ranks a completion twice; name each id once.")
        value = dict(pairs)
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: field {key!r} is {value!r}; write {{completion id: rank}}, lower is better.")
    for i, rank in value.items():
        if rank is not None and not _is_number(rank):
            raise DataError(
                f"{where}: field {key!r} gives {i!r} the rank {rank!r}; a rank is a number, or null if unranked."
            )
    ranks = {str(i): float(rank) for i, rank in value.items() if rank is not None}
    if len(ranks) < 2:
        raise DataError(
            f"{where}: field {key!r} ranks {len(ranks)} completion(s); a ranking needs K >= 2. Drop the line."
        )
    return ranks


def _value(value: Any, key: str, where: str) -> float | str:
    if _is_number(value):
        return float(value)
    if isinstance(value, (str, bool)) and str(value).strip():
        with contextlib.suppress(ValueError):
            if _is_number(float(value)) and isinstance(value, str):
                return float(value)
        return str(value)
    raise DataError(
        f"{where}: field {key!r} is {value!r}; a rating is a finite number or a category. Drop or mend the line."
    )


def number_of(row: Mapping[str, Any], keys: tuple[str, ...], what: str, where: str) -> float:
    """The first of `keys` in `row` as a number; missing, or none, is an error that lists the keys."""
    found = _value(field_of(row, keys, what, where), next(k for k in keys if k in row), where)
    if isinstance(found, float):
        return found
    raise DataError(f"{where}: the {what} is {found!r}; it must be a number.")


def _flags(flags: Any, where: str) -> tuple[str, ...]:
    """The paper's flags by their short names."""
    try:
        return Rating(flags=tuple(flags)).flags
    except (DataError, TypeError) as error:
        raise DataError(f"{where}: field 'flags' is {flags!r}. {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
