"""The notebook of the findings has one section per finding, in the paper's words."""

import json
from pathlib import Path

import pytest

from labkit.findings import FINDINGS
from labkit.findings.plan import load_plan, plan_of
from tests.findings.recorded import record_all

NOTEBOOK = "07_findings.ipynb"


def test_every_finding_has_a_section_with_what_the_paper_says(repository: Path) -> None:
    book = json.loads((repository / "notebooks" / NOTEBOOK).read_text(encoding="utf-8"))
    prose = "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown").lower()
    code = "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code")
    for found in FINDINGS:
        assert f"## {found.title}".lower() in prose and found.paper.lower() in prose, found.id
        assert found.fails_if.lower() in prose and f'measured["{found.id}"]' in code, found.id


@pytest.mark.kernel
def test_it_runs_on_records_and_states_the_verdicts(repository: Path, tmp_path: Path) -> None:
    from labkit.batch.notebooks import execute
    from labkit.runs import Run

    plan = plan_of("tour", ["small", "medium"], [11, 12, 13, 14, 15])
    load_plan(tmp_path / "set", plan)
    record_all(tmp_path / "set", plan, 1)
    outcome = execute(repository / "notebooks" / NOTEBOOK, Run("set", tmp_path))
    assert outcome.status == "done", outcome.error
    assert set(outcome.summary.values()) == {"holds"} and len(outcome.summary) == len(FINDINGS)
