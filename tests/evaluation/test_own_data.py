"""Judging models on prompts of one's own, whose truth nobody knows: the reward model decides, and says so."""

import json

import pytest

from labkit.errors import DataError, LabError, RunError
from labkit.evaluation.preference import REWARD_MODEL, compare_by_score
from labkit.experiment import Experiment, evaluate, load_evaluation
from labkit.experiment.sources import WorldSource
from labkit.runs import Run, read_jsonl
from labkit.types import Completion, Demonstration, Prompt
from labkit.world.prompts import sample_prompts

pytestmark = pytest.mark.slow  # one run, looked at by test after test


def answers(model, count):
    return [Completion(f"{model}{i}", f"p{i}", f"answer {i}", (3, 4), True, model) for i in range(count)]


def test_the_higher_score_is_preferred_and_equal_ones_tie():
    prompts = [Prompt(f"p{i}", f"question {i}") for i in range(4)]
    scores = {"old": [0.0, 0.0, 0.0, 0.0], "new": [1.0, 2.0, 0.0, -1.0]}
    drawn = {m: answers(m, 4) for m in scores}
    found = compare_by_score(prompts, drawn, scores, baseline="old")
    assert found.win_rates["new", REWARD_MODEL].rate == (1 + 1 + 0.5 + 0) / 4
    assert found.win_rates["new", REWARD_MODEL].n == 4 and not found.utility
    turned = compare_by_score(prompts, drawn, {m: [-s for s in own] for m, own in scores.items()}, baseline="old")
    assert turned.win_rates["new", REWARD_MODEL].rate == 1 - found.win_rates["new", REWARD_MODEL].rate


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run on a small folder of files, made from the world's so that it needs no download."""
    folder = tmp_path_factory.mktemp("own")
    world = WorldSource()
    asked = sample_prompts(world.world, 160, seed=5)
    written = world.demonstrations(asked, 0)
    long = [Demonstration(Prompt(f"long{i}", f"Number {i}: " + "very long " * 600), "Yes.") for i in range(20)]
    written = [*written, *long]
    rows = {
        "demonstrations": [{"prompt": d.prompt.text, "completion": d.text} for d in written],
        "comparisons": [{"prompt": d.prompt.text, "chosen": d.text, "rejected": "No."} for d in written[:60]],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Experiment(Run("own", folder / "runs"), scale="smoke", model="small", data=str(folder))


def test_prompts_longer_than_the_context_stop_no_stage(own):
    counts = own.prepare().counts
    assert counts["short enough"] == counts["without PII"] - 20
    everywhere = [p for split in ("train", "valid", "test") for p in own.prompts(split)]
    everywhere += [d.prompt for split in ("train", "valid") for d in own.demonstrations(split)]
    assert everywhere and not any("very long" in p.text for p in everywhere)


def test_without_a_reward_model_nobody_can_judge_and_the_stage_has_failed(own):
    own.ensure("sft", say=lambda line: None)
    with pytest.raises(RunError, match="nobody can judge.*04_reward"):
        evaluate(own, ["base", "sft"])
    assert own.run.stage("evaluate").status == "failed"
    assert "04_reward" in own.run.stage("evaluate").manifest["error"]


def test_the_reward_model_judges_prompts_of_ones_own(own):
    own.ensure("reward", say=lambda line: None)
    result = evaluate(own, ["base", "few-shot", "sft", "best-of-2"])
    assert own.run.stage("evaluate").status == "done" and load_evaluation(own.run) == result
    assert result.groups == [REWARD_MODEL] and result.benchmarks == []
    assert {r["name"] for r in result.win_rates()} == {"base", "few-shot", "best-of-2"}
    assert all(0 <= r["low"] <= r["rate"] <= r["high"] <= 1 for r in result.win_rates())
    quality = {q["model"]: q for q in result.quality}
    assert quality["best-of-2"]["score"] > quality["sft"]["score"], "the reward model chose its own favourites"
    assert "gold" not in quality["sft"] and {"RM score", f"preferred to sft, {REWARD_MODEL}"} <= set(result.table()[0])
    assert {"sft score", "base preferred to sft"} <= set(result.summary())
    judges = {row["judge"] for row in read_jsonl(own.run.path / "evaluate" / "judgments.jsonl")}
    assert judges == {REWARD_MODEL}


def test_an_evaluation_that_ends_early_has_failed(own):
    with pytest.raises(LabError, match="ppo"):
        evaluate(own, ["sft", "ppo"])
    assert own.run.stage("evaluate").status == "failed"
    with pytest.raises(DataError, match="no prompt is left to evaluate on"):
        evaluate(own, ["sft", "base"], prompts=[])
