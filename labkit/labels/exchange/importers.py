"""Import of rankings: which format a row is in, and what it says.

    lab            the lab's own Ranking lines
    kwise          prompt, completions: [texts], ranks: [1 is best, null is unranked] (what `kwise_rows` writes)
    scored         prompt, completions: [texts or {"text" or "response", "score", "model"}], scores: higher is better
    trl            prompt, chosen, rejected; texts or message lists; a margin is kept
    hh             chosen, rejected: whole dialogues, as transcripts or message lists
    argilla        records and data sets of Argilla 1 and 2 with a ranking question
    label_studio   tasks with a Ranker or Pairwise result

A pair is a ranking of two, so several pairs of one prompt stay several rankings under one prompt id. A prompt without
an id is named after its text, so that splits keep it together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.errors import DataError, LabError
from labkit.labels.exchange.annotators import argilla_rankings, is_argilla, is_label_studio, label_studio_rankings
from labkit.labels.exchange.building import Options, build_ranking, prompt_of
from labkit.labels.exchange.dialogues import is_messages, messages_text, shared_prompt, text_of
from labkit.labels.exchange.rows import Source, first_of, rows_of
from labkit.types import Ranking, Rating

__all__ = ["FORMATS", "rankings_from_rows", "read_rankings_from"]


def read_rankings_from(source: str | Path, *, split: str = "train", **options: Any) -> list[Ranking]:
    """Rankings of a file, a saved data set or a hub data set; options as in `rankings_from_rows`."""
    return rankings_from_rows(source, split=split, name=Path(str(source)).name, **options)


def rankings_from_rows(
    rows: Source,
    *,
    format: str | None = None,
    name: str = "import",
    split: str = "train",
    labeler: str = "",
    prompt_field: str | None = None,
    completion_fields: Sequence[str] = (),
    buckets: Sequence[str] = (),
    ranking_question: str | None = None,
) -> list[Ranking]:
    """The rankings in `rows`, in order; a row that cannot be read is an error that names it, and so is an empty result.

    format: one of FORMATS; None recognises it row by row. name: stored as the source of the prompts. labeler: of rows
    that name none. prompt_field, completion_fields: where Argilla or Label Studio data call them something else.
    buckets: for Label Studio rankers with buckets, their names best first (a bucket is a tie; of a single one the order counts).
    ranking_question: for Argilla, which question ranks, where others are answered by lists of fields as well.
    """
    if format is not None and format not in FORMATS:
        raise DataError(f"There is no format {format!r}; the formats are {', '.join(FORMATS)}.")
    options = Options(name, labeler, prompt_field, tuple(completion_fields), tuple(buckets), ranking_question)
    found: list[Ranking] = []
    for where, row in rows_of(rows, split=split):
        kind = format or _recognise(row, where)
        try:
            found += FORMATS[kind](row, where, options)
        except LabError as error:
            raise error if str(error).startswith(where) else DataError(f"{where}: {error}", option=getattr(error, "option", "")) from None
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise DataError(f"{where} is not a {kind} row ({type(error).__name__}: {error}).") from None
    if not found:
        asked = f", or none answers the question {ranking_question!r}" if ranking_question else ""
        raise DataError(f"{name}: no row holds a finished ranking (all are skipped, drafts or discarded{asked}).")
    return found


def _recognise(row: Mapping[str, Any], where: str) -> str:
    if "groups" in row and "completions" in row:
        return "lab"
    if is_label_studio(row):
        return "label_studio"
    if row.get("chosen") is not None and row.get("rejected") is not None and not is_argilla(row):
        return "trl" if row.get("prompt") is not None else "hh"
    if "completions" in row or "responses" in row:
        if row.get("ranks") is not None:
            return "kwise"
        if row.get("scores") is not None or isinstance(first_of(row, ("completions", "responses")), list):
            return "argilla" if is_argilla(row) else "scored"
    if is_argilla(row):
        return "argilla"
    raise DataError(
        f"{where} has the fields {', '.join(row) or '(none)'}, which is none of the formats {', '.join(FORMATS)}; "
        "a comparison needs at least 'prompt', 'chosen' and 'rejected'."
    )


def _lab(row: Mapping[str, Any], where: str, options: Options) -> list[Ranking]:
    return [Ranking.from_json(row)]


def _origins(row: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Where each completion of a K-wise row came from, as far as the row says."""
    nothing = [None] * count
    seeds, finished = row.get("seeds") or nothing, row.get("finished") or nothing
    sampling, ids = row.get("sampling") or nothing, row.get("token_ids") or nothing
    return [
        {"seed": s, "finished": f, "sampling": json.loads(how) if how else {}, "token_ids": None if i is None else tuple(i)}
        for s, f, how, i in zip(seeds, finished, sampling, ids, strict=True)
    ]


