"""What a run says of stages whose parents have changed, and rounds that went on from another run."""

import contextlib
import os
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.batch.records import makes
from labkit.disk import file_hash, put_aside, write_json
from labkit.experiment import needs, origins
from labkit.iterate import _claim
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.runs import Run
from tests.labels.helpers import draft, tasks


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


def told_of_origins(lab: Prepared, tmp_path: Path) -> Path:
    """The run, made anew from models and data of one's own whose content its stages name; returns their folder."""
    for name in ("base", "judge"):
        write_json(tmp_path / name / "weights.json", {"of": name})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pretraining.txt").write_text("Once upon a time.")
    facts = {"seed": 0, "model": str(tmp_path / "base"), "reward_base": str(tmp_path / "judge"), "data": str(tmp_path / "data")}
    write_json(lab.run.path / "prompts" / "experiment.json", facts)
    train(lab.run, "sft", "demonstrations", "base")
    train(lab.run, "ppo_init", "demonstrations", "base", "pretraining")
    train(lab.run, "reward", "demonstrations", "rankings", "labels", "reward_base")
    train(lab.run, "ppo", "prompts", "ppo_init", "reward", "pretraining")
    return tmp_path


def test_the_notebook_named_for_a_stage_is_the_one_that_says_it_makes_it(repository):
    for stage, notebook in needs.MADE_IN.items():
        assert stage in makes(repository / "notebooks" / f"{notebook}.ipynb")


def rank_by_hand(lab: Prepared, *orders: str) -> None:
    """So many cards more, each ranked so; without orders the board is only looked at."""
    with contextlib.closing(LabelSession(tasks(4), "ada", labels_path(lab.run.path, "ada"))) as desk:
        for order in orders:
            desk.submit(draft(*order.split("|")))


def test_a_run_that_fits_together_says_nothing(lab: Prepared) -> None:
    assert told(lab, "ppo", "ppo", "reward", "sft") == []


def test_a_policy_of_another_reward_model_is_kept_and_said_to_be_one(lab: Prepared) -> None:
    train(lab.run, "reward", "demonstrations", "rankings", weights="second")
    (line,) = told(lab, "ppo", "reward", "ppo")  # said once, whatever needs it
    assert "main/ppo was made from other reward than" in line and "05_ppo_ptx trains it again" in line
    assert lab.run.stage("ppo").status == "done"


def test_a_change_further_up_is_told_where_it_happened(lab: Prepared) -> None:
    write_json(lab.run.path / "rankings" / "train.jsonl", {"of": "ranked again"})
    (line,) = told(lab, "ppo")
    assert "main/reward was made from other rankings" in line and "04_reward" in line


def test_an_evaluation_is_about_both_policies_unless_plain_ppo_was_chosen_or_there_is_nothing_to_mix_in(lab: Prepared) -> None:
    lab.data = "world"
    assert needs.ppo_stages(lab) == ["ppo"], "γ = 0 was chosen in 05"
    put_aside(lab.run.path / "ppo")
    assert needs.ppo_stages(lab) == ["ppo", "ppo_ptx"]
    lab.data, lab.source = "own", SimpleNamespace(has_pretraining=False)
    assert needs.ppo_stages(lab) == ["ppo"]
    train(lab.run, "ppo_ptx", "prompts", "ppo_init", "reward")
    assert needs.ppo_stages(lab) == ["ppo", "ppo_ptx"], "it is there"


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


@pytest.mark.parametrize(
    "file, content, said",
    [
        ("base/weights.json", '{"of": "another base"}', {"sft": "base", "ppo_init": "base"}),
        ("judge/weights.json", '{"of": "another judge"}', {"reward": "reward_base"}),
        ("data/pretraining.txt", "Twice upon a time.", {"ppo_init": "pretraining", "ppo": "pretraining"}),
    ],
)
def test_another_base_or_text_is_told_by_every_stage_that_learnt_from_it(lab, tmp_path, file, content, said) -> None:
    home = told_of_origins(lab, tmp_path / "own")
    stages = ("sft", "ppo_init", "reward", "ppo")
    assert told(lab, *stages) == []
    os.utime(home / file, (1, 1))
    assert told(lab, *stages) == [], "a copy with another time is the same"
    (home / file).write_text(content)
    assert {s: needs.parents_that_changed(lab.run, s) for s in stages} == {s: [said[s]] if s in said else [] for s in stages}
    (home / file).unlink()
    if file.startswith("data"):
        assert told(lab, *stages) == [], "what is gone says nothing"


