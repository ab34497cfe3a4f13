"""Judging models on prompts of one's own, whose truth nobody knows: the reward model decides, and says so."""

import json
import re
from pathlib import Path

import pytest

from labkit.disk import read_jsonl, write_jsonl
from labkit.errors import DataError, LabError, RunError
from labkit.evaluation.preference import REWARD_MODEL, compare_by_score
from labkit.experiment import Experiment, beside_paper, evaluate, load_evaluation, ppo_stages
from labkit.experiment.needs import is_there
from labkit.experiment.sources import WorldSource
from labkit.iterate import iterate
from labkit.runs import Run
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


def test_rounds_need_labelers_and_say_so_before_anything_trains(own):
    with pytest.raises(DataError, match="no labelers who could rank the newest policy.*by hand"):
        iterate(own, say=lambda line: None)
    assert not own.run.stage("ppo_ptx").path.exists() and not (own.run.path / "rounds").exists()


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


def test_without_pretraining_text_gamma_cannot_be_turned_up_and_training_goes_on(own):
    own.ensure("ppo_init", say=lambda line: None)
    job = own.ppo_job(ptx=False, name="steered").start(paused=True)
    job.dial.turn(ptx_coef=0.2, why="let us see")
    job.resume()
    job.result(block=True)
    assert job.status == "done" and job.dial.knobs.ptx_coef == 0.0
    assert [row["reason"] for row in job.folder.ledger()] == [f"{own.data} has no pretraining.txt to take gradients from"]


def test_an_evaluation_that_ends_early_has_failed(own):
    with pytest.raises(LabError, match="ppo"):
        evaluate(own, ["sft", "ppo"])
    assert own.run.stage("evaluate").status == "failed"
    with pytest.raises(DataError, match="no prompt is left to evaluate on"):
        evaluate(own, ["sft", "base"], prompts=[])


def test_without_pretraining_text_plain_ppo_alone_is_made_and_evaluated(own):
    assert ppo_stages(own) == ["ppo"]
    own.ensure(*ppo_stages(own), say=lambda line: None)
    result = evaluate(own, ["sft", *ppo_stages(own)])
    assert {r["name"] for r in result.win_rates()} == {"ppo"} and not own.run.stage("ppo_ptx").path.exists()


def own_folder(path: Path, **files: list[dict]) -> Experiment:
    """An experiment on a folder of these files, prepared."""
    for name, rows in files.items():
        write_jsonl(path / "own" / f"{name}.jsonl", rows)
    lab = Experiment(Run("own", path / "runs"), scale="smoke", model="small", data=str(path / "own"))
    lab.prepare()
    return lab


SAID = [{"prompt": f"Say the word number {n} .", "completion": f"word {n}"} for n in range(40)]


def test_what_is_tested_trains_no_reward_model(tmp_path: Path) -> None:
    """Comparisons on the demonstrations' own prompts, some of which the split by prompt made test prompts."""
    pairs = [{"prompt": row["prompt"], "chosen": "a", "rejected": "b"} for row in SAID]
    lab = own_folder(tmp_path, demonstrations=SAID, comparisons=[*pairs, {**pairs[0], "prompt": "New .", "split": "test"}])
    tested = {p.text for p in lab.prompts("test")}
    ranked = [r.prompt for rows in lab.rank().values() for r in rows]
    assert tested and len(ranked) == len(pairs) - len(tested)
    assert not tested & {p.text for p in ranked} and "New ." not in {p.text.strip() for p in ranked}


def test_files_that_number_their_rows_lose_none(tmp_path: Path) -> None:
    prompts = [{"id": str(n), "prompt": f"Ask about number {n} ."} for n in range(20)]
    lab = own_folder(tmp_path, demonstrations=[{"id": str(n), **row} for n, row in enumerate(SAID[:20])], prompts=prompts)
    found = [p for split in ("train", "valid", "test") for p in lab.prompts(split)]
    assert len(found) == len({p.id for p in found}) == 40
    assert {d.prompt.text for d in lab.demonstrations()} == {p.text for p in lab.prompts() if p.text.startswith("Say")}


