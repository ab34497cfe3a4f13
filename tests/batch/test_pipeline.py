"""`labkit run` on tiny notebooks: order, skipping, stopping at the first failure, resuming after it."""

from pathlib import Path

import pytest

from labkit.batch.notebooks import execute
from labkit.batch.pipeline import parameters_of_each, pipeline, plan
from labkit.batch.records import record_of
from labkit.batch.sweep import grid
from labkit.disk import write_json
from labkit.errors import SettingsError
from labkit.runs import FACTS, Run
from tests.batch.tiny import train, write_notebook

pytestmark = pytest.mark.kernel

FAILS_ONCE = """\
from pathlib import Path
mark = session.run.path / "mark"
first = not mark.exists()
mark.touch()
assert not first, "the first attempt fails"
"""


def test_runs_in_order_stops_at_a_failure_and_resumes_there(tmp_path: Path) -> None:
    steps = [
        write_notebook(
            tmp_path / "01_a.ipynb", [train("sft")], finish="session.finish(stages=['sft'], summary={'loss': 0.5})"
        ),
        write_notebook(tmp_path / "02_b.ipynb", [FAILS_ONCE]),
        write_notebook(tmp_path / "03_c.ipynb", ["assert session.run.stage('sft').status == 'done'"]),
    ]
    run, said = Run("tiny", tmp_path / "runs"), []
    first = pipeline(run, steps, {"seed": "3"}, say=said.append)
    assert [r.action for r in first] == ["done", "failed", "not reached"]
    assert "the first attempt fails" in first[1].why
    assert first[0].summary == {"loss": 0.5}
    assert "not run yet" in said[0]

    second = pipeline(run, steps, {"seed": "3"}, say=said.append)
    assert [r.action for r in second] == ["skip", "done", "done"]
    assert second[0].summary == {"loss": 0.5}
    assert record_of(run, "02_b").manifest["seed"] == 3

    third = pipeline(run, steps, {"seed": "3"}, say=said.append)
    assert [r.action for r in third] == ["skip"] * 3


def test_a_run_goes_on_as_it_was_prepared_and_refuses_anything_else(tmp_path: Path) -> None:
    """Before a kernel starts: the plan already has the run's own scale and seed."""
    notebook = write_notebook(tmp_path / "notebooks" / "01_prompts.ipynb")
    run = Run("mine", tmp_path / "runs")
    assert parameters_of_each(run, [notebook], {})[notebook]["scale"] == "small"
    write_json(run.path / FACTS, {"scale": "full", "seed": 3, "model": "medium", "data": "world"})
    values = parameters_of_each(run, [notebook], {"kl_coef": "0.1"})[notebook]
    assert (values["scale"], values["seed"], values["kl_coef"]) == ("full", 3, 0.1)
    assert parameters_of_each(run, [notebook], {"seed": "3"})[notebook] == {**values, "kl_coef": 0.02}
    for given in ({"scale": "small"}, {"seed": "0"}):
        with pytest.raises(SettingsError, match="was prepared with .* Nothing was started"):
            plan(run, [notebook], given)
    points = grid(notebook, {"kl_coef": "0.1,0.2"}, run)
    assert {(p.parameters["scale"], p.parameters["seed"]) for p in points} == {("full", 3)}
    assert [p.name for p in points] == ["kl_coef=0.1", "kl_coef=0.2"] and all(set(p.given) == {"kl_coef"} for p in points)
    assert {p.parameters["seed"] for p in grid(notebook, {"seed": "0,1"}, run)} == {0, 1}


def test_an_executed_notebook_that_runs_again_and_fails_is_still_there(tmp_path: Path) -> None:
    notebook, run = tmp_path / "notebooks" / "01_prompts.ipynb", Run("mine", tmp_path / "runs")
    execute(write_notebook(notebook, ["print('a good page')"]), run).raise_if_failed()
    assert execute(write_notebook(notebook, ["raise ValueError('bad')"]), run).status == "failed"
    kept = [p.read_text() for p in (run.path / "notebooks").glob("01_prompts*.old/01_prompts.ipynb")]
    assert len(kept) == 1 and "a good page" in kept[0]
    assert "a good page" not in (run.path / "notebooks" / notebook.name).read_text()
