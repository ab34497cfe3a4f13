"""The GPU benchmark goes through all its steps on a CPU, with a tiny model, and says on what it ran."""

import json

import pytest

from tests.benchmarks import gpu, referee, report


@pytest.mark.slow
def test_dry_run_reports_phases_hardware_and_versions(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tests.benchmarks.contests.TRL_PPO_PYTHON", tmp_path / "absent")  # the lab alone
    gpu.main(["--dry-run", "--out", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    assert {"date", "processor", "versions"} <= set(results["environment"])
    lab = results["PPO, tiny"]["lab"]
    assert {"generation", "scoring", "update"} <= set(lab["phases"]) and lab["episodes_per_second"] > 0
    assert 3 < lab["mean_length"] < 10
    assert "| PPO, tiny (episodes per second) |" in capsys.readouterr().out


def test_ratios_are_taken_round_by_round():
    bout = referee.Bout({"a": [{"cpu": 2.0}, {"cpu": 30.0}], "b": [{"cpu": 1.0}, {"cpu": 10.0}]})
    assert bout.ratios("a", "b") == {"median": 2.5, "min": 2.0, "max": 3.0}


def test_the_table_names_the_peer_and_the_spread():
    result = {
        "lab": {"tokens_per_second": 20.0},
        "generate": {"tokens_per_second": 5.0},
        "ratio": {"median": 4.0, "min": 3.0, "max": 5.0},
    }
    facts = {"date": "2026-11-22T00:00:00", "processor": "a CPU", "threads": 1, "versions": {"torch": "2"}}
    assert "| sampling (tokens per second) | 20.0 | 5.0 | 4.00 (3.00 to 5.00) |" in report.table(
        {"environment": facts, "sampling": result}
    )
