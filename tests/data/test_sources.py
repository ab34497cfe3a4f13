"""Prompts and demonstrations from the formats that people have, with errors that name the row."""

import gzip
import json

import pytest

from labkit.data.sources import load_demonstrations, load_prompts, load_rankings
from labkit.errors import DataError
from labkit.types import Demonstration, Prompt

HUMAN, BOT = "\n\nHuman:", "\n\nAssistant:"
USER, ASSISTANT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
REFUSAL = {"role": "assistant", "content": "no"}
GPT_USER, GPT_ASSISTANT = {"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}


@pytest.mark.parametrize(
    ("row", "prompt", "response"),
    [
        ({"prompt": "Say hi.", "response": "hello"}, "Say hi.", "hello"),
        ({"prompt": "Say hi.", "completion": "hello"}, "Say hi.", "hello"),
        ({"prompt": [USER], "completion": [ASSISTANT]}, f"{HUMAN} hi{BOT}", " hello"),
        ({"messages": [USER, ASSISTANT]}, f"{HUMAN} hi{BOT}", " hello"),
        ({"prompt": "hi", "messages": [USER, ASSISTANT]}, f"{HUMAN} hi{BOT}", " hello"),
        ({"conversations": [GPT_USER, GPT_ASSISTANT]}, f"{HUMAN} hi{BOT}", " hello"),
        ({"instruction": "Greet.", "input": "hi", "output": "hello"}, "Greet.\n\nInput: hi\nOutput:", "hello"),
        ({"instruction": "Greet.", "context": "", "response": "hello"}, "Greet.\nOutput:", "hello"),
        ({"instruction": "Greet.", "instances": [{"input": "", "output": "hello"}]}, "Greet.\nOutput:", "hello"),
        ({"chosen": f"{HUMAN} hi{BOT} hello", "rejected": f"{HUMAN} hi{BOT} ho"}, f"{HUMAN} hi{BOT}", " hello"),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER, REFUSAL], "prompt": "hi"}, f"{HUMAN} hi{BOT}", " hello"),
        ({"prompt": "Say hi.", "chosen": "hello", "rejected": "no"}, "Say hi.", "hello"),
        ({"question": "Why?", "answer": "Because."}, "Why?", "Because."),
    ],
)  # fmt: skip
def test_demonstrations_and_prompts_of_each_format(row, prompt, response):
    (demonstration,) = load_demonstrations([row])
    assert (demonstration.prompt.text, demonstration.text) == (prompt, response)
    assert load_prompts([row]) == [demonstration.prompt]


def test_our_own_lines_come_back_as_they_went(tmp_path):
    prompt = Prompt("p", "Say hi.\n", use_case="chat", user="u", split="valid", meaning={"kind": 1})
    demonstration = Demonstration(prompt, "hello", "ann")
    for value, load in ((prompt, load_prompts), (demonstration, load_demonstrations)):
        path = tmp_path / "own.jsonl"
        path.write_text(json.dumps(value.to_json()) + "\n")
        assert load(path) == [value]
    assert load_prompts(path) == [prompt]


def test_ids_use_cases_users_and_sources_are_kept(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([{"idx": 0, "prompt": "a", "category": "chat", "user_id": 9}, {"prompt": "b"}]))
    first, second = load_prompts(path)
    assert (first.id, first.use_case, first.user, first.source) == ("0", "chat", "9", "prompts.json")
    assert second.id == load_prompts([{"prompt": "b"}])[0].id != load_prompts([{"prompt": "c"}])[0].id


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "not a single row in it; write one JSON object per line, or take the file away"),
        ([{"prompt": "a", "response": "b"}, {"prompt": "c"}], "Row 2 has no response; it has prompt"),
        ([{"response": "b"}], "Row 1 has no prompt; it has response"),
        ([{"prompt": "a", "response": " "}], "Row 1: the demonstration is empty; write an answer, or take the row out"),
        ([{"prompt": "a", "response": 3}], "field 'response' is 3"),
        ([{"prompt": {"id": 1}, "text": "b"}], "Prompt is not complete"),
        ([{"id": 1, "prompt": "a", "response": "x"}, {"id": 1, "prompt": "b", "response": "x"}], "have the id '1'"),
        ([{"messages": [{"role": "robot", "content": "a"}]}], "a message needs 'role'"),
        (["text"], "Row 1 is 'text'; a row is an object with named fields"),
        ([7], "Row 1 is 7; a row is an object"),
    ],
)
def test_what_cannot_be_used_is_named(rows, words):
    with pytest.raises(DataError, match=words):
        load_demonstrations(rows)


def test_a_broken_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "broken.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": ')
    with pytest.raises(DataError, match="broken.jsonl, line 2 is not JSON"):
        load_prompts(path)


@pytest.mark.real
def test_real_demonstrations_load_whole(real_data):
    dolly = load_demonstrations(real_data / "dolly_hhrlhf_small/dolly_hhrlhf_train_small.jsonl.gz")
    assert len(dolly) == 1000 and all(d.prompt.text.endswith("### Response:\n") for d in dolly)
    seeds = load_demonstrations(real_data / "self_instruct/seed_tasks.jsonl.gz")
    assert len(seeds) == 175 and seeds[0].text.startswith("Yes, you can have 1 oatmeal")
    hh = real_data / "hh_rlhf_harmless/harmless-base_test.jsonl.gz"
    with pytest.raises(DataError, match="line 87: the demonstration is empty"):
        load_demonstrations(hh)
    assert 2308 <= len(load_demonstrations(hh, drop_empty=True)) < 2312


@pytest.mark.real
def test_self_instruct_prompts_are_those_that_were_published(real_data):
    ours = load_prompts(real_data / "self_instruct/user_oriented_instructions.jsonl.gz")
    with gzip.open(real_data / "self_instruct/davinci_predictions.jsonl.gz", "rt") as file:
        published = [json.loads(line)["prompt"] for line in file]
    squeeze = lambda text: "".join(text.split())  # noqa: E731 - the published ones trim some blanks
    assert [squeeze(p.text) for p in ours] == [squeeze(text) for text in published]


@pytest.mark.real
def test_rankings_load_through_the_same_door(real_data):
    assert len(load_rankings(real_data / "hh_rlhf_harmless/harmless-base_test.jsonl.gz")) == 2312
