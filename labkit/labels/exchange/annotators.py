"""Rankings from annotation tools' exports: Argilla (versions 1 and 2) and Label Studio.

Argilla. A ranking question's values name the fields that hold the completions. Three shapes are read:
  version 1 records   responses: [{"user_id", "status", "values": {question: {"value": [{"value", "rank"}]}}}]
  version 1 data sets question: [{"user_id", "status", "value": {"value": [...], "rank": [...]}}]
  version 2 records   responses: {question: [{"value": [best, ..., worst], "user_id"}]}
  version 2 data sets "question.responses": [[best, ...]], "question.responses.users", "question.responses.status"
Only submitted responses count. Version 2 exports an order without ties, in the form of an answer with several labels:
an order names all of the options. Where that does not tell which question ranks, an error asks for `ranking_question`.

Label Studio. Tasks with annotations (JSON export). Ranker: {"ranker": {name: [ids, best first]}} over a list of
{"id", "body"} items in the task's data, where name is the Ranker's own (the result's from_name). Any other name is that
of a bucket: say their order by `buckets`; a bucket is a tie, or an order where it is the only one; items in "_" are unranked.
Pairwise: {"selected": "left" or "right"} over the two text fields of the task's data. Cancelled annotations are left
out, and so are skipped tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from labkit.errors import DataError
from labkit.labels.exchange.building import PROMPT_TEXT, Options, build_prompt, build_ranking
from labkit.labels.exchange.rows import first_of
from labkit.types import Ranking

__all__ = ["argilla_rankings", "is_argilla", "is_label_studio", "label_studio_rankings"]

_COMPLETION = re.compile(
    r"(response|answer|completion|text|output|summary|reply|option|candidate|generation)s?[-_ ]?", re.I
)


def is_argilla(row: Mapping[str, Any]) -> bool:
    """Whether a row looks like an Argilla record or data set row."""
    if isinstance(row.get("fields"), Mapping) and "responses" in row:
        return True
    return any(k.endswith(".responses") for k in row) or any(True for _ in _answers_v1_dataset(row))


class _Answer(NamedTuple):
    """One submitted answer of one user to one question."""

    question: str
    user: Any
    value: Any
    may_order: bool  # version 2: a bare list of options may be an order; version 1 gives each option its rank


def argilla_rankings(row: Mapping[str, Any], where: str, options: Options) -> Iterator[Ranking]:
    """One ranking per submitted answer to the ranking question."""
    fields = row["fields"] if isinstance(row.get("fields"), Mapping) else row
    for user, ranks in _orders(row, fields, where, options):
        names = {option: _field(option, fields, where) for option in ranks}
        text = _prompt_text(fields, set(names.values()), where, options)
        prompt = build_prompt(text, {**row, **_metadata(row)}, options.name)
        texts = [fields[names[option]] for option in ranks]
        yield build_ranking(prompt, texts, list(ranks.values()), labeler=str(user or options.labeler))


def _orders(row: Mapping[str, Any], fields: Mapping[str, Any], where: str, options: Options) -> Iterator[tuple[Any, dict[str, int]]]:
    """(user, {option: rank}) of each answer that is a ranking; where labels may be meant as well, an error asks which."""
    bare: dict[str, list[_Answer]] = {}
    for answer in _answers(row):
        if options.ranking_question not in (None, answer.question):
            continue
        ranks = _ranks(answer.value)
        if ranks is not None:
            yield answer.user, ranks
        elif answer.may_order and _names_fields(answer.value, fields):
            bare.setdefault(answer.question, []).append(answer)
    missing = {q: next(filter(None, (_left_out(a.value, fields) for a in found)), "") for q, found in bare.items()}
    whole = [q for q in bare if not missing[q]] or ([] if options.ranking_question is None else list(bare))
    if len(whole) > 1:
        raise DataError(
            f"{where}: the questions {' and '.join(whole)} are all answered by lists of fields; say which of them ranks by ranking_question=.",
            option="ranking_question",
        )
    if bare and not whole:
        question, left = next(iter(missing.items()))
        raise DataError(
            f"{where}: the answer to {question} names {', '.join(bare[question][0].value)}, but not {left}. A ranking orders all of its options, "
            "so this seems to be a question with several labels; say which question ranks by ranking_question=.",
            option="ranking_question",
        )
    yield from ((a.user, {option: n for n, option in enumerate(a.value, 1)}) for q in whole for a in bare[q])


def _answers(row: Mapping[str, Any]) -> Iterator[_Answer]:
    """Every submitted answer, in whichever of the four shapes."""
    responses = row.get("responses")
    if isinstance(responses, Mapping):
        for question, answers in responses.items():
            yield from (_Answer(question, a.get("user_id"), a.get("value"), True) for a in answers or () if _submitted(a.get("status")))
    elif isinstance(responses, Sequence) and not isinstance(responses, str):
        for response in responses:
            if isinstance(response, Mapping) and _submitted(response.get("status")):
                values = (response.get("values") or {}).items()
                yield from (_Answer(q, response.get("user_id"), v.get("value"), False) for q, v in values if isinstance(v, Mapping))
    for key, values in row.items():
        if key.endswith(".responses") and values:
            users = row.get(f"{key}.users") or [None] * len(values)
            status = row.get(f"{key}.status") or [None] * len(values)
            question = key.removesuffix(".responses")
            yield from (_Answer(question, u, v, True) for u, v, s in zip(users, values, status, strict=True) if _submitted(s))
    yield from _answers_v1_dataset(row)


def _answers_v1_dataset(row: Mapping[str, Any]) -> Iterator[_Answer]:
    for key, answers in row.items():
        listed = key != "responses" and isinstance(answers, list) and answers and isinstance(answers[0], Mapping)
        if listed and {"user_id", "value"} <= set(answers[0]):
            yield from (_Answer(key, a["user_id"], a["value"], False) for a in answers if _submitted(a.get("status")))


def _submitted(status: Any) -> bool:
    return status in (None, "submitted")


def _ranks(value: Any) -> dict[str, int] | None:
    """{option: rank} of an answer that says every option's rank; None for any other."""
    if isinstance(value, Mapping) and {"value", "rank"} <= set(value) and isinstance(value["value"], list):
        return dict(zip(value["value"], value["rank"], strict=True))
    if not isinstance(value, list) or len(value) < 2:
        return None
    told = all(isinstance(v, Mapping) and {"value", "rank"} <= set(v) for v in value)
    return {v["value"]: v["rank"] for v in value} if told else None


