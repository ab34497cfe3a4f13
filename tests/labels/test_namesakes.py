"""Several people under one name: told apart by their files, or said to count as one; copies of one log are one labeler's."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from labkit.errors import DataError
from labkit.evaluation.winrate import winrate_of_files
from labkit.labels.agreement import agreement_of_files
from labkit.labels.exchange.files import rankings_of_files
from labkit.labels.screening import screening
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path, read_rankings
from tests.labels.helpers import draft, tasks

FAST = {"replicates": 50}


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three runs, each ranked by another student, all of whom left the labeler's name as it was; the last one disagrees."""
    logs = []
    for student, order in (("anna", ("c0", "c1", "c2")), ("bert", ("c0", "c1", "c2")), ("cleo", ("c2", "c1", "c0"))):
        logs.append(labels_path(tmp_path / student, "me"))
        session = LabelSession(tasks(4), "me", logs[-1])
        while session.current:
            session.submit(draft(*order))
        session._log.close()
    return logs


def collected(logs: Sequence[Path], folder: Path) -> list[Path]:
    """Copies of the logs in one folder, each under its student's name."""
    folder.mkdir()
    return [Path(shutil.copy(log, folder / f"{log.parents[1].name}.jsonl")) for log in logs]


def test_people_of_one_name_are_told_apart_by_their_files(runs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "class"
    files = collected(runs, folder)
    names = ["anna"] * 4 + ["bert"] * 4 + ["cleo"] * 4
    assert [r.labeler for r in read_rankings(folder)] == [r.labeler for r in rankings_of_files(files)] == names
    report = agreement_of_files([folder], **FAST)
    assert {tuple(row["labelers"]): row["agreement_strict"].value for row in report.rankings.labeler_pairs} == {
        ("anna", "bert"): 1, ("anna", "cleo"): 0, ("bert", "cleo"): 0
    }  # fmt: skip
    assert not report.notes
    assert [a.labeler for a in screening(files, **FAST).applicants] == ["anna", "bert", "cleo"]


def test_two_who_agree_are_two_votes_against_one(runs: list[Path], tmp_path: Path) -> None:
    report = winrate_of_files(collected(runs, tmp_path / "class"), **FAST)
    assert report.rates["m0", "m2"].rate == pytest.approx(2 / 3) and report.counts["judges"] == 3


def test_where_the_files_say_nothing_either_a_sentence_says_so(runs: list[Path]) -> None:
    said = "3 logs that were begun apart are by one name, 'me', and count as one labeler's"
    assert any(said in note for note in agreement_of_files(runs, **FAST).notes)
    assert any(said in note for note in winrate_of_files(runs, **FAST).notes)
    with pytest.raises(DataError, match=f"nobody to compare with. {said}"):
        screening(runs, **FAST)


def test_a_copy_of_a_log_is_no_other_person(runs: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(runs[0], tmp_path / "before the weekend.jsonl"))
    assert {r.labeler for r in read_rankings(runs[0], copy)} == {"me"}
    report = agreement_of_files([runs[0], copy], **FAST)
    assert report.rankings.counts["labelers"] == 1 and report.notes == ("4 label(s) were replaced by a later line of the same labeler on the same thing.",)
