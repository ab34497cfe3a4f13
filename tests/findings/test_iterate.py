"""What `labkit iterate` says of its rounds: gains over the first round, and over as many rankings of the SFT model."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit import iterate as rounds_of
from labkit.iterate import against_control
from labkit.runs import Run

ROUNDS = [{"round": 1, "gold": 0.40}, {"round": 2, "gold": 0.42}, {"round": 3, "gold": 0.47}]


def test_the_last_round_is_set_against_the_first_and_against_the_control() -> None:
    said = against_control([*ROUNDS, {"round": "control", "gold": 0.45}])
    assert "round 3" in said and "less round 1: +0.070" in said and "SFT model alone: +0.020" in said


def test_what_is_not_there_is_not_compared() -> None:
    assert "SFT model" not in against_control(ROUNDS)
    assert "round 1: +" not in against_control([ROUNDS[0], {"round": "control", "gold": 0.45}])
    assert "nothing to compare" in against_control(ROUNDS[:1])


@pytest.fixture
def go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Carry out rounds that train nothing; gives what results.json holds then."""
    home = tmp_path / "it" / "rounds"

    def trained(name: str) -> SimpleNamespace:
        stage = Run(name, home).stage("ppo_ptx")
        if stage.status != "done":
            stage.begin(settings={})
            stage.finish()
        return SimpleNamespace(name=name)

    monkeypatch.setattr(rounds_of, "_claim", lambda lab, say: None)
    monkeypatch.setattr(rounds_of, "_round", lambda labs, number, new, say: trained(str(number)))
    monkeypatch.setattr(rounds_of, "_control", lambda lab, rounds, new, say: trained(f"control-{rounds}"))
    monkeypatch.setattr(rounds_of, "_report", lambda lab, number: {"round": number, "of": lab.name})
    first = SimpleNamespace(name="it", run=Run("it", tmp_path), source=SimpleNamespace(gold=len), ensure=lambda *_, **__: None)

    def run(**options: Any) -> dict[str, Any]:
        rounds_of.iterate(first, **options)
        return json.loads((home / "results.json").read_text())

    return run


def test_fewer_rounds_take_no_row_of_more_away(go_on) -> None:
    whole = go_on(rounds=3, control=True)
    assert [r["round"] for r in whole["rounds"]] == [1, 2, 3] and whole["control"]["of"] == "control-3"
    assert go_on(rounds=1) == whole
    fewer = go_on(rounds=2, control=True)
    assert fewer["rounds"] == whole["rounds"] and fewer["control"] == whole["control"], "the control of the last round"
    assert {n: row["of"] for n, row in fewer["controls"].items()} == {"3": "control-3", "2": "control-2"}


def test_a_round_that_is_there_no_more_leaves_the_record(go_on, tmp_path: Path) -> None:
    go_on(rounds=3, control=True)
    for gone in ("3", "control-3"):
        shutil.rmtree(tmp_path / "it" / "rounds" / gone)
    left = go_on(rounds=1)
    assert [r["round"] for r in left["rounds"]] == [1, 2] and left["control"] is None and left["controls"] == {}
