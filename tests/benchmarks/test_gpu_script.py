"""The GPU benchmark goes through all its steps on a CPU, with a tiny model, and says on what it ran."""

import json

import pytest

from tests.benchmarks import contests, fits, gpu, referee, report
from tests.benchmarks.workload import Workload


@pytest.mark.slow
def test_dry_run_reports_phases_hardware_and_versions(tmp_path, monkeypatch, capsys):
    broken = tmp_path / "trl" / "__init__.py"  # TRL is there and fails: the lab's own numbers must not be lost
    broken.parent.mkdir()
    broken.write_text("raise ImportError('this TRL is broken')")
    monkeypatch.setattr("tests.benchmarks.contests.find_trl_ppo", lambda: referee.Home(path=(str(tmp_path),)))
    gpu.main(["--dry-run", "--out", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    assert {"date", "processor", "versions"} <= set(results["environment"])
    lab = results["PPO, tiny"]["lab"]
    assert "this TRL is broken" in results["PPO, tiny"]["peer failed"] and "ratio" not in results["PPO, tiny"]
    assert {"generation", "scoring", "update"} <= set(lab["phases"]) and lab["episodes_per_second"] > 0
    assert lab["threads"] == 1 and lab["versions"]["torch"] and lab["peak_mib"] > 0
    assert lab["dtypes"] == {
        **dict.fromkeys(("policy", "value", "reference", "reward"), "float32"),
        "passes": "bfloat16",
    }
    assert 3 < lab["mean_length"] < 10
    ways = results["sampling, tiny, graphs beside steps"]
    assert ways["lab"]["mean_length"] == ways["steps"]["mean_length"] and ways["ratio"]["median"] > 0
    said = capsys.readouterr().out
    assert "the peer failed, so the lab ran alone: tests.benchmarks.peers.trl_ppo ended early: exit code 1" in said
    assert "| PPO, tiny (episodes per second) |" in said and "| sampling, tiny, graphs beside steps (tokens" in said


def test_results_are_saved_after_each_contest_and_time_is_shared(tmp_path):
    path, given = tmp_path / "deep" / "out.json", []

    def contest(work, *, rounds, seconds, alone=False, fails=()):
        given.append((set(json.loads(path.read_text())) - {"environment"} if path.exists() else set(), seconds))
        if alone in fails:
            raise RuntimeError(f"alone: {alone}\n...\nlast words")
        return {"lab": {"tokens_per_second": 1.0}}

    todo = {name: (contest, gpu.TINY, {"fails": fails}) for name, fails in
            (("well", ()), ("peer", (False,)), ("both", (False, True)), ("last", ()))}  # fmt: skip
    results = gpu.measure(todo, 120.0, 1, path)
    assert [done for done, _ in given] == [set(), {"well"}, {"well"}, {"well", "peer"}, {"well", "peer"}, {"well", "peer", "both"}]
    assert 15 < given[0][1] <= 20 and all(seconds > 15 for _, seconds in given)
    assert json.loads(path.read_text()) == results
    assert results["peer"]["peer failed"].startswith("alone: False") and "lab" not in results["both"]
    assert "last words" in results["both"]["failed"]
    assert "both: failed: alone: False last words" in report.table(results)


def test_a_machine_without_trl_is_described_all_the_same(monkeypatch):
    monkeypatch.setattr(report, "PACKAGES", ("torch", "no-such-package"))
    facts = report.environment()
    assert set(facts["versions"]) == {"torch"} and "torch" in report.table({"environment": facts})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_ppo_is_measured_beside_methods_without_a_value_model(method):
    work = Workload("tiny", batch=16, minibatch=8, mean_response=6.0, max_response=12)
    result = contests.online(work, method, rounds=1)
    assert result["ratio"]["median"] > 0 and all(3 < result[who]["mean_length"] < 10 for who in ("lab", method))


def test_the_peer_is_found_without_network_as_an_environment_or_as_a_folder(tmp_path, monkeypatch):
    folder, environment = tmp_path / "folder", tmp_path / "environment"
    (folder / "trl-1.12.0.dist-info").mkdir(parents=True)
    (environment / "lib/python3.11/site-packages/trl-1.12.0.dist-info").mkdir(parents=True)
    (environment / "bin").mkdir()
    (environment / "bin" / "python").touch()
    assert referee.find_trl_ppo([tmp_path, folder]).path == (str(folder),)
    assert referee.find_trl_ppo([environment, folder]).python == str(environment / "bin" / "python")
    assert referee.find_trl_ppo([tmp_path]) is None
    monkeypatch.setenv("LABKIT_BENCH_TRL", str(folder))
    assert referee.find_trl_ppo().path == (str(folder),)


def test_unequal_numbers_of_optimiser_steps_are_refused():
    work = Workload(batch=512, minibatch=64)
    contests.check_same_work(referee.Bout({"lab": [{"optimizer_steps": 8}]}), work)
    with pytest.raises(RuntimeError, match="trl took"):
        contests.check_same_work(referee.Bout({"trl": [{"optimizer_steps": 1}]}), work)


def test_a_line_is_found_and_a_bend_lowers_its_r2():
    sizes = [1.0, 2.0, 4.0, 8.0]
    straight = fits.line(sizes, [3.0 + 2.0 * s for s in sizes])
    assert straight == pytest.approx({"slope": 2.0, "intercept": 3.0, "r2": 1.0})
    assert fits.line(sizes, [s**3 for s in sizes])["r2"] < 0.95


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
