"""Prompts of the world: proportions, constraints, splits and what is planted in them."""

from collections import Counter
from random import Random

import pytest

from labkit.data.use_cases import USE_CASES
from labkit.errors import SettingsError
from labkit.types import Prompt
from labkit.world.facts import build_world
from labkit.world.phrasings import CONSTRAINTS, PHRASINGS, TASKS
from labkit.world.prompts import sample_prompts
from labkit.world.tasks import draw_task


@pytest.fixture(scope="module")
def world():
    return build_world(0)


@pytest.fixture(scope="module")
def prompts(world):
    return sample_prompts(world, 5000, seed=3)


def test_use_cases_follow_table_1(prompts):
    counts = Counter(p.use_case for p in prompts)
    for use_case, percent in USE_CASES.items():
        expected = percent / sum(USE_CASES.values())
        error = (expected * (1 - expected) / len(prompts)) ** 0.5
        assert abs(counts[use_case] / len(prompts) - expected) < 5 * error, use_case


def test_same_seed_same_prompts(world, prompts):
    assert sample_prompts(world, 5000, seed=3) == prompts
    assert sample_prompts(world, 50, seed=4) != prompts[:50]


def test_prompts_survive_json(prompts):
    import json

    for prompt in prompts[:300]:
        assert Prompt.from_json(json.loads(json.dumps(prompt.to_json()))) == prompt


def test_every_task_and_every_constraint_occurs(prompts):
    assert {p.meaning["task"] for p in prompts} == {task for tasks in TASKS.values() for task in tasks}
    assert {p.meaning["constraint"]["kind"] for p in prompts if p.meaning.get("constraint")} == set(CONSTRAINTS)
    assert any(p.meaning.get("respectful") for p in prompts)
    assert {p.source for p in prompts} == {"customer", "labeler_plain", "labeler_fewshot", "labeler_user"}


def test_texts_end_with_one_newline_and_keep_no_slots(prompts):
    for prompt in prompts:
        assert prompt.text.endswith("\n") and not prompt.text.endswith("\n\n")
        assert "{" not in prompt.text and "slots" not in prompt.meaning
        assert len(prompt.text.split()) <= 90


def test_no_user_is_in_two_splits(prompts):
    splits = {}
    for prompt in prompts:
        splits.setdefault(prompt.user, set()).add(prompt.split)
    assert all(len(s) == 1 for s in splits.values())
    shares = Counter(p.split for p in prompts)
    assert shares["train"] > 0.7 * len(prompts) and min(shares["valid"], shares["test"]) > 0.05 * len(prompts)


def test_held_out_facts_and_phrasings_are_in_test_prompts_only(world, prompts):
    held_out = [p for p in prompts if any(p.meaning["held_out"].values())]
    assert {p.split for p in held_out} == {"test"}
    assert len(held_out) > 0.4 * sum(p.split == "test" for p in prompts)
    for prompt in prompts:
        if prompt.split != "test" and prompt.meaning.get("relation"):
            assert (prompt.meaning["entity"], prompt.meaning["relation"]) not in world.held_out


def test_held_out_phrasings_are_not_among_the_usual_ones():
    for phrasing in PHRASINGS.values():
        assert phrasing.held_out and not set(phrasing.held_out) & set(phrasing.usual)


def test_customers_are_of_very_different_size_and_some_pass_the_cap(prompts):
    sizes = Counter(p.user for p in prompts if p.source == "customer")
    assert max(sizes.values()) > 200
    assert sorted(sizes.values())[len(sizes) // 2] < 20


def test_false_premises_are_false_and_yes_no_questions_are_both(world, prompts):
    premises = [p.meaning for p in prompts if p.meaning.get("premise")]
    for meaning in premises:
        true = world.is_true(meaning["entity"], meaning["relation"], meaning["premise"]["value"])
        assert true == meaning["premise"]["true"]
        assert meaning["opening"] == ("yes" if true else "no")
    assert {m["premise"]["true"] for m in premises if m["task"] == "yes_no"} == {True, False}


def test_split_argument_keeps_to_its_users(world):
    assert {p.split for p in sample_prompts(world, 60, seed=1, split="test")} == {"test"}


def test_wrong_arguments_name_the_choices(world):
    with pytest.raises(SettingsError, match="train, valid and test"):
        sample_prompts(world, 5, split="dev")
    with pytest.raises(SettingsError, match="labeler_fewshot"):
        sample_prompts(world, 5, sources={"crowd": 1.0})


@pytest.mark.parametrize("task", sorted(PHRASINGS))
def test_words_of_prompts_are_words_of_the_world(world, task):
    from labkit.world.facts import words

    rng = Random(0)
    for wording in (*PHRASINGS[task].usual, *PHRASINGS[task].held_out):
        text = wording.format(**draw_task(world, task, rng)["slots"])
        assert not {w.lower() for w in words(text)} - world.vocabulary, text
