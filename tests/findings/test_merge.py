"""Seeds measured in two sets are decided together, as if they had been measured in one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit.disk import write_json
from labkit.errors import DataError, SettingsError
from labkit.findings import load_plan, measure_all, plan_of
from labkit.findings.by_size import sweeps_by_size
from labkit.findings.merge import joined
from labkit.findings.plan import Plan
from labkit.findings.records import Records
from labkit.findings.report import seeds_shown, to_json
from tests.findings.recorded import record_all

SIZES = ["small", "medium"]


def a_set(root: Path, name: str, seeds: list[int]) -> tuple[Plan, Records]:
    """Records of these seeds under root/name, with what was measured from them beside."""
    plan = load_plan(root / name, plan_of("tour", SIZES, seeds))
    record_all(root / name, plan, 1)
    records = Records(root / name, plan)
    write_json(root / name / "findings.json", to_json(plan, measure_all(records)))
    return plan, records


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name, seeds in {"all": [12, 13, 14, 15], "first": [12, 13], "second": [14, 15]}.items():
        a_set(root, name, seeds)
    return root


def test_two_sets_decide_as_one(sets: Path) -> None:
    plan, records = load_plan(sets / "first"), Records(sets / "first", load_plan(sets / "first"))
    merged, outcomes, said = joined(plan, measure_all(records), sets / "second" / "findings.json")
    whole = measure_all(Records(sets / "all", load_plan(sets / "all")))
    assert merged.seeds == (12, 13, 14, 15) and "14, 15" in said
    for ours, one in zip(outcomes, whole, strict=True):
        assert ours.verdict == one.verdict, ours.finding.id
        for a, b in zip(ours.claims, one.claims, strict=True):
            assert a.by_seed == b.by_seed and a.measured == b.measured, a.words


def test_a_claim_that_the_other_set_did_not_make_says_which_seeds_it_lacks(sets: Path, tmp_path: Path) -> None:
    other = json.loads((sets / "second" / "findings.json").read_text())
    other["findings"][0]["claims"].pop(0)
    (tmp_path / "findings.json").write_text(json.dumps(other))
    records = Records(sets / "first", load_plan(sets / "first"))
    _, outcomes, _ = joined(records.plan, measure_all(records), tmp_path / "findings.json")
    assert set(outcomes[0].claims[0].by_seed) == {12, 13} and set(outcomes[0].claims[0].lost) == {14, 15}


def test_seeds_swept_at_other_sizes_count_for_all_claims_but_those_on_sweeps(sets: Path) -> None:
    home, file = sets / "first", sets / "second" / "findings.json"
    plan = replace(load_plan(home), sweep=("small", "medium"))
    ours = measure_all(Records(home, plan))
    merged, outcomes, said = joined(plan, ours, file)
    assert "claims on sweeps leave them out (swept at small there)" in said and merged.sweep == plan.sweep
    with_all = {w.words for o in outcomes for w in o.claims if set(w.by_seed) == {12, 13, 14, 15}}
    alone = [w for o in outcomes for w in o.claims if set(w.by_seed) == {12, 13}]
    assert "benchmarks lost by PPO since the PPO init" in with_all
    swept = next(w for w in alone if w.words.startswith("benchmarks lost by PPO since the PPO init: is there"))
    assert swept.lost == dict.fromkeys((14, 15), "swept at small there")
    assert seeds_shown(2, swept.lost, why=True) == "2, without 14, 15 (swept at small there)"
    assert not [w for w in alone if w.by_seed.over == "further"], "the judge's size is swept in both"


def test_sweeps_are_told_size_by_size_with_the_seeds_swept_there(sets: Path) -> None:
    home, file = sets / "first", sets / "second" / "findings.json"
    plan = load_plan(home)
    assert not sweeps_by_size(Records(home, plan)), "one size is what the report says anyway"
    rows = sweeps_by_size(Records(home, replace(plan, sweep=("small", "medium"))), [file])
    row = next(r for r in rows if r["claim"].startswith("benchmarks lost by PPO since the PPO init: is there"))
    assert "(4 seeds)" in row["small"] and "(2 seeds)" in row["medium"], "the other set was swept at small"
    whole = next(o for o in measure_all(Records(sets / "all", load_plan(sets / "all"))) if o.finding.id == "gamma")
    assert row["small"].startswith(str(whole.claims[0].measured))


def test_what_cannot_be_compared_is_refused(sets: Path, tmp_path: Path) -> None:
    records = Records(sets / "first", load_plan(sets / "first"))
    outcomes = measure_all(records)
    with pytest.raises(SettingsError, match="Seed 12 is in .*all"):
        joined(records.plan, outcomes, sets / "all" / "findings.json")
    with pytest.raises(SettingsError, match="made with judge small, this set with medium"):
        joined(replace(records.plan, judge="medium"), outcomes, sets / "second" / "findings.json")
    other = json.loads((sets / "second" / "findings.json").read_text())
    other["plan"]["settings"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(SettingsError, match="settings another"):
        joined(records.plan, outcomes, tmp_path / "other.json")
    (tmp_path / "torn.json").write_text('{"plan": {"se')
    for bad in ("torn.json", "missing.json"):
        with pytest.raises(DataError, match=rf"{bad} is no findings.json"):
            joined(records.plan, outcomes, tmp_path / bad)


@pytest.mark.slow
def test_the_command_joins_them_and_the_report_says_so(sets: Path) -> None:
    from labkit.cli import app

    other = str(sets / "second" / "findings.json")
    found = CliRunner().invoke(
        app,
        ["findings", "first", "--scale", "tour", "--sizes", ",".join(SIZES), "--seeds", "12,13", "--read", "--json"]
        + ["--with", other, "--root", str(sets)],
    )
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["plan"]["seeds"] == [12, 13, 14, 15]
    assert "Seeds 14, 15 were measured in another set" in (sets / "first" / "findings.md").read_text(encoding="utf-8")
