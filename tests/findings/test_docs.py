"""The page of documentation: written by one command, below what a person wrote, every picture there."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit.cli import app
from labkit.findings import FINDINGS, load_plan, measure_all, plan_of
from labkit.findings.records import Records
from labkit.findings.report import BESIDE, claim_rows
from tests.findings.recorded import record_all

PREFACE = "Seeds 12 to 14 were planned before any of them was seen."


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of three seeds in the folder runs/set, and a folder docs with a preface."""
    root = tmp_path_factory.mktemp("docs")
    plan = load_plan(root / "runs" / "set", plan_of("tour", ["small", "medium"], [12, 13, 14]))
    record_all(root / "runs" / "set", plan, 1)
    (root / "docs").mkdir()
    (root / "docs" / "findings-preface.md").write_text(PREFACE)
    return root


@pytest.mark.slow
def test_the_command_writes_the_page_its_numbers_and_its_pictures(root: Path) -> None:
    asked = ["findings", "set", "--read", "--docs", str(root / "docs"), "--root", str(root / "runs")]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 0, said.output
    page = (root / "docs" / "findings.md").read_text(encoding="utf-8")
    assert page.startswith("# The paper's findings, reproduced: 3 seeds\n") and page.index(PREFACE) < page.index("| finding |")
    pictures = re.findall(r"!\[.*\]\((.*)\)", page)
    assert len(pictures) == len(set(pictures)) == sum(f.figure is not None for f in FINDINGS)
    assert all((root / "docs" / p).read_bytes().startswith(b"\x89PNG") for p in pictures)
    assert json.loads((root / "docs" / "findings.json").read_text())["plan"]["seeds"] == [12, 13, 14]


def test_what_is_shown_beside_has_no_verdict_and_no_region(root: Path) -> None:
    home = root / "runs" / "set"
    for outcome in measure_all(Records(home, load_plan(home))):
        for claim, row in zip(outcome.claims, claim_rows(outcome), strict=True):
            assert (row["verdict"] == BESIDE and not row["region"]) != claim.deciding