def test_what_prompts_say_of_split_and_user_holds_for_demonstrations_of_the_same_text(tmp_path: Path) -> None:
    where = ["test"] * 5 + ["valid"] * 3 + ["train"] * 32
    prompts = [{"prompt": row["prompt"], "split": split, "user": f"u-{split}"} for row, split in zip(SAID, where, strict=True)]
    lab = own_folder(tmp_path, demonstrations=SAID, prompts=prompts)
    assert [len(lab.prompts(split)) for split in ("test", "valid", "train")] == [5, 3, 32]
    assert len(lab.demonstrations()) == 32 and len(lab.demonstrations("valid")) == 3
    assert lab.prompts("train", "ppo") == lab.prompts("train"), "there may be few: all stages learn from the same"


def test_without_pretraining_text_the_init_learns_from_demonstrations_alone(tmp_path: Path, capsys) -> None:
    lab = own_folder(tmp_path, demonstrations=SAID)
    assert lab.sft_job(init=True).settings["pretrain_share"] == 0
    assert "no pretraining.txt" in capsys.readouterr().out


def test_half_made_data_are_made_again(tmp_path: Path) -> None:
    """A process that was killed between two files."""
    pairs = [{"prompt": row["prompt"], "chosen": "a", "rejected": "b"} for row in SAID]
    lab = own_folder(tmp_path, demonstrations=SAID, comparisons=pairs)
    lab.rank()
    for file in ("rankings/valid.jsonl", "demonstrations/valid.jsonl"):
        (lab.run.path / file).unlink()
    assert not is_there(lab.run, "prompts") and not is_there(lab.run, "rankings")


def refusal(path: Path, **files: list[dict]) -> str:
    """What preparing a folder of these files is refused with; nothing is written then."""
    with pytest.raises(DataError) as refused:
        own_folder(path, **files)
    assert not list((path / "runs").rglob("*.json*"))
    return str(refused.value)


def test_a_split_without_prompts_or_demonstrations_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    rows = [{**row, "split": "train" if n else "test"} for n, row in enumerate(SAID)]
    assert re.search(r"none of the 40 prompts that are left is of the split 'valid'.*\(\"split\": \"valid\"\)", refusal(tmp_path / "a", demonstrations=rows))
    asked = [{"prompt": f"Ask {n} .", "split": ("train", "valid", "test")[n % 3]} for n in range(9)]
    found = refusal(tmp_path / "b", demonstrations=[{**row, "split": "train"} for row in SAID], prompts=asked)
    assert "no demonstration is of the split 'valid'" in found
    assert "at least three prompts" in refusal(tmp_path / "c", demonstrations=SAID[:2])


def test_few_users_leave_a_split_by_prompt_and_a_line_that_says_so(tmp_path: Path) -> None:
    lab = own_folder(tmp_path, demonstrations=[{**row, "user": f"u{n % 4}"} for n, row in enumerate(SAID)])
    assert all(lab.prompts(split) for split in ("train", "valid", "test")) and lab.demonstrations("valid")
    assert "too few users (4)" in str(lab.prepare())
    told = {row["setting"]: row["here"] for row in beside_paper(lab, "prompts")}
    assert told["splits"] == "by prompt"


def test_other_files_are_looked_at_before_anything_trains(tmp_path: Path) -> None:
    pair = {"prompt": SAID[0]["prompt"], "chosen": "a"}
    assert "comparisons" in refusal(tmp_path / "a", demonstrations=SAID, comparisons=[pair])
    tested = [{"prompt": f"New {n} .", "chosen": "a", "rejected": "b", "split": "test"} for n in range(3)]
    assert "All 3 comparisons are on prompts of the test split" in refusal(tmp_path / "b", demonstrations=SAID, comparisons=tested)
    tied = [{"prompt": row["prompt"], "completions": ["a", "b"], "ranks": [1, 1]} for row in SAID]
    assert "training comparisons" in (said := refusal(tmp_path / "d", demonstrations=SAID, comparisons=tied)) and "all tied" in said
    long = [{"prompt": f"{n} " + "very long " * 600, "chosen": "a", "rejected": "b"} for n in range(20)]
    assert "with a prompt over the limit" in refusal(tmp_path / "e", demonstrations=SAID, comparisons=long)
    (tmp_path / "c" / "own").mkdir(parents=True)
    (tmp_path / "c" / "own" / "pretraining.txt").write_text(" \n\n ")
    assert "pretraining.txt is empty" in refusal(tmp_path / "c", demonstrations=SAID)
