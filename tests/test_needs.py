"""What a run says of stages whose parents have changed, and rounds that went on from another run."""

from pathlib import Path

import pytest

from labkit.disk import put_aside, write_json
from labkit.experiment import needs
from labkit.iterate import _claim
from labkit.runs import Run


class Prepared:
    """As much of an Experiment as `ensure` asks for where everything is there."""

    scale = "smoke"
    prepare = sft_job = rank = reward_job = ppo_job = None

    def __init__(self, run: Run) -> None:
        self.run = run


@pytest.fixture
def lab(tmp_path: Path) -> Prepared:
    """A whole run of small files, each stage naming what it was made from."""
    run = Run("main", tmp_path)
    for name in ("prompts", "demonstrations", "rankings"):
        for split in ("train", "valid", "test"):
            write_json(run.path / name / f"{split}.jsonl", {"of": name})
    write_json(run.path / "prompts" / "experiment.json", {"seed": 0})
    train(run, "sft", "demonstrations")
    train(run, "ppo_init", "demonstrations")
    train(run, "reward", "demonstrations", "rankings")
    train(run, "ppo", "prompts", "ppo_init", "reward")
    return Prepared(run)


def train(run: Run, stage: str, *parents: str, weights: str = "first") -> None:
    folder = run.stage(stage)
    folder.begin(settings={}, parents=needs.fingerprints(run, *parents))
    write_json(folder.model / "weights.json", {stage: weights})
    folder.finish()


def told(lab: Prepared, *wanted: str) -> list[str]:
    said: list[str] = []
    needs.ensure(lab, *wanted, say=said.append)
    return said


def test_a_run_that_fits_together_says_nothing(lab: Prepared) -> None:
    assert told(lab, "ppo", "ppo", "reward", "sft") == []


def test_a_policy_of_another_reward_model_is_kept_and_said_to_be_one(lab: Prepared) -> None:
    train(lab.run, "reward", "demonstrations", "rankings", weights="second")
    (line,) = told(lab, "ppo")
    assert "main/ppo was made from other reward than" in line and "05_ppo_ptx trains it again" in line
    assert lab.run.stage("ppo").status == "done"


def test_a_change_further_up_is_told_where_it_happened(lab: Prepared) -> None:
    write_json(lab.run.path / "rankings" / "train.jsonl", {"of": "ranked again"})
    (line,) = told(lab, "ppo")
    assert "main/reward was made from other rankings" in line and "04_reward" in line


def test_prompts_that_a_sweep_brought_under_another_seed_are_not_others(lab: Prepared) -> None:
    write_json(lab.run.path / "prompts" / "experiment.json", {"seed": 1, "data_seed": 0})
    assert told(lab, "ppo") == []


def test_a_parent_that_is_gone_says_nothing(lab: Prepared) -> None:
    put_aside(lab.run.path / "demonstrations")
    assert needs.parents_that_changed(lab.run, "reward") == []


def test_rounds_of_a_run_that_was_trained_anew_are_put_aside_and_not_mixed(lab: Prepared) -> None:
    train(lab.run, "ppo_ptx", "prompts", "ppo_init", "reward")
    said: list[str] = []
    _claim(lab, said.append)
    write_json(lab.run.path / "rounds" / "2" / "rankings" / "complete.json", {})
    _claim(lab, said.append)
    assert said == [] and (lab.run.path / "rounds" / "2").is_dir(), "resumed"

    train(lab.run, "ppo_ptx", "prompts", "ppo_init", "reward", weights="second")
    _claim(lab, said.append)
    assert "other ppo_ptx" in said[0] and not (lab.run.path / "rounds" / "2").exists()
    assert len(list(lab.run.path.glob("rounds.*.old/2/rankings/complete.json"))) == 1, "nothing is lost"


def test_what_is_put_aside_within_one_second_has_names_of_its_own_that_end_in_old(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        (tmp_path / "stage").mkdir()
        names.append(put_aside(tmp_path / "stage").name)
    assert len(set(names)) == 3 and all(name.endswith(".old") for name in names)
