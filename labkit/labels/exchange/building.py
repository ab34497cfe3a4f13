"""From plain values to Prompt, Completion and Ranking: ids where none are given, groups from ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.errors import DataError
from labkit.labels.exchange.dialogues import text_of
from labkit.labels.exchange.rows import first_of, short_hash
from labkit.types import Completion, Prompt, Ranking, Rating

__all__ = ["PROMPT_TEXT", "Options", "build_prompt", "build_ranking", "instruction_text", "prompt_of"]

PROMPT_TEXT = ("prompt", "instruction", "question", "query", "input", "context", "text")
PROMPT_ID = ("prompt_id", "question_id", "task_id", "external_id", "id", "idx")


@dataclass(frozen=True)
class Options:
    """What the caller of an import knows beyond the rows; see `rankings_from_rows`."""

    name: str = "import"
    labeler: str = ""
    prompt_field: str | None = None
    completion_fields: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    ranking_question: str | None = None


#: What rows call a split -> what the lab calls it.
SPLITS = {name: name for name in ("train", "valid", "test")} | dict.fromkeys(("validation", "val", "dev"), "valid")


def build_prompt(text: str, row: Mapping[str, Any], source: str) -> Prompt:
    """A Prompt with the row's id (or one named after the text), use case, user and split where the row has them."""
    id = first_of(row, PROMPT_ID)
    return Prompt(
        id=str(id) if id is not None and not isinstance(id, (list, dict)) else f"p-{short_hash(text)}",
        text=text,
        use_case=str(first_of(row, ("use_case", "category")) or "other"),
        source=str(row["source"]) if isinstance(row.get("source"), str) and row["source"] else source,
        user=str(first_of(row, ("user", "user_id", "customer")) or ""),
        split=SPLITS.get(str(row.get("split")), ""),
    )


def prompt_of(row: Mapping[str, Any], where: str, options: Options) -> Prompt:
    """The prompt of a row whose text lies in `options.prompt_field` or in the first of the usual fields."""
    keys = [options.prompt_field] if options.prompt_field else PROMPT_TEXT
    key = next((k for k in keys if row.get(k) not in (None, "")), None)
    if key is None:
        raise DataError(
            f"{where} has no prompt; it has {', '.join(row) or 'no field'}. Name its field by prompt_field=.",
            option="prompt_field",
        )
    text = text_of(row[key], key, where)
    if key == "instruction" and ("input" in row or "context" in row):
        text = instruction_text(text, str(first_of(row, ("input", "context")) or ""))
    return build_prompt(text, row, options.name)


def instruction_text(instruction: str, input: str) -> str:
    """An instruction with its input as one prompt, in the words of Self-Instruct (Wang et al. 2022)."""
    return f"{instruction}\n\nInput: {input}\nOutput:" if input else f"{instruction}\nOutput:"


def build_ranking(
    prompt: Prompt,
    texts: Sequence[str],
    ranks: Sequence[float | None],
    *,
    labeler: str = "",
    ids: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    ratings: Mapping[int, Rating] | None = None,
    seconds: float | None = None,
    origins: Sequence[Mapping[str, Any]] | None = None,
    shown: Sequence[str] | None = None,
    margin: float | None = None,
    comment: str = "",
) -> Ranking:
    """A Ranking of `texts` by `ranks` (lower is better, equal is a tie, None is unranked).

    A completion without an id is named after prompt and text, so that two labelers' rankings of it meet. origins: more
    fields of each Completion (seed, sampling, token_ids, finished), where they are known. shown: ids in shown order.
    margin: of a pair that came with one. comment: the labeler's note on the card.
    """
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"completion {n + 1} of prompt {prompt.id!r} is {text!r:.60}; it must be text.")
    bad = [r for r in ranks if r is not None and not (isinstance(r, (int, float)) and math.isfinite(r))]
    if bad:
        raise DataError(f"prompt {prompt.id!r} has the rank or score {bad[0]!r}; each must be a number, or null for none.")
    names = [str(i) for i in ids] if ids else _names(prompt.id, texts)
    models, origins = models or [""] * len(texts), origins or [{}] * len(texts)
    completions = tuple(
        Completion(i, prompt.id, t, model=m, **more)
        for i, t, m, more in zip(names, texts, models, origins, strict=True)
    )
    places = sorted({r for r in ranks if r is not None})
    groups = tuple(tuple(i for i, r in zip(names, ranks, strict=True) if r == place) for place in places)
    rated = {names[n]: rating for n, rating in (ratings or {}).items()}
    more = {"seconds": seconds, "shown": tuple(map(str, shown or ())), "margin": margin, "comment": comment}
    return Ranking(prompt, completions, groups, labeler=labeler, ratings=rated, **more)


def _names(prompt: str, texts: Sequence[str]) -> list[str]:
    names: list[str] = []
    for text in texts:
        name = base = f"{prompt}/{short_hash(text)}"
        number = 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names
