"""Prompts, demonstrations and rankings from anywhere, as the lab's own words.

    prompts = load_prompts("prompts.jsonl")
    demonstrations = load_demonstrations("databricks/databricks-dolly-15k", split="train")
    rankings = load_rankings("harmless-base.jsonl.gz")

A source is a JSONL or JSON file (gzipped too), a folder written by `Dataset.save_to_disk`, the name of a data set on
the hub, or any iterable of dicts. The first field of each list that is there counts:

    prompt     prompt, instruction (with input or context), question, query, input, context, text, messages,
               or the shared turns of an HH dialogue; text or message lists
    response   response, completion, output, answer, chosen, text of the last assistant message; of Self-Instruct
               tasks the output of the first instance
    the rest   prompt_id / id / idx, use_case / category, user / user_id, source, split, labeler

A prompt without an id is named after its text. Texts are kept as they are: no template is added, except that an
instruction with an input becomes one text in the words of Self-Instruct, and message lists become HH transcripts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import DataError
from labkit.labels.exchange.building import PROMPT_TEXT, Options, build_prompt, instruction_text, prompt_of
from labkit.labels.exchange.dialogues import is_messages, last_turn, messages_text, shared_prompt, text_of
from labkit.labels.exchange.importers import rankings_from_rows
from labkit.labels.exchange.rows import Source, first_of, rows_of
from labkit.types import Demonstration, Prompt, Ranking

__all__ = ["OPTIONS", "load_demonstrations", "load_prompts", "load_rankings", "read_options"]

#: What a file of options may say of a file of rankings: see `labkit.labels.exchange.rankings_from_rows`.
OPTIONS = {"format": str, "labeler": str, "prompt_field": str, "completion_fields": list, "buckets": list, "ranking_question": str}

RESPONSE = ("response", "completion", "output", "answer", "demonstration")


def load_prompts(source: Source, *, split: str = "train") -> list[Prompt]:
    """The prompts of `source`, in order; two that differ in text but share an id are an error."""
    name = _name(source)
    found = [_prompt(row, where, name) for where, row in rows_of(source, split=split)]
    _check_ids(found, name)
    return found


def load_demonstrations(source: Source, *, split: str = "train", drop_empty: bool = False) -> list[Demonstration]:
    """The demonstrations of `source`, in order.

    An empty answer is an error, because SFT would learn silence from it, unless `drop_empty` leaves such rows out.
    """
    name, found = _name(source), []
    for where, row in rows_of(source, split=split):
        demonstration = _demonstration(row, where, name)
        if demonstration.text.strip():
            found.append(demonstration)
        elif not drop_empty:
            raise DataError(
                f"{where}: the demonstration is empty; write an answer, or take the row out (in code, drop_empty=True leaves such rows out)."
            )
    if not found:
        raise DataError(f"{name}: every demonstration in it is empty.")
    _check_ids([d.prompt for d in found], name)
    return found


def load_rankings(source: Source, *, split: str = "train", **options: Any) -> list[Ranking]:
    """The rankings of `source`; formats and options as in `labkit.labels.exchange.rankings_from_rows`."""
    return rankings_from_rows(source, split=split, name=_name(source), **options)


def read_options(path: Path) -> dict[str, Any]:
    """The options in a JSON file, for `load_rankings`; an unknown one, or one of the wrong kind, is an error."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f'{path} is no JSON object; write options such as {{"prompt_field": "asked", "buckets": ["best", "worst"]}}.')
    for name, value in found.items():
        if name not in OPTIONS:
            raise DataError(f"{path} has no option {name!r}; it may have {', '.join(OPTIONS)}.")
        whole = isinstance(value, OPTIONS[name]) and all(isinstance(part, str) for part in value)
        if not whole:
            what = "a text" if OPTIONS[name] is str else "a list of texts"
            raise DataError(f"{path}: option {name!r} is {value!r:.60}; it is {what}.")
    return found


