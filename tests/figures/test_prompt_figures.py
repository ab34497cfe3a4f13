"""Figures of the prompts: bars hold the report's own counts and shares."""

import pytest

from labkit import figures
from labkit.data.prepare import prepare
from labkit.errors import DataError
from labkit.figures.png import draw_png
from labkit.types import Prompt


def report():
    """Of twelve prompts two are near-duplicates of the first."""
    ask = (
        "Please write a short and friendly note to my old neighbour who moved to the sea in spring with her dog and cat"
    )
    prompts = [Prompt(f"p{i}", ask + " now" * i, use_case="rewrite", user="u") for i in range(3)]
    prompts += [Prompt(f"q{i}", f"Question number {i}: why {i}?", use_case="open_qa", user=f"v{i}") for i in range(9)]
    return prepare(prompts)[1]


def test_each_step_keeps_what_the_report_says_and_takes_the_rest() -> None:
    counts = report().counts
    fig = figures.prompts_kept(counts)
    kept, taken = fig.data
    assert list(kept.x) == list(counts.values()) and taken.x[0] == 0
    assert [k + t for k, t in zip(kept.x, taken.x, strict=True)][1:] == list(kept.x)[:-1], (
        "nothing gets lost on the way"
    )
    assert any("(−2)" in name for name in kept.y)
    assert draw_png(fig)[:4] == b"\x89PNG"


def test_use_cases_stand_beside_the_papers() -> None:
    fig = figures.use_case_shares(report().use_cases)
    here, paper = fig.data
    assert sum(here.x) == pytest.approx(100, abs=0.5) and sum(paper.x) == pytest.approx(99.9)
    assert dict(zip(paper.y, paper.x, strict=True))["Generation"] == 45.6
    assert draw_png(fig)[:4] == b"\x89PNG"


def test_nothing_to_draw_is_a_sentence() -> None:
    for draw in (figures.prompts_kept, figures.use_case_shares):
        with pytest.raises(DataError, match="There are no"):
            draw([])
