"""The findings are decided by records: the same program says yes, no and "not decided", and never by construction."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.disk import write_json
from labkit.errors import SettingsError
from labkit.evaluation.winrate import WinRate
from labkit.findings import FINDINGS, claim_rows, find, summary_line, table_rows, table_text, write_reports
from labkit.findings.evidence import FAILS, HOLDS, OPEN, Claim
from labkit.findings.figures import figure_of
from labkit.findings.finding import Finding, Outcome
from labkit.findings.plan import Plan, plan_of
from labkit.findings.records import Records
from labkit.findings.report import measure_all
from labkit.world.benchmarks import TAX_BENCHMARKS
from tests.findings.recorded import record_all

PLAN = plan_of("tour", ["small", "medium", "large"], [11, 12, 13, 14, 15])


@pytest.fixture(scope="module", params=[1, -1], ids=["as the paper says", "the other way round"])
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Records]:
    home = tmp_path_factory.mktemp("findings") / "set"
    record_all(home, PLAN, request.param)
    return request.param, Records(home, PLAN)


def test_there_are_seventeen_rows_of_the_paper_and_each_says_what_would_have_made_it_fail() -> None:
    assert len([f for f in FINDINGS if not f.beyond]) == 17
    assert len({f.id for f in FINDINGS}) == len(FINDINGS)
    assert all(len(f.paper.split()) > 4 and len(f.fails_if.split()) > 6 for f in FINDINGS)
    assert find("gamma").where == "Fig. 33"
    with pytest.raises(SettingsError, match="no finding 'delta'"):
        find("delta")


def test_every_finding_holds_where_the_paper_is_right_and_none_where_it_is_wrong(recorded: tuple[int, Records]) -> None:
    sign, records = recorded
    outcomes = measure_all(records)
    wanted = HOLDS if sign > 0 else FAILS
    surprising = {o.finding.id: [(str(c), c.verdict) for c in o.claims] for o in outcomes if o.verdict != wanted}
    assert not surprising
    assert {o.seeds for o in outcomes} == {5}


@pytest.mark.slow
def test_each_finding_has_a_figure_of_its_records(recorded: tuple[int, Records]) -> None:
    from labkit.figures import bundle

    for outcome in measure_all(recorded[1]):
        made = bundle(figure_of(outcome, recorded[1]))
        assert made["image/png"] and made["application/vnd.plotly.v1+json"]["data"]


@pytest.mark.slow
def test_the_reports_say_the_same_as_the_claims(recorded: tuple[int, Records]) -> None:
    sign, records = recorded
    outcomes = measure_all(records)
    page = write_reports(records.home, records, outcomes).read_text(encoding="utf-8")
    told = json.loads((records.home / "findings.json").read_text(encoding="utf-8"))["findings"]
    assert [f["verdict"] for f in told] == [o.verdict for o in outcomes]
    text = (records.home / "findings.md").read_text(encoding="utf-8")
    for outcome in outcomes:
        assert outcome.finding.title in page and outcome.finding.title in text
        shown = " ".join(re.sub(r"[|+=─-]", " ", table_text([outcome])).split())
        assert all(word in shown for word in (*outcome.verdict.split(), *outcome.finding.where.split()))
    assert summary_line(outcomes).startswith(f"17 rows of the paper: {17 if sign > 0 else 0} hold,")


@pytest.mark.parametrize(
    ("holds", "fails", "told"),
    [(2, 1, "4 rows of the paper: 2 hold, 1 does not, 1 is not decided."), (1, 0, "3 rows of the paper: 1 holds, 0 do not, 2 are not decided.")],
)
def test_the_summary_counts_in_english(holds: int, fails: int, told: str) -> None:
    up, down = ({seed: sign + seed / 100 for seed in range(5)} for sign in (1.0, -1.0))
    measured = [up] * holds + [down] * fails + [{0: 1.0}] * (2 - fails)
    row = Finding("f", "a finding", "figure 1", "so", "if not", lambda records: ())
    assert summary_line([Outcome(row, (Claim("x", seeds, above=0.0),)) for seeds in measured]) == told


def test_one_seed_decides_nothing_and_no_records_decide_nothing(tmp_path: Path) -> None:
    one = plan_of("tour", ["small"], [11])
    record_all(tmp_path, one, 1)
    assert {o.verdict for o in measure_all(Records(tmp_path, one))} == {OPEN}
    empty = measure_all(Records(tmp_path / "empty", one))
    assert {o.verdict for o in empty} == {OPEN} and {o.seeds for o in empty} == {0}
    assert all(figure_of(o, Records(tmp_path / "empty", one)) for o in empty)


def test_nothing_holds_by_supervised_training_alone(tmp_path: Path) -> None:
    """Where RL adds nothing to the model that it starts from, being preferred to SFT is not enough."""
    from labkit.findings.records import Record

    plan = plan_of("tour", ["small"], [11, 12, 13, 14, 15])
    record_all(tmp_path, plan, 1)
    records, true_rate = Records(tmp_path, plan), Record.rate

    def rate(self: Record, model: str, other: str, *rest: str, **more: str) -> WinRate:
        found = true_rate(self, model, other, *rest, **more)
        return replace(found, rate=0.48 + 0.001 * self.seed) if other == "ppo_init" else found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Record, "rate", rate)
        outcomes = {o.finding.id: o for o in measure_all(records)}
    assert outcomes["preference-order"].verdict != HOLDS
    assert any("PPO init" in c.words and c.deciding for c in outcomes["preference-order"].claims)


@pytest.mark.parametrize("id", ["gamma", "beta-without-ptx"])
def test_what_ppo_ptx_trains_on_decides_no_sweep(tmp_path: Path, id: str) -> None:
    """A repaired language loss without repaired benchmarks is no recovery."""
    plan = plan_of("tour", ["small"], [11, 12, 13, 14, 15])
    record_all(tmp_path, plan, 1)
    for file in tmp_path.glob("small-s*/measured/*.json"):
        row = json.loads(file.read_text(encoding="utf-8"))
        low = 0.4 + 0.001 * int(file.parts[-3][-2:])  # every trained model has lost as much as PPO
        row["benchmarks"] |= dict.fromkeys(TAX_BENCHMARKS, low) if row["model"].startswith("ppo") else {}
        row["benchmarks"] |= dict.fromkeys(TAX_BENCHMARKS, 0.6) if row["model"] == "ppo_init" else {}
        file.write_text(json.dumps(row), encoding="utf-8")
    outcome = next(o for o in measure_all(Records(tmp_path, plan)) if o.finding.id == id)
    assert outcome.verdict != HOLDS
    assert any(c.verdict == HOLDS and "language loss" in c.words and not c.deciding for c in outcome.claims)


def test_the_report_says_when_and_on_what_it_was_measured(tmp_path: Path) -> None:
    from labkit.findings.execute import record_of, wall_seconds
    from labkit.findings.report import about

    plan = plan_of("tour", ["small"], [11])
    assert "Nothing was carried out" in about(tmp_path, plan)
    for place, task in enumerate(plan.tasks()[:2]):  # at the same time, an hour each, half an hour apart
        row = {"ended": 7200.0 + 1800 * place, "seconds": 3600.0, "hardware": "a machine", "versions": {"torch": "9"}}
        write_json(record_of(tmp_path, task), row)
    text = about(tmp_path, plan)
    for said in (
        "1970-01-01 01:00",
        "1970-01-01 02:30",
        "1.5 hours by the clock",
        "2.0 hours of all",
        "a machine",
        "torch 9",
    ):
        assert said in text
    assert "one world" in text and wall_seconds([]) == 0.0


def test_a_missing_record_costs_its_seed_and_a_diverged_run_counts_as_worthless(tmp_path: Path) -> None:
    plan: Plan = plan_of("tour", ["small"], [11, 12, 13])
    record_all(tmp_path, plan, 1)
    (plan.cell("small", 12, tmp_path).path / "measured" / "ppo_ptx-nomix.json").unlink()
    lost = plan.cell("small", 13, tmp_path).path / "measured" / "ppo-lr=x8.json"
    lost.write_text(json.dumps({"model": "ppo-lr=x8", "error": "a loss was not finite"}), encoding="utf-8")
    outcomes = {o.finding.id: o for o in measure_all(Records(tmp_path, plan))}
    assert outcomes["init-mix"].seeds == 2
    fallen = outcomes["learning-rate"].claims[0].by_seed
    assert fallen[13] < fallen[11] < 0


def test_a_lost_seed_is_shown_with_its_reason(tmp_path: Path) -> None:
    plan = plan_of("tour", ["small"], [11, 12, 13, 14])
    record_all(tmp_path, plan, 1)
    lost = plan.cell("small", 13, tmp_path).path / "measured" / "ppo-longer.json"
    lost.write_text(json.dumps({"model": "ppo-longer", "error": "a loss was nan"}), encoding="utf-8")
    outcome = next(o for o in measure_all(Records(tmp_path, plan)) if o.finding.id == "training-longer")
    assert outcome.seeds == 3 and "diverged (a loss was nan)" in outcome.lost[13]
    assert table_rows([outcome])[0]["seeds"] == "3, without 13" and "a loss was nan" in claim_rows(outcome)[0]["seeds"]
    assert outcome.to_json()["lost"] == {"13": outcome.lost[13]}


def test_a_stereotype_turned_round_is_no_step_towards_none() -> None:
    shares = {"base": 0.6, "ppo": 0.4, "ppo_ptx": 0.2}
    cell = SimpleNamespace(benchmark=lambda model, name: shares[model])
    claims = next(f for f in FINDINGS if f.id == "bias").claims(SimpleNamespace(over_seeds=lambda value: {0: value(cell)}))
    assert [claim.by_seed[0] for claim in claims] == pytest.approx([-0.2, 0.0])
