"""A plan is carried out in order, resumed, and outlives a killed worker."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from labkit.disk import read_jsonl, write_json
from labkit.errors import RunError
from labkit.findings.execute import carry_out, done_records, is_done
from labkit.findings.plan import plan_of
from labkit.findings.records import Records
from tests.findings import fakes
from tests.widgets.cockpits import until

PLAN = plan_of("smoke", ["small"], [11])


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_everything_is_done_once_and_after_what_it_needs(tmp_path: Path, jobs: int) -> None:
    assert carry_out(PLAN, tmp_path, jobs=jobs, say=quiet, work=fakes.note) == {}
    rows = list(read_jsonl(tmp_path / "order.jsonl"))
    assert sorted(r["key"] for r in rows) == sorted(t.key for t in PLAN.tasks())
    assert not [r for r in rows if r["missing"]]
    assert sum(row["seconds"] for row in done_records(tmp_path, PLAN.tasks())) == len(PLAN.tasks())


def test_the_same_command_resumes_and_a_larger_plan_extends(tmp_path: Path) -> None:
    carry_out(PLAN, tmp_path, jobs=1, say=quiet, work=fakes.note)
    removed = next(t for t in PLAN.tasks() if t.piece == "cost")
    (tmp_path / removed.run / "pieces" / "cost.json").unlink()
    before = len(list(read_jsonl(tmp_path / "order.jsonl")))
    carry_out(PLAN, tmp_path, jobs=1, say=quiet, work=fakes.note)
    rows = list(read_jsonl(tmp_path / "order.jsonl"))
    assert [r["key"] for r in rows[before:]] == [removed.key]
    larger = plan_of("smoke", ["small"], [11, 12])
    carry_out(larger, tmp_path, jobs=1, say=quiet, work=fakes.note)
    assert all(is_done(tmp_path, t) for t in larger.tasks())
    assert len(list(read_jsonl(tmp_path / "order.jsonl"))) == len(rows) + len(PLAN.tasks())


@pytest.mark.slow
def test_each_process_has_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert carry_out(PLAN, tmp_path, say=quiet, work=fakes.tell_gpu) == {}
    used = {(row["process"], row["gpu"]) for row in read_jsonl(tmp_path / "gpus.jsonl")}
    assert sorted(gpu for _, gpu in used) == ["3", "5"] and len({process for process, _ in used}) == 2


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_needs_a_failed_piece_is_left_out_and_said(tmp_path: Path, jobs: int) -> None:
    errors = carry_out(PLAN, tmp_path, jobs=jobs, say=quiet, work=fakes.fail_at_the_judge)
    assert errors["small-s11/judge"] == "the judge was ill"
    assert "needs small-s11/judge, which failed" in errors["small-s11/variant.ppo"]
    assert "small-s11/base" not in errors and is_done(tmp_path, PLAN.tasks()[0])
    assert not (tmp_path / "small-s11" / "pieces" / "variant.ppo.json").exists()


@pytest.mark.slow
def test_a_killed_worker_costs_one_more_attempt(tmp_path: Path) -> None:
    said: list[str] = []
    assert carry_out(PLAN, tmp_path, jobs=2, say=said.append, work=fakes.die_once) == {}
    assert any("killed; once more" in line for line in said)
    assert all(is_done(tmp_path, t) for t in PLAN.tasks())


@pytest.mark.slow
def test_what_ran_beside_a_killed_worker_is_not_blamed(tmp_path: Path) -> None:
    """A killed process takes the whole pool along: which piece it was shows when each runs alone."""
    errors = carry_out(PLAN, tmp_path, jobs=2, say=quiet, work=fakes.die_at_the_cost)
    killed = [key for key, error in errors.items() if "killed twice" in error]
    assert killed == ["small-s11/cost"]
    assert set(errors) == {"small-s11/cost", "small-s11/sheet"}, "the sheet needs it, nothing else does"


@pytest.mark.slow
def test_workers_end_with_the_command_however_it_ends(tmp_path: Path, repository: Path) -> None:
    """One that is killed cannot tell them; going on they would hold the stages that the same command resumes."""
    command = f"""if __name__ == "__main__":
    from pathlib import Path
    from labkit.findings.execute import carry_out
    from labkit.findings.plan import plan_of
    from tests.findings import fakes
    carry_out(plan_of("smoke", ["small"], [11, 12]), Path({str(tmp_path)!r}), jobs=2, work=fakes.wait_long)