def _kwise(row: Mapping[str, Any], where: str, options: Options) -> list[Ranking]:
    texts, ranks = first_of(row, ("completions", "responses")), row["ranks"]
    _same_length(texts, ranks, "ranks", where)
    ratings = {}
    if row.get("likert"):
        flags = row.get("flags") or [()] * len(texts)
        ratings = {n: Rating(i, tuple(f)) for n, (i, f) in enumerate(zip(row["likert"], flags, strict=True)) if i or f}
    return [
        build_ranking(
            replace(prompt_of(row, where, options), meaning=_meaning(row)),
            texts,
            ranks,
            labeler=str(first_of(row, ("labeler", "annotator")) or options.labeler),
            ids=row.get("completion_ids"),
            models=row.get("models"),
            ratings=ratings,
            seconds=row.get("seconds"),
            origins=_origins(row, len(texts)),
            shown=row.get("shown"),
            margin=row.get("margin"),
            comment=row["comment"] if isinstance(row.get("comment"), str) else "",
        )
    ]


def _meaning(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the world's judge knows of the prompt, which `kwise_rows` writes as JSON text."""
    meaning = row.get("meaning")
    return json.loads(meaning) if isinstance(meaning, str) and meaning.startswith("{") else None


def _scored(row: Mapping[str, Any], where: str, options: Options) -> list[Ranking]:
    items = first_of(row, ("completions", "responses"))
    parts = [item if isinstance(item, Mapping) else {"text": item} for item in items]
    texts = [first_of(p, ("text", "response", "completion", "content", "output")) for p in parts]
    scores = row.get("scores") or [first_of(p, ("score", "overall_score", "rating", "value")) for p in parts]
    _same_length(texts, scores, "scores", where)
    if any(isinstance(s, bool) or not isinstance(s, (int, float)) for s in scores):
        raise DataError(f"{where}: the completions have the scores {scores}; each needs a number, higher is better.")
    models = [str(first_of(p, ("model", "source")) or "") for p in parts]
    prompt = prompt_of(row, where, options)
    return [build_ranking(prompt, texts, [-s for s in scores], labeler=options.labeler, models=models)]


def _trl(row: Mapping[str, Any], where: str, options: Options) -> list[Ranking]:
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    if is_messages(chosen) and is_messages(rejected):
        if not is_messages(prompt):  # a text beside whole conversations says what they already hold
            return _hh(row, where, options)
        whole = [messages_text([*prompt, *turn], where) for turn in (chosen, rejected)]
        text, *pair = shared_prompt(*whole, where)
    else:
        text = text_of(prompt, "prompt", where)
        pair = [text_of(value, name, where) for name, value in (("chosen", chosen), ("rejected", rejected))]
    return [_pair({**row, "prompt": text}, pair, where, options)]


def _hh(row: Mapping[str, Any], where: str, options: Options) -> list[Ranking]:
    whole = [text_of(row[k], k, where) for k in ("chosen", "rejected")]
    text, *pair = shared_prompt(*whole, where)
    return [_pair({**row, "prompt": text}, pair, where, options)]


def _pair(row: Mapping[str, Any], pair: Sequence[str], where: str, options: Options) -> Ranking:
    labeler = str(first_of(row, ("labeler", "annotator", "worker")) or options.labeler)
    models = [str(first_of(row, (f"{k}_model", f"{k}-model")) or "") for k in ("chosen", "rejected")]
    return build_ranking(prompt_of(row, where, options), pair, [1, 2], labeler=labeler, models=models, margin=row.get("margin"))


def _same_length(texts: Any, values: Any, what: str, where: str) -> None:
    if not isinstance(texts, Sequence) or not isinstance(values, Sequence) or len(texts) != len(values):
        size = [len(x) if isinstance(x, Sequence) else "no" for x in (texts, values)]
        raise DataError(
            f"{where} has {size[0]} completions and {size[1]} {what}; give one of {what} to each completion."
        )


FORMATS: dict[str, Callable[[Mapping[str, Any], str, Options], Iterable[Ranking]]] = {
    "lab": _lab,
    "kwise": _kwise,
    "scored": _scored,
    "trl": _trl,
    "hh": _hh,
    "argilla": argilla_rankings,
    "label_studio": label_studio_rankings,
}
