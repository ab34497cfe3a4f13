"""Pairwise judgments, and reading them from JSONL with errors that name the line.

One JSON object per line. The first key of each list that is present counts; other keys are ignored.

    prompt       prompt_id, prompt, item_id, item, question_id, question, task, id
    the models   model_a, a, model_1, system_a ... and model_b, b, model_2, system_b
    preference   preference, pref, score, value: 1 = a is preferred, 0 = b, 0.5 = a tie, anything between is allowed;
                 or winner: "a", "model_a" or a's name; "b", "model_b" or b's name; "tie", "draw" or "both"
    judge        judge, labeler_id, labeler, annotator_id, annotator, rater, worker_id, worker (optional)

Rankings are read too: the lab's own `Ranking` lines and label logs (completions of differently named models are
compared), K-wise rows (`kwise_rows`) by their models, and lines with ranks by model, {"prompt_id", "labeler", "ranks": {model: rank}}, lower is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from labkit.disk import paths_of
from labkit.errors import DataError, LabError
from labkit.labels.agreement.records import PROMPT, Records, add_row, field_of, is_log, read_objects
from labkit.labels.exchange import rankings_from_rows
from labkit.labels.store import read_logs, said_of_names
from labkit.settings import plain
from labkit.types import Ranking

__all__ = ["ALIKE", "Judgment", "judgments_of", "read_counted", "read_judgments"]

MODEL_A = ("model_a", "a", "model_1", "model1", "system_a", "system_1")
MODEL_B = ("model_b", "b", "model_2", "model2", "system_b", "system_2")
PREFERENCE = ("preference", "pref", "score", "value")
JUDGE = ("judge", "labeler_id", "labeler", "annotator_id", "annotator", "rater", "worker_id", "worker")
ALIKE = ", "  # between the names of models that answered alike, where a card shows the answer once
TIES = ("tie", "draw", "both", "both_bad", "tie (bothbad)")


@dataclass(frozen=True)
class Judgment:
    """One comparison of models a and b on one prompt: 1 means a is preferred, 0 b, 0.5 neither."""

    prompt: str
    a: str
    b: str
    preference: float
    judge: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "preference", plain(self.preference))
        if not isinstance(self.preference, (int, float)) or not 0 <= self.preference <= 1:
            raise DataError(f"The preference is {self.preference!r}; it goes from 0 (b is better) to 1 (a is better).")
        if self.a == self.b:
            raise DataError(f"Model {self.a!r} is compared with itself; a and b must differ.")


def judgments_of(rankings: Iterable[Ranking]) -> list[Judgment]:
    """Judgments between the models of ranked completions; completions of one model, or of no named one, give none.

    A completion that several models gave word for word (their names joined by `ALIKE`) stands for each of them; they tie.
    """
    found = []
    for ranking in rankings:
        ranks, models = ranking.ranks, {c.id: c.model for c in ranking.completions if c.model}
        given = [(rank, name) for i, rank in ranks.items() if i in models for name in models[i].split(ALIKE)]
        for (rank, a), (other, b) in combinations(given, 2):
            if a != b:
                preference = 0.5 if rank == other else float(rank < other)
                found.append(Judgment(ranking.prompt.id, a, b, preference, ranking.labeler))
    return found


def read_judgments(paths: Iterable[str | Path]) -> list[Judgment]:
    """All judgments of the files; a bad line is an error that names it, and so is a file without any.

    A folder stands for its judgments.jsonl, as an evaluation's has, else for all its JSONL files. A judgment that two
    files hold counts once, as `read_counted` says.
    """
    return read_counted(paths)[0]


def read_counted(paths: Iterable[str | Path]) -> tuple[list[Judgment], list[str]]:
    """The judgments of the files; and sentences on how many were left out because another file had held them, and on names.

    The same verdict of the same judge on the same prompt and models counts once over files; repeated in one file it may
    be a real repeat and stays. Where no judge is named, only files that hold nothing new are left out, because two
    nameless people may well agree.
    """
    paths, found, repeated = paths_of(paths), [], 0
    held: Counter[Judgment] = Counter()  # the most that any one file so far holds of each
    files = [file for path in paths for file in _files(path)]
    logs = read_logs(file for file in files if is_log(file))
    for file in files:
        own = judgments_of(logs[file].rankings.values()) if file in logs else _file_judgments(file)
        kept = _new(own, held)
        repeated += len(own) - len(kept)
        found += kept
        held |= Counter(map(_either_way, own))
    if not found:
        names = ", ".join(map(str, paths))
        raise DataError(f"{names}: no judgment in it; {_where_they_lie(paths)}each line needs prompt_id, model_a, model_b and preference.")
    said = [f"{repeated} judgments that another of the files holds as well were counted once."] if repeated else []
    return found, [*said, *filter(None, [said_of_names(logs)])]


def _files(path: Path) -> list[Path]:
    whole = path / "judgments.jsonl"
    if whole.is_file():
        return [whole]
    return sorted(path.glob("*.jsonl")) if path.is_dir() else [path]


def _new(own: list[Judgment], held: Counter[Judgment]) -> list[Judgment]:
    """The judgments of a file that no file before it holds."""
    nameless = Counter(_either_way(j) for j in own if not j.judge)
    left = held.copy()
    kept = []
    for judgment in own:
        key = _either_way(judgment)
        if left[key] > 0 and (judgment.judge or nameless <= held):
            left[key] -= 1
        else:
            kept.append(judgment)
    return kept


def _either_way(judgment: Judgment) -> Judgment:
    """The same judgment with its models in alphabetical order."""
    if judgment.a < judgment.b:
        return judgment
    return replace(judgment, a=judgment.b, b=judgment.a, preference=1 - judgment.preference)


def _where_they_lie(paths: Iterable[Path]) -> str:
    """The judgments of the runs whose folders were named in place of a file."""
    found = [file for path in paths for file in sorted(path.glob("evaluate*/judgments.jsonl")) if not file.parent.name.endswith(".old")]
    return f"give {' or '.join(map(str, found))}. In a file of your own " if found else ""


def _file_judgments(file: Path) -> list[Judgment]:
    found = []
    for where, row in read_objects(file):
        if "ranks" in row or {"groups", "completions"} <= set(row):
            found += _from_ranks(row, where)
        else:
            found.append(_judgment(row, where))
    return found


def _from_ranks(row: dict[str, Any], where: str) -> list[Judgment]:
    """Judgments of one ranking line: by the models of its completions, or by ranks of models."""
    if "groups" in row:
        try:
            return judgments_of([Ranking.from_json(row)])
        except (LabError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where} is not a complete Ranking: {error}") from None
    if isinstance(row.get("ranks"), list) and row.get("models"):  # a K-wise row
        return judgments_of(_kwise(row, where))
    records = Records()
    add_row(records, row, where)
    if not records.rankings:
        return []  # rated, not ranked
    ((prompt, home),) = records.rankings.items()
    (((judge, _), ranks),) = home.items()
    pairs = combinations(ranks, 2)
    return [Judgment(prompt, a, b, (1 + (ranks[a] < ranks[b]) - (ranks[a] > ranks[b])) / 2, judge) for a, b in pairs]


def _kwise(row: dict[str, Any], where: str) -> list[Ranking]:
    try:
        return rankings_from_rows([row], format="kwise")
    except LabError as error:
        raise DataError(f"{where}: {error}") from None


def _judgment(row: Mapping[str, Any], where: str) -> Judgment:
    prompt = field_of(row, PROMPT, "prompt", where)
    a, b = field_of(row, MODEL_A, "model a", where), field_of(row, MODEL_B, "model b", where)
    judge = next((str(row[k]) for k in JUDGE if row.get(k) not in (None, "")), "")
    try:
        return Judgment(prompt, a, b, _preference(row, a, b, where), judge)
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(where) else f"{where}: {text}") from None


def _preference(row: Mapping[str, Any], a: str, b: str, where: str) -> float:
    key = next((k for k in PREFERENCE if k in row), None)
    if key is None and "winner" in row:
        return _winner(row["winner"], a, b, where)
    if key is None:
        raise DataError(
            f"{where} has no preference; add the field 'preference', from 0 (b is better) to 1 (a is better)."
        )
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise DataError(f"{where}: field {key!r} is {value!r}; write a number from 0 (b is better) to 1 (a is better).")
    return float(value)


def _winner(value: Any, a: str, b: str, where: str) -> float:
    meaning = {"a": 1.0, "model_a": 1.0, a: 1.0, "b": 0.0, "model_b": 0.0, b: 0.0, **dict.fromkeys(TIES, 0.5)}
    if {a, b} & {"a", "b", "model_a", "model_b"}:  # a model's own name wins over its place
        meaning |= {a: 1.0, b: 0.0}
    if not isinstance(value, str) or value not in meaning:
        raise DataError(f"{where}: field 'winner' is {value!r}; write 'a', 'b', 'tie', {a!r} or {b!r}.")
    return meaning[value]
