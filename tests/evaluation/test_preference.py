"""Comparing models by simulated labelers and by the gold judge, with models of known quality."""

from random import Random

import pytest

from labkit.errors import DataError
from labkit.evaluation.preference import GOLD, compare, compare_by_score
from labkit.types import Completion
from labkit.world.facts import build_world
from labkit.world.labelers import hire_labelers
from labkit.world.prompts import sample_prompts
from labkit.world.responses import corrupted, ideal_response


@pytest.fixture(scope="module")
def prompts():
    return sample_prompts(build_world(0), 240, seed=21)


def answers(prompts, model, share_good, seed=0):
    rng = Random(seed)
    texts = [ideal_response(p, rng) if rng.random() < share_good else corrupted(p, rng).text for p in prompts]
    return [
        Completion(f"{model}-{p.id}", p.id, t, finished=True, model=model) for p, t in zip(prompts, texts, strict=True)
    ]


@pytest.fixture(scope="module")
def preference(prompts):
    made = {
        "weak": answers(prompts, "weak", 0.1),
        "good": answers(prompts, "good", 0.95),
        "fair": answers(prompts, "fair", 0.5),
    }
    return compare(prompts, made, baseline="weak")


def test_better_models_win_more_often_for_every_judge(preference):
    for name in ("training labelers", "held-out labelers", GOLD):
        good, fair = preference.win_rates["good", name], preference.win_rates["fair", name]
        assert good.rate > fair.rate > 0.5 and good.low > 0.6
        assert good.low < good.rate < good.high and good.prompts == 240


def test_the_gold_judge_is_more_decided_than_noisy_labelers(preference):
    assert preference.win_rates["good", GOLD].rate > preference.win_rates["good", "training labelers"].rate


def test_likert_utility_and_flags_follow_quality(preference):
    order = ["good", "fair", "weak"]
    assert sorted(order, key=lambda m: -preference.utility[m]) == order
    for name in preference.likert["good"]:
        assert sorted(order, key=lambda m: -preference.likert[m][name]) == order
    assert preference.flags["good"]["fails_instruction"] < preference.flags["weak"]["fails_instruction"]
    assert preference.flags["good"]["satisfies_constraint"] > preference.flags["weak"]["satisfies_constraint"]


def test_split_by_users_adds_up(preference):
    name = "training labelers"
    parts = [preference.by_users["good", name, u] for u in ("train users", "held-out users")]
    whole = preference.win_rates["good", name]
    assert sum(p.n for p in parts) == whole.n
    assert sum(p.rate * p.n for p in parts) / whole.n == pytest.approx(whole.rate)


def test_equal_texts_tie(prompts):
    same = answers(prompts, "one", 0.5)
    again = [Completion(f"two-{c.id}", c.prompt_id, c.text, finished=True, model="two") for c in same]
    tied = compare(prompts[:40], {"one": same[:40], "two": again[:40]}, baseline="one")
    assert {r.rate for r in tied.win_rates.values()} == {0.5}


def test_labelers_can_be_chosen(prompts, preference):
    chosen = [h for h in hire_labelers() if h.group == "heldout"]
    made = {m: answers(prompts, m, s) for m, s in (("a", 0.9), ("b", 0.2))}
    found = compare(prompts, made, baseline="b", labelers=chosen, each=1)
    assert {name for _, name in found.win_rates} == {"held-out labelers", GOLD}
    assert len(found.rankings) == len(prompts)


def test_outcome_prints_and_turns_into_rows_and_json(preference):
    import json

    assert "held-out labelers" in preference.text() and json.dumps(preference.to_json())
    assert {"name", "group", "rate", "low", "high", "count"} == set(preference.rows()[0])


def test_an_outcome_by_scores_alone_prints_too(prompts):
    own = {m: [Completion(f"{m}{p.id}", p.id, m) for p in prompts] for m in ("a", "b")}
    text = compare_by_score(prompts, own, {"a": [1.0] * len(prompts), "b": [0.0] * len(prompts)}, baseline="b").text()
    assert "preferred to b" in text and "gold" not in text


def test_missing_completions_and_baselines_are_errors(prompts):
    with pytest.raises(DataError, match="'b' has 3 completions"):
        compare(prompts, {"a": answers(prompts, "a", 1.0), "b": answers(prompts, "b", 1.0)[:3]}, baseline="a")
    with pytest.raises(DataError, match="baseline 'c'"):
        compare(prompts, {"a": answers(prompts, "a", 1.0)}, baseline="c")
