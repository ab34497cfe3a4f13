"""The page of documentation: written by one command, below what a person wrote, every picture there."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labkit.cli import app
from labkit.findings import FINDINGS, load_plan, measure_all, plan_of
from labkit.findings.evidence import FAILS, HOLDS, OPEN, Claim, interval, verdict_of
from labkit.findings.figures import cost_rows
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


def test_every_finding_says_what_was_tried_and_its_note_is_told(root: Path, repository: Path) -> None:
    page = (repository / "docs" / "findings.md").read_text(encoding="utf-8")
    stored = {f["id"]: f for f in json.loads((repository / "docs" / "findings.json").read_text(encoding="utf-8"))["findings"]}
    book = "".join("".join(c["source"]) for c in json.loads((repository / "notebooks" / "07_findings.ipynb").read_text(encoding="utf-8"))["cells"])
    for found in FINDINGS:
        row = stored[found.id]
        assert found.tried and row["note"] == found.note and row["tried"] == ("" if row["verdict"] == HOLDS else found.tried)
        assert row["tried"] in page and found.note in page and found.note in book
    assert "cannot fail" in stored["sft-checkpoint"]["note"] and "GPT" in stored["alignment-tax"]["note"]


def test_what_is_said_of_sets_and_yardsticks_follows_from_the_published_values(repository: Path) -> None:
    """The words above the table and in the README, from the values of each seed."""
    published, first = (json.loads((repository / "docs" / f).read_text(encoding="utf-8"))["findings"] for f in ("findings.json", "findings-first.json"))
    assert (counts(published), counts(published, {17, 18, 19, 20, 21})) == ((11, 2, 4), (10, 2, 5))
    assert (counts(published, {12, 13, 14, 15, 16}), counts(first)) == ((6, 2, 9), (9, 2, 6))
    tax = {c["claim"]: c["by_seed"] for f in published if f["id"] == "alignment-tax" for c in f["claims"]}
    init, ppo, ptx = (tax[f"benchmarks that {m} below GPT"] for m in ("the PPO init lies", "PPO lies", "PPO-ptx lies"))
    repaired, left = [(ppo[s] - ptx[s]) / ppo[s] for s in ppo], [ppo[s] / 2 - ptx[s] for s in ppo]
    share = interval(repaired)
    of_gpt, before = f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]", interval([init[s] / ppo[s] for s in ppo])
    preface, page, readme = ((repository / p).read_text(encoding="utf-8") for p in ("docs/findings-preface.md", "docs/findings.md", "README.md"))
    assert preface.strip() in page and str(interval(left)) in preface
    for text in (preface, readme):
        assert f"repairs {of_gpt}" in text and f"pays {100 * before.value:.0f} %" in text
    assert "10 rows hold, 2 do not, 5 are not decided" in preface and "6, 2 and 9" in preface and "9, 2 and 6" in preface
    assert "the added five alone: 10, 2, 5" in readme


def counts(findings: list[dict], seeds: set[int] | None = None) -> tuple[int, int, int]:
    """How many of the paper's rows hold, do not, are not decided, by these seeds alone."""
    found = []
    for row in (f for f in findings if not f["beyond"]):
        claims = []
        for c in (c for c in row["claims"] if c["deciding"]):
            values = {int(s): v for s, v in c["by_seed"].items() if seeds is None or int(s) in seeds}
            borders = dict(zip(re.findall("above|below", c["must"]) or ["above", "below"], map(float, re.findall(r"-?[\d.]+", c["must"])), strict=True))
            claims.append(Claim(c["claim"], values, **borders))
        found.append(verdict_of(claims))
    return found.count(HOLDS), found.count(FAILS), found.count(OPEN)


def test_the_cost_of_each_stage_is_a_table_by_size(root: Path) -> None:
    home = root / "runs" / "set"
    rows = cost_rows(Records(home, load_plan(home)))
    assert [row["stage"] for row in rows][-1] == "pretraining" and len(rows) == 6
    assert all(list(row)[1:] == [f"{size}: operations (of pretraining)" for size in ("small", "medium")] for row in rows)
    assert rows[-1]["small: operations (of pretraining)"] == "100 (100 %)"
    assert next(r for r in rows if r["stage"] == "PPO init")["medium: operations (of pretraining)"] == "-", "it was not recorded"
