"""The benchmarks by step: asked at even steps, once each, without a trace in the run; failures are told."""

from types import SimpleNamespace

import pytest

from labkit.errors import RunError
from labkit.findings import curve
from labkit.findings.curve import Curve, marks
from labkit.types import Step


@pytest.fixture
def asked(monkeypatch) -> list[object]:
    """Models that were asked; no model is run."""
    seen: list[object] = []
    monkeypatch.setattr(Curve, "_ask", lambda self, policy: seen.append(policy) or {"reading": float(len(seen))})
    return seen


def job_of(total: int) -> SimpleNamespace:
    job = SimpleNamespace(total=total, listeners=[], folder=SimpleNamespace(path=SimpleNamespace(name="ppo")))
    job.listen = job.listeners.append
    job.state = SimpleNamespace(averaged_policy=lambda: "policy")
    return job


def run(job: SimpleNamespace, last: int) -> None:
    for number in [*range(1, last + 1), last]:  # the end announces the last step again
        for listener in job.listeners:
            listener(Step("ppo", number, {}, {}))


@pytest.mark.parametrize("total", [1, 2, 3, 16, 30, 500])
def test_marks_end_with_the_last_step_and_are_about_even(total: int) -> None:
    found = marks(total)
    assert found[-1] == total and found == sorted(set(found)) and len(found) == min(total, curve.POINTS)
    gaps = [b - a for a, b in zip([0, *found], found, strict=False)]
    assert max(gaps) - min(gaps) <= 1


def test_the_start_and_every_mark_are_asked_once(asked: list[object]) -> None:
    job = job_of(16)
    watched = Curve(SimpleNamespace(policy=lambda name: name), job, "ppo_init")
    run(job, 16)
    assert asked == ["ppo_init", *["policy"] * 4]
    assert [row["step"] for row in watched.rows()] == [0, 4, 8, 12, 16]


def test_a_run_that_ended_early_has_no_curve(asked: list[object]) -> None:
    job = job_of(16)
    watched = Curve(SimpleNamespace(policy=lambda name: name), job, "ppo_init")
    run(job, 9)
    with pytest.raises(RunError, match="not asked at step 12"):
        watched.rows()


def test_what_went_wrong_while_asking_is_not_swallowed(asked: list[object]) -> None:
    job = job_of(4)
    watched = Curve(SimpleNamespace(policy=lambda name: name), job, "ppo_init")

    def ill() -> None:
        raise ValueError("no memory")

    job.state.averaged_policy = ill
    run(job, 4)
    with pytest.raises(ValueError, match="no memory"):
        watched.rows()