def test_a_picture_or_a_readme_beside_a_model_does_not_make_it_another(lab, tmp_path) -> None:
    home = told_of_origins(lab, tmp_path / "own")
    (home / "base" / "README.md").write_text("What a hub holds and one machine has fetched.")
    assert told(lab, "sft", "ppo") == []


def test_labels_by_hand_are_parents_of_the_reward_model_and_looking_at_the_board_changes_nothing(lab, tmp_path) -> None:
    told_of_origins(lab, tmp_path / "own")
    rank_by_hand(lab)
    assert told(lab, "ppo") == [], "there were none, and there are none"
    rank_by_hand(lab, "c1|c0 c2")
    (line,) = told(lab, "ppo")
    assert "main/reward was made from other labels" in line and "04_reward" in line
    train(lab.run, "reward", "demonstrations", "rankings", "labels", "reward_base")
    before = labels_path(lab.run.path, "ada").read_bytes()
    rank_by_hand(lab)
    assert labels_path(lab.run.path, "ada").read_bytes() != before and told(lab, "reward") == []
    put_aside(lab.run.path / "labels")
    assert told(lab, "reward") == []


def test_a_manifest_from_before_says_nothing_of_what_it_does_not_name(lab, tmp_path) -> None:
    home = told_of_origins(lab, tmp_path / "own")
    train(lab.run, "reward", "demonstrations", "rankings")
    train(lab.run, "sft", "demonstrations")
    rank_by_hand(lab, "c1|c0 c2")
    (home / "base" / "weights.json").write_text("{}")
    assert needs.parents_that_changed(lab.run, "reward") == needs.parents_that_changed(lab.run, "sft") == []


def test_what_cannot_be_told_is_left_out(lab, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert set(needs.fingerprints(lab.run, "labels", "base", "reward_base", "pretraining")) == {"labels"}, "an older run"
    facts = {"model": "some/hub-model", "reward_base": "no such/folder/at all", "data": str(tmp_path / "gone")}
    write_json(lab.run.path / "prompts" / "experiment.json", facts)
    assert set(needs.fingerprints(lab.run, "base", "reward_base", "pretraining")) == set()


def test_the_worlds_bases_and_text_have_names_that_cost_little(lab) -> None:
    write_json(lab.run.path / "prompts" / "experiment.json", {"model": "large", "reward_base": "reader", "data": "world"})
    first = needs.fingerprints(lab.run, "base", "reward_base", "pretraining")
    started = time.perf_counter()
    assert needs.fingerprints(lab.run, "base", "reward_base", "pretraining") == first and len(set(first.values())) == 3
    assert time.perf_counter() - started < 0.5
    write_json(lab.run.path / "prompts" / "experiment.json", {"model": "small", "reward_base": "reader", "data": "world"})
    again = needs.fingerprints(lab.run, "base", "reward_base", "pretraining")
    assert {name for name in first if again[name] != first[name]} == {"base"}


def test_of_a_large_file_pieces_from_all_over_count(tmp_path, monkeypatch) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(range(256)) * 4096)  # 1 MB
    assert origins._file(file) == file_hash(file)
    monkeypatch.setattr(origins, "LARGE", 1 << 19)
    sampled = origins._file(file)
    assert sampled == origins._file(file) != file_hash(file)
    weights = bytearray(file.read_bytes())
    for place in (0, len(weights) // 2, len(weights) - 1):
        changed = bytearray(weights)
        changed[place] ^= 1
        file.write_bytes(changed)
        assert origins._file(file) != sampled, place
    file.write_bytes(weights + b"0")
    assert origins._file(file) != sampled


def test_answers_come_from_the_models_that_gave_them_and_from_what_those_were_asked() -> None:
    assert needs.answered_by(["base", "few-shot", "sft", "best-of-8", "ppo"]) == ["prompts", "base", "demonstrations", "sft", "reward", "ppo"]
    assert needs.answered_by(["sft"], prompts=False) == ["sft"]


def test_other_methods_name_what_they_learn_from(lab, monkeypatch) -> None:
    """The training itself, TRL's, is left out."""
    from labkit.baselines import OfflineSettings, OnlineSettings
    from labkit.baselines import train as other

    module = import_module("labkit.baselines.train")
    monkeypatch.setattr(module, "_trainer", lambda *given: None)
    monkeypatch.setattr(module, "_run", lambda *given: None)
    lab.seed = 0
    assert set(other(lab, "dpo", OfflineSettings()).manifest["parents"]) == {"ppo_init", "rankings", "labels"}
    grpo = other(lab, "grpo", OnlineSettings())
    assert grpo.manifest["parents"] == needs.fingerprints(lab.run, "ppo_init", "prompts", "reward")
    assert needs.parents_that_changed(lab.run, "grpo") == []
