"""`labkit run` on tiny notebooks: order, skipping, stopping at the first failure, resuming after it."""

from pathlib import Path

import pytest

from labkit.batch.pipeline import pipeline
from labkit.batch.records import record_of
from labkit.runs import Run
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
