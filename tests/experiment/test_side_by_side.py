"""Runs of several people on one table: their knobs, their hands, their numbers, and what does not hold any more."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from labkit.cli import main
from labkit.disk import write_json
from labkit.experiment.evaluation import Evaluation
from labkit.experiment.needs import fingerprints
from labkit.experiment.side_by_side import policies, shown
from labkit.runs import FACTS, Run, StageFolder
from labkit.types import Step


def trained(run: Run, name: str = "ppo_ptx", steps: int = 2, status: str = "done", **knobs: float) -> StageFolder:
    """A PPO stage on the reward model that lies in the run."""
    write_json(run.path / FACTS, {"scale": "smoke", "seed": 0, "model": "small", "reward_base": "reader", "data": "world"})
    model = run.stage("reward").model
    if not model.is_dir():
        run.stage("reward").begin(settings={})
        model.mkdir()
        (model / "weights").write_text("of the teacher")
        run.stage("reward").finish()
    stage = run.stage(name)
    stage.begin(settings={"steps": 2, "knobs": {"kl_coef": 0.1, "ptx_coef": 0.2, **knobs}}, parents=fingerprints(run, "reward"))
    for number in range(1, steps + 1):
        stage.append_step(Step("ppo", number, {"score": 0.5 * number, "gold": 0.25, "kl_k1": 2.0}, {}))
    stage.model.mkdir()
    stage.finish(status, error="the kernel died" if status == "failed" else None)
    return stage


def evaluated(run: Run, **models: float) -> None:
    """An evaluation of these models, by the share of answers preferred to SFT's."""
    told: dict[str, Any] = {f.name: [] for f in fields(Evaluation) if f.default_factory is not dict}
    told |= {"models": ["sft", *models], "baseline": "sft", "prompts": 24, "quality": [{"model": m, "gold": 0.75} for m in models]}
    told["preferences"] = [{"model": m, "group": "held-out labelers", "rate": rate} for m, rate in models.items()]
    run.stage("evaluate").begin(settings={}, parents=fingerprints(run, *models))
    write_json(run.stage("evaluate").path / "results.json", told)
    run.stage("evaluate").finish()


def asked(knob: str, by: str = "hand", outcome: str = "applied", **more: Any) -> dict[str, Any]:
    return {"time": 1.0, "knob": knob, "asked": 0.5, "step": 1, "old": 0.1, "new": 0.5, "by": by, "outcome": outcome, **more}


def test_a_row_says_what_was_given_who_steered_and_how_it_ended(tmp_path: Path) -> None:
    anna, bert = Run("mine", tmp_path / "anna"), Run("mine", tmp_path / "bert")
    steered = trained(anna)
    for row in (asked("kl_coef"), asked("lr"), asked("rollback"), asked("kl_coef", outcome="refused"), asked("kl_coef", by="controller")):
        steered.append_ledger(row)
    evaluated(anna, ppo_ptx=0.625)
    trained(bert, kl_coef=0.02)
    one, other = shown(policies([anna.path, bert.path]))
    assert one == {
        "run": str(anna.path), "policy": "ppo_ptx", "kl_coef": 0.1, "ptx_coef": 0.2, "steps": 2, "by hand": "2 turns, 1 rollback",
        "score": 1.0, "gold": 0.25, "KL": 2.0, "gold, test": 0.75, "preferred to sft": 0.625, "note": "",
    }  # fmt: skip
    assert other == {**one, "run": str(bert.path), "kl_coef": 0.02, "by hand": "", "gold, test": None, "preferred to sft": None}


def test_what_does_not_hold_any_more_is_said(tmp_path: Path) -> None:
    run = Run("mine", tmp_path)
    trained(run)
    evaluated(run, ppo_ptx=0.5)
    (run.stage("ppo_ptx").model / "weights").write_text("edited")
    (run.stage("reward").model / "weights").write_text("of the student")
    trained(run, "ppo", steps=1, status="failed")
    old, new = policies([run.path])
    assert old["note"] == "It was made from other reward than lie there now. It was trained again since it was evaluated."
    assert new["note"] == "It is failed: the kernel died." and new["steps"] == 1


def test_one_who_is_behind_and_one_who_is_not_there_do_not_keep_the_others_from_the_table(tmp_path: Path) -> None:
    behind = Run("behind", tmp_path)
    behind.stage("sft").begin(settings={})
    behind.stage("sft").finish()
    trained(Run("there", tmp_path))
    (tmp_path / "damaged" / "ppo").mkdir(parents=True)
    (tmp_path / "damaged" / "ppo" / "run.json").write_text("{")
    rows = policies(["behind", "nobody", "../up", "a b", "damaged", "there"], tmp_path)
    notes = {row["run"]: row["note"] for row in rows}
    assert notes["behind"] == "No policy yet; there is sft done." and "There is no folder" in notes["nobody"] and "There is no folder" in notes["../up"]
    assert "cannot name a run" in notes["a b"] and notes["damaged"].startswith("No policy yet") and notes["there"] == ""
    assert [row.get("policy") for row in shown(rows)] == [None] * 5 + ["ppo_ptx"]


def test_a_run_that_may_not_be_read_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(Run("mine", tmp_path))

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert policies(["mine"], tmp_path) == [{"run": "mine", "note": f"{tmp_path / 'mine'}: Permission denied."}]


def test_the_command_prints_the_table_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trained(Run("mine", tmp_path))
    printed = []
    for more in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["labkit", "compare", "mine", "--root", str(tmp_path), *more])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
        printed.append(capsys.readouterr().out)
    assert printed[0].splitlines()[0].split()[:4] == ["run", "policy", "kl_coef", "ptx_coef"]
    assert json.loads(printed[1])[0]["given"]["scale"] == "smoke"
