"""How many points a sweep runs at once rests on the processor time that this machine, or this container, really grants."""

from pathlib import Path

import pytest

from labkit.batch import engines


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8), ("max 100000", 8), (None, 8)]
)
def test_a_container_takes_no_more_cores_than_it_has_the_time_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, cores: int) -> None:
    monkeypatch.setattr(engines.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(engines, "QUOTA", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert engines.cores() == cores