def _names_fields(value: Any, fields: Mapping[str, Any]) -> bool:
    """Whether a value is a bare list of at least two words of which some name fields of the record."""
    words = isinstance(value, list) and len(value) > 1 and all(isinstance(v, str) for v in value)
    return words and bool(set(map(_plain, value)) & set(map(_plain, fields)))


def _left_out(named: Sequence[str], fields: Mapping[str, Any]) -> str:
    """The first text field that is numbered or lettered as a named one is (response-3 beside response-1), and is not named; else empty."""
    stems = {_stem(option) for option in named} - {""}
    texts = (name for name, value in fields.items() if isinstance(value, str) and value)
    return next((name for name in texts if _stem(name) in stems and _plain(name) not in map(_plain, named)), "")


def _stem(name: str) -> str:
    """A field's name without its number or letter; empty where it has none."""
    stem = re.sub(r"[-_ ]?\d+$|[-_ ][A-Za-z]$", "", name)
    return "" if stem == name else _plain(stem)


def _plain(name: Any) -> str:
    """A name without case, blanks and punctuation: options are seldom spelt as their fields are."""
    return re.sub(r"[\W_]", "", str(name)).lower()


def _field(option: str, fields: Mapping[str, Any], where: str) -> str:
    found = [name for name in fields if _plain(name) == _plain(option) and isinstance(fields[name], str)]
    if not found:
        names = ", ".join(k for k, v in fields.items() if isinstance(v, str))
        raise DataError(f"{where}: the ranked option {option!r} is no text field of the record; it has {names}.")
    return option if option in found else found[0]


def _prompt_text(fields: Mapping[str, Any], taken: set[str], where: str, options: Options) -> str:
    keys = [options.prompt_field] if options.prompt_field else [*PROMPT_TEXT, *fields]
    text = first_of({k: v for k, v in fields.items() if k not in taken and isinstance(v, str)}, keys)
    if text is None:
        raise DataError(f"{where} has no field with the prompt; name it by prompt_field= (fields: {', '.join(fields)}).", option="prompt_field")
    return text


