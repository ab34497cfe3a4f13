"""Shares are written one way, "20 %", in sentences, hovers and axes; names below bars stand, or their bars lie."""

import re
from pathlib import Path

from labkit import figures
from labkit.figures.theme import percents

REPOSITORY = Path(__file__).resolve().parents[2]


def test_no_format_and_no_axis_writes_a_share_without_its_space() -> None:
    for folder in ("labkit", "widgets", "notebooks"):
        for file in (REPOSITORY / folder).rglob("*"):
            if file.suffix in {".py", ".ipynb", ".js", ".mjs"}:
                found = re.search(r":,?\.\d%\}|tickformat\W+\.\d%", file.read_text(encoding="utf-8"))
                assert not found, f"{file.name}: {found.group()}"


def test_ticks_of_shares() -> None:
    assert percents()["ticktext"] == ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]
    assert percents(0.34)["ticktext"] == ["0 %", "10 %", "20 %", "30 %"]
    assert percents(0.004)["ticktext"] == ["0 %"] and percents(0.06)["tickvals"][-1] == 0.06


def pairs(*labelers: str) -> list[dict]:
    return [{"margin": 1.0, "labeler": name} for name in labelers for _ in range(5)]


def test_bars_of_labelers_lie_where_their_names_have_no_room_to_stand() -> None:
    wordy = ("a careful labeler", "another one of them", "the third of us", "one more labeler")
    groups = (("ann", "bob", "labeler 3"), wordy, [f"l{n}" for n in range(20)])
    standing, long, many = (figures.accuracy_by(pairs(*names), "labeler") for names in groups)
    assert [fig.data[0].orientation for fig in (standing, long, many)] == [None, "h", "h"]
    assert standing.data[0].customdata == (100.0, 100.0, 100.0)