def _prompt(row: Mapping[str, Any], where: str, name: str) -> Prompt:
    if isinstance(row.get("prompt"), Mapping):  # one of our own demonstration or ranking lines
        return Prompt.from_json(row["prompt"])
    if set(row) <= set(Prompt.__dataclass_fields__) and {"id", "text"} <= set(row):
        return Prompt.from_json({**row, "id": str(row["id"])})
    task = _self_instruct(row)
    if task:
        return build_prompt(task[0], row, name)
    dialogue = _dialogue(row, where)
    if dialogue:
        return build_prompt(dialogue[0], row, name)
    return prompt_of(row, where, Options(name))


def _demonstration(row: Mapping[str, Any], where: str, name: str) -> Demonstration:
    if isinstance(row.get("prompt"), Mapping):
        return Demonstration.from_json(row)
    labeler = str(first_of(row, ("labeler", "annotator", "worker")) or "")
    return Demonstration(_prompt(row, where, name), _response(row, where), labeler)


def _response(row: Mapping[str, Any], where: str) -> str:
    task, dialogue = _self_instruct(row), _dialogue(row, where)
    if task or dialogue:
        return (task or dialogue)[1]
    key = next((k for k in RESPONSE if row.get(k) is not None), None)
    key = key or ("chosen" if any(k in row for k in PROMPT_TEXT) and row.get("chosen") is not None else None)
    if key is None:
        fields = ", ".join(row) or "no field"
        raise DataError(f"{where} has no response; it has {fields}. Add one of {', '.join(RESPONSE)}.")
    value = row[key]
    if is_messages(value):
        lead = " " if is_messages(row.get("prompt")) else ""  # a prompt of messages ends with "Assistant:"
        return lead + str(value[-1].get("content") or value[-1].get("value") or "")
    if not isinstance(value, str):
        raise DataError(f"{where}: field {key!r} is {value!r:.60}; a response is text.")
    return value


def _self_instruct(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(prompt, output) of a Self-Instruct task, from its first instance."""
    instances = row.get("instances")
    if not (isinstance(instances, list) and instances and isinstance(row.get("instruction"), str)):
        return None
    first = instances[0]
    return instruction_text(row["instruction"], str(first.get("input") or "")), str(first.get("output") or "")


def _dialogue(row: Mapping[str, Any], where: str) -> tuple[str, str] | None:
    """(prompt, response) of a row that holds one whole dialogue: a list of messages, or HH's chosen."""
    messages = first_of(row, ("messages", "conversations"))
    if is_messages(messages) and first_of(row, RESPONSE) is None:
        return _turns(messages_text(messages, where), where)
    beside = any(row.get(k) not in (None, "") for k in ("prompt", "instruction", "question", "query"))
    whole = is_messages(row.get("chosen")) and not is_messages(row.get("prompt"))
    if row.get("chosen") is None or (beside and not whole):
        return None
    chosen = text_of(row["chosen"], "chosen", where)
    if row.get("rejected") is None:
        return _turns(chosen, where)
    prompt, response, _ = shared_prompt(chosen, text_of(row["rejected"], "rejected", where), where)
    return prompt, response


def _turns(transcript: str, where: str) -> tuple[str, str]:
    """A transcript as (prompt, response); one that ends with a person's turn is all prompt."""
    if transcript.rfind("\n\nHuman:") > transcript.rfind("\n\nAssistant:"):
        return transcript + "\n\nAssistant:", ""
    return last_turn(transcript, where)


def _name(source: Source) -> str:
    return Path(str(source)).name if isinstance(source, (str, Path)) else "import"


def _check_ids(prompts: list[Prompt], name: str) -> None:
    texts: dict[str, str] = {}
    for prompt in prompts:
        if texts.setdefault(prompt.id, prompt.text) != prompt.text:
            raise DataError(f"{name}: two different prompts have the id {prompt.id!r}; give each an id of its own.")