def _metadata(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return row["metadata"] if isinstance(row.get("metadata"), Mapping) else {}


def is_label_studio(row: Mapping[str, Any]) -> bool:
    """Whether a row is a Label Studio task with annotations."""
    return isinstance(row.get("data"), Mapping) and isinstance(row.get("annotations"), list)


def label_studio_rankings(row: Mapping[str, Any], where: str, options: Options) -> Iterator[Ranking]:
    """One ranking per finished annotation that holds a Ranker or Pairwise result."""
    data = row["data"]
    for annotation in row["annotations"]:
        for result in annotation.get("result") or () if not annotation.get("was_cancelled") else ():
            value = result.get("value") or {}
            if "ranker" in value:
                items, ranks = _items(data, where, options), _ranker(value["ranker"], result.get("from_name"), where, options)
            elif value.get("selected") in ("left", "right"):
                items = _two_texts(data, where, options)
                ranks = dict(zip(items, (1, 2) if value["selected"] == "left" else (2, 1), strict=True))
            else:
                continue
            strange = sorted(set(ranks) - set(items))
            if strange:
                raise DataError(f"{where}: the ranker names item {strange[0]!r}, which is not in the task's data.")
            if not ranks:  # nothing was moved
                continue
            taken = set(options.completion_fields) or set(items)
            text = _prompt_text(data, taken, where, options)
            yield build_ranking(
                build_prompt(text, {"id": row.get("id"), **data}, options.name),
                list(items.values()),
                [ranks.get(i) for i in items],
                labeler=_annotator(annotation) or options.labeler,
                seconds=annotation.get("lead_time"),
            )


def _annotator(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by")
    who = first_of(who, ("email", "username", "id")) if isinstance(who, Mapping) else who
    return "" if who is None else str(who)


def _ranker(ranker: Any, own_name: Any, where: str, options: Options) -> dict[str, int]:
    """{item id: rank}: the order of the one list, or one rank per bucket. own_name: what the labeling interface calls the Ranker.

    A Ranker without buckets writes one list under its own name; early versions wrote the list alone. "_" is what was not moved.
    """
    if not isinstance(ranker, (list, Mapping)):
        raise DataError(f"{where}: the ranker is {ranker!r:.60}; it must be lists of item ids. Export the project as JSON.")
    listed = {own_name: ranker} if isinstance(ranker, list) else ranker
    named = {name: ids for name, ids in listed.items() if name != "_"}
    plain = isinstance(ranker, list) or (set(listed) == {own_name} and own_name not in options.buckets)
    if not plain and set(named) - set(options.buckets):
        buckets = f"bucket{'s' * (len(named) > 1)} {', '.join(named)}"
        alone = "; with one name, the order in it counts" if len(named) == 1 else ""
        raise DataError(f"{where}: the ranker has the {buckets}; say their order by buckets=(best, ...){alone}.", option="buckets")
    ranks: dict[str, int] = {}
    for name, ids in named.items():
        if not isinstance(ids, list):
            raise DataError(f"{where}: {name!r} holds {ids!r:.60} in place of a list of item ids. Export the project as JSON.")
        for place, i in enumerate(map(str, ids), 1):
            if i in ranks:
                raise DataError(f"{where}: the ranker has item {i!r} in two places; keep one of them.")
            ranks[i] = place if plain or len(options.buckets) == 1 else options.buckets.index(name) + 1
    return ranks


def _items(data: Mapping[str, Any], where: str, options: Options) -> dict[str, str]:
    """{item id: text} of the list that a ranker ranks."""
    keys = options.completion_fields or tuple(data)
    for key in keys:
        items = data.get(key)
        if isinstance(items, list) and items and all(isinstance(i, Mapping) and "id" in i for i in items):
            return {str(i["id"]): str(first_of(i, ("body", "text", "html", "title")) or "") for i in items}
    raise DataError(f"{where}: the task's data hold no list of items with 'id' and 'body' for the ranker to rank.")


def _two_texts(data: Mapping[str, Any], where: str, options: Options) -> dict[str, str]:
    """The two compared fields, left one first: those named, or the two whose names look like completions."""
    names = list(options.completion_fields)
    if not names:
        taken = options.prompt_field or next((k for k in PROMPT_TEXT if isinstance(data.get(k), str)), None)
        names = [k for k, v in data.items() if isinstance(v, str) and k != taken and _COMPLETION.match(k)]
    if len(names) != 2 or any(not isinstance(data.get(n), str) for n in names):
        fields = ", ".join(data)
        raise DataError(f"{where}: which two of {fields} were compared? Say completion_fields=(left, right).", option="completion_fields")
    return {n: data[n] for n in names}
