"""Figures 28 and 29 show the benchmarks by step, for each of the runs that are compared."""

from pathlib import Path

import pytest

from labkit.errors import DataError
from labkit.findings.plan import plan_of
from labkit.findings.records import Records
from labkit.findings.tax_figure import PANELS, tax_by_step
from tests.findings.recorded import record_all

PLAN = plan_of("tour", ["small", "medium"], [11, 12, 13])


def test_a_curve_per_run_in_every_panel_with_the_numbers_that_were_measured(tmp_path: Path) -> None:
    record_all(tmp_path, PLAN, 1)
    records = Records(tmp_path, PLAN)
    fig = tax_by_step(records)
    assert len(fig.data) == 2 * len(PANELS)
    curves = {(t.name, t.xaxis): t for t in fig.data}
    assert {name for name, _ in curves} == {"PPO", "PPO-ptx"}
    for curve in curves.values():
        assert list(curve.x) == [0, 8, 16] and all(half > 0 for half in curve.error_y.array)
    last = curves["PPO", "x2"].y[-1]  # the second panel is the first benchmark
    by_seed = records.over_seeds(lambda r: r.benchmark("ppo", "reading"))
    assert last == pytest.approx(sum(by_seed.values()) / 3)


def test_only_the_sizes_that_are_asked_for(tmp_path: Path) -> None:
    record_all(tmp_path, PLAN, 1)
    for file in tmp_path.glob("medium-s*/measured/ppo-longer.json"):
        file.unlink()
    records = Records(tmp_path, PLAN)
    assert any(t.name == "PPO trained twice as long" and t.x for t in tax_by_step(records, ("ppo-longer",), "", ("small",)).data)
    with pytest.raises(DataError, match="Nothing was recorded"):
        tax_by_step(records, ("ppo-longer",), "", ("medium",))