"""
    (tmp_path / "command.py").write_text(command, encoding="utf-8")
    given = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen([sys.executable, tmp_path / "command.py"], env=given, stdout=subprocess.DEVNULL) as started:
        at_work = tmp_path / "at_work.jsonl"
        until(lambda: at_work.exists() and len(list(read_jsonl(at_work))) == 2, 60)
        started.kill()
    workers = [row["process"] for row in read_jsonl(at_work)]
    until(lambda: not any(map(_is_alive, workers)), 20)


def test_a_set_has_one_writer(tmp_path: Path) -> None:
    """A second command on the same name would take the first one's pieces for failed ones."""
    met: list[str] = []

    def beside(plan, home: Path, task) -> str:
        if not met:
            with pytest.raises(RunError, match="is being made by another") as refused:
                carry_out(PLAN, tmp_path, jobs=1, say=quiet, work=fakes.note)
            met.append(str(refused.value))
        return fakes.note(plan, home, task)

    assert carry_out(PLAN, tmp_path, jobs=1, say=quiet, work=beside) == {} and len(met) == 1
    assert carry_out(PLAN, tmp_path, jobs=1, say=quiet, work=fakes.note) == {}, "afterwards it is free again"


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_at_once_and_without_noise(tmp_path: Path, repository: Path) -> None:
    command = f"""if __name__ == "__main__":
    from pathlib import Path
    from labkit.findings.execute import carry_out
    from labkit.findings.plan import plan_of
    from tests.findings import fakes
    try:
        carry_out(plan_of("smoke", ["small"], [11, 12]), Path({str(tmp_path)!r}), jobs=2, work=fakes.wait_long)
    except KeyboardInterrupt:
        raise SystemExit(130)
"""
    (tmp_path / "command.py").write_text(command, encoding="utf-8")
    given = {**os.environ, "PYTHONPATH": str(repository)}
    piped = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, tmp_path / "command.py"], env=given, **piped) as started:
        at_work = tmp_path / "at_work.jsonl"
        until(lambda: at_work.exists() and len(list(read_jsonl(at_work))) == 2, 60)
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does
        try:
            _, said = started.communicate(timeout=20)
        finally:
            started.kill()
    assert started.returncode == 130 and said == ""
    workers = [row["process"] for row in read_jsonl(at_work)]
    until(lambda: not any(map(_is_alive, workers)), 20)


def _is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_with_more_sizes_the_smallest_and_the_largest_are_compared_anew(tmp_path: Path) -> None:
    """A set that began at two sizes: its comparison of these two is not the one of three."""
    few, more = (plan_of("smoke", sizes, [11], judge="medium") for sizes in (["medium", "large"], ["small", "medium", "large"]))
    (before,), (after,) = ([t for t in plan.tasks() if t.piece == "across"] for plan in (few, more))
    assert before.key != after.key
    rows = [{"against": "base", "rate": 0.9}]
    write_json(few.across(11, tmp_path).path / "across" / "results.json", {"small": "medium", "large": "large", "rows": rows})
    assert Records(tmp_path, few).across_rate("base") == {11: 0.9}
    assert "not small with large" in Records(tmp_path, more).across_rate("base").lost[11]


def test_an_error_of_a_piece_is_one_sentence_and_a_log(tmp_path: Path) -> None:
    """The real worker, on a task whose parents are not there."""
    from labkit.findings.execute import work_on

    task = next(t for t in PLAN.tasks() if t.piece == "across")
    error = work_on(PLAN, tmp_path, task)
    assert "does not exist" in error and "\n" not in error
    assert error in (tmp_path / task.run / "pieces" / "across.small-small.log").read_text(encoding="utf-8")
    assert not is_done(tmp_path, task)
    assert json.dumps(PLAN.to_json())
