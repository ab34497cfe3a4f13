"""Figures of rankings: bars for models with a name, and something worth knowing where nobody wrote the names down."""

import re

import pytest

from labkit import figures
from labkit.figures.png import draw_png
from labkit.types import Completion, Prompt, Ranking


def ranking(number: int, texts: list[str], models: list[str]) -> Ranking:
    """A ranking that prefers earlier texts to later ones."""
    prompt = Prompt(f"p{number}", "?")
    completions = tuple(
        Completion(f"{number}-{i}", prompt.id, text, model=model)
        for i, (text, model) in enumerate(zip(texts, models, strict=True))
    )
    return Ranking(prompt, completions, tuple((c.id,) for c in completions), "ann")


def test_a_bar_for_each_name_and_none_for_the_nameless() -> None:
    fig = figures.pairs_won([ranking(0, ["a", "b", "c"], ["sft", "", "base"])])
    bars = dict(zip(fig.data[0].y, fig.data[0].x, strict=True))
    assert bars == {"sft (2 pairs)": 1.0, "base (2 pairs)": 0.0}
    assert "without a name in 2 cases" in fig.layout.xaxis.title.text


def test_without_any_name_the_lengths_are_told_apart() -> None:
    rankings = [
        *(ranking(n, ["one two three four", "one"], ["", ""]) for n in range(3)),
        ranking(3, ["one", "one two three four"], ["", ""]),
        ranking(4, ["word " * 30, "word"], ["", ""]),
        ranking(5, ["same length", "equal words"], ["", ""]),
    ]
    fig = figures.pairs_won(rankings, title="Whose answers win")
    assert dict(zip(fig.data[0].x, fig.data[0].y, strict=True)) == {"3 to 5<br>n=4": 0.75, "21 or more<br>n=1": 1.0}
    assert fig.layout.title.text == "Does the longer answer win? 80 % of 5 strict pairs"
    assert draw_png(fig)[:4] == b"\x89PNG"


@pytest.mark.parametrize("rankings", [[], [ranking(0, ["a b", "c d"], ["", ""])]], ids=["no pair", "equal lengths"])
def test_labels_that_leave_nothing_to_draw_make_an_empty_figure_that_says_so(rankings) -> None:
    for drawn in (figures.pairs_won, figures.longer_wins):
        shown = figures.bundle(drawn(rankings))
        assert re.search("(In no|There is no) strict pair", shown["text/plain"]), "also without pictures"
        assert shown["application/vnd.plotly.v1+json"]["layout"]["annotations"][0]["text"] in shown["text/plain"]
