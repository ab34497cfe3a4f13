"""The miniature benchmarks: items with right answers, and scores of a shipped base model and of a perfect reader."""

from dataclasses import dataclass

import numpy as np
import pytest

from labkit.world import benchmarks
from labkit.world.benchmarks import Choice, benchmark_items, benchmark_rows, measure, run_benchmarks
from labkit.world.facts import build_world

WORLD = build_world(0)
ITEMS = benchmark_items(WORLD, 60, seed=5)


def test_items_are_the_same_for_the_same_seed_and_differ_among_themselves():
    assert benchmark_items(WORLD, 60, seed=5) == ITEMS
    assert benchmark_items(WORLD, 60, seed=6) != ITEMS
    for name, items in ITEMS.items():
        assert len(items) >= 50 and len(set(map(repr, items))) > 0.8 * len(items), name


def test_readings_are_answered_by_their_passage_and_counts_by_counting():
    for item in ITEMS["reading"]:
        assert item.reference in item.context.split("\n")[0]
        assert item.context.endswith("Answer:")
    for item in ITEMS["counting"]:
        listed = item.context.rsplit("Passage: ", 1)[1].split("\n")[0]
        numbers = ("one", "two", "three", "four", "five", "six")
        assert numbers.index(item.reference) == listed.count(",") + 1


def test_truths_are_true_and_myths_false():
    from labkit.world.reading import claims

    for item in ITEMS["truthfulness"]:
        true = [WORLD.is_true(c.entity, c.relation, c.value) for ending in item.endings for c in claims(WORLD, ending)]
        assert true == [True, False]


def test_respectful_and_rude_instructions_are_put_before_the_same_starts():
    starts = [item.context for item in ITEMS["toxicity_basic"]]
    for name in ("toxicity_respectful", "toxicity_asked"):
        assert all(item.context.endswith(s) and item.context != s for item, s in zip(ITEMS[name], starts, strict=True))


@pytest.mark.slow
def test_an_item_is_held_out_exactly_where_no_training_prompt_asks_for_its_fact():
    from labkit.world.prompts import sample_prompts

    asked = {(p.meaning.get("entity"), p.meaning.get("relation")) for p in sample_prompts(WORLD, 3000, split="train")}
    every = benchmark_items(WORLD, 10**4, seed=5)["truthful_generation"]
    held_out = {(i.entity, i.relation) for i in every if i.held_out}
    assert held_out and not held_out & asked
    assert len({(i.entity, i.relation) for i in every} - held_out) > 4 * len(held_out)
    choices = benchmark_items(WORLD, 10**4, seed=5)["truthfulness"]
    assert sum(c.held_out for c in choices) == sum(i.held_out for i in every)


@dataclass
class PerfectReader:
    """Stands in for `measure._Asked`: knows every reference and likes true and right endings best."""

    answers: dict[str, str]
    right: set[tuple[str, str]]

    def complete(self, contexts, temperature=0.0):
        return [self.answers.get(c, "kind.") for c in contexts]

    def logprobs(self, pairs):
        return [np.array([-0.1 if pair in self.right else -2.0]) for pair in pairs]


@pytest.fixture
def perfect(monkeypatch):
    items = benchmark_items(WORLD, 40, seed=0)
    answers = {
        i.context: i.reference + "." * (not i.reference.endswith("."))
        for k in ("reading", "counting", "translation")
        for i in items[k]
    }
    from labkit.world.sentences import statement

    answers |= {i.context: statement(WORLD, i.entity, i.relation) for i in items["truthful_generation"]}
    right = {
        (i.context, i.endings[i.right])
        for k in ("truthfulness", "continuation")
        for i in items[k]
        if isinstance(i, Choice)
    }
    monkeypatch.setattr(measure, "_Asked", lambda *_: PerfectReader(answers, right))
    return run_benchmarks(None, None, WORLD, n=40)


def test_a_perfect_reader_gets_full_marks(perfect):
    for name in (
        "truthfulness",
        "truthful_generation_held_out",
        "truthful_generation",
        "reading",
        "counting",
        "continuation",
        "translation",
    ):
        assert perfect[name].value == pytest.approx(1.0), name
    for name in ("toxicity_basic", "toxicity_respectful", "toxicity_asked"):
        assert perfect[name].value == 0.0 and not perfect[name].higher_is_better


def test_f1_counts_shared_words():
    assert measure._f1("the barn", "barn") == 1.0
    assert measure._f1("barn door", "barn") == pytest.approx(2 / 3)
    assert measure._f1("", "barn") == 0.0


@pytest.mark.slow
def test_a_shipped_base_takes_all_benchmarks_quickly_and_reproducibly():
    from time import process_time

    from labkit.models import load_policy, load_tokenizer
    from labkit.world.pretrain import base_path

    path = base_path("small")
    model, tokenizer = load_policy(path), load_tokenizer(path)
    start = process_time()
    scores = run_benchmarks(model, tokenizer, WORLD, n=40)
    assert process_time() - start < 15
    assert scores == run_benchmarks(model, tokenizer, WORLD, n=40)
    few = {name: s.n for name, s in scores.items() if s.n < 40}
    assert set(benchmarks.TAX_BENCHMARKS) < set(scores) and all(name.endswith("_held_out") for name in few)
    assert all(np.isfinite(s.value) and s.stderr >= 0 for s in scores.values())
    some = ("lm_loss", *benchmarks.TAX_BENCHMARKS)
    assert run_benchmarks(model, tokenizer, WORLD, n=40, only=some) == {name: scores[name] for name in some}
    assert scores["lm_loss"].value < 3.5  # log(1024) = 6.9 for a model that knows nothing
    rows = benchmark_rows({"base": scores})
    assert all(0 <= r["low"] <= r["value"] <= r["high"] <= 1 for r in rows)
    assert {r["benchmark"] for r in rows} == {k for k, s in scores.items() if s.higher_is_better}
