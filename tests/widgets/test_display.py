"""Alive or static: how the boards tell whether a person is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import widgets
from widgets import display
from widgets.twins import tables_bundle


@pytest.mark.parametrize(("value", "headless"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch, value: str, headless: bool) -> None:
    monkeypatch.setenv(display.HEADLESS_VARIABLE, value)
    assert display.is_headless() is headless


@pytest.mark.parametrize(
    ("parent", "headless"),
    [({"metadata": {"cellId": "a1"}}, False), ({"metadata": {}}, True), ({}, True)],
)
def test_without_it_the_cell_id_decides(
    monkeypatch: pytest.MonkeyPatch, parent: dict[str, Any], headless: bool
) -> None:
    monkeypatch.delenv(display.HEADLESS_VARIABLE, raising=False)
    monkeypatch.setattr(display, "running_kernel", lambda: SimpleNamespace(get_parent=lambda channel: parent))
    assert display.is_headless() is headless


def test_a_script_is_headless_and_prints_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(display.HEADLESS_VARIABLE, raising=False)
    assert display.is_headless()
    display.show(SimpleNamespace(_repr_mimebundle_=lambda: {"text/plain": "two lines\nof text"}))
    display.show(3)
    assert capsys.readouterr().out == "two lines\nof text\n3\n"


def test_tables_escape_and_align() -> None:
    assert "&lt;b&gt;" in display.table_html(["<i>"], [["<b>"]], "<u>") and "<b>" not in display.table_html(
        ["i"], [["<b>"]]
    )
    assert "white-space:nowrap" in display.table_html(["best-of-16"], []) and 'nowrap;max' in display.table_html(["i"], [["best-of-16"]])
    assert "nowrap;max" not in display.table_html(["i"], [["a well-known answer"]])
    whole, broken = (display.table_html(["i"], [[word]]) for word in ("alpha_ordinal_places", "x" * 10_000))
    assert "overflow-wrap:normal" in whole and "overflow-wrap:anywhere" in broken
    assert 'class="labkit-static mathjax_ignore"' in display.static_bundle("", "costs $5, not $10")["text/html"]
    lines = display.table_text(["rank", "text"], [[1, "short"], [22, "y" * 200]], width=20).splitlines()
    assert [line.index(c) for line, c in zip(lines, "tsy", strict=True)] == [6, 6, 6]
    assert lines[2].endswith("…") and len(lines[2]) == 26


@pytest.mark.parametrize(("width", "kept"), [(1120, False), (520, True)])
def test_by_hand_the_page_draws_a_figure_as_wide_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch, width: int, kept: bool
) -> None:
    made = {display.PLOTLY: {"data": [], "layout": {"width": width, "height": 300}}, "image/png": "…", "text/plain": "a figure"}
    monkeypatch.setenv(display.HEADLESS_VARIABLE, "1")
    assert display.drawn_by_the_page(made) == made, "an executed notebook keeps its picture"
    monkeypatch.setenv(display.HEADLESS_VARIABLE, "0")
    alive = display.drawn_by_the_page(made)
    assert set(alive) == {display.PLOTLY, "text/plain"} and made[display.PLOTLY]["layout"]["width"] == width
    assert ("width" in alive[display.PLOTLY]["layout"]) == kept and alive[display.PLOTLY]["layout"]["height"] == 300


def test_what_stands_below_a_table_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    display.show_table([{"a": "turned \u202e"}], below=["<b>few</b>"])
    said = capsys.readouterr().out
    assert said.endswith("<b>few</b>\n") and "turned ⟨RLO⟩" in said
    made = display._Table(["a"], [["1"]], "", ["<b>few</b>"])._repr_mimebundle_()
    assert "<p>&lt;b&gt;few&lt;/b&gt;</p>" in made["text/html"]


def test_an_empty_answer_is_said_to_be_one_and_other_blank_cells_stay_blank(capsys: pytest.CaptureFixture[str]) -> None:
    display.show_table([{"text": " \n", "flags": ""}, {"text": "Fish.", "flags": "rude"}])
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first == "(empty answer)" and second.split() == ["Fish.", "rude"]
    twin = tables_bundle([], [("Samples", ["response", "why"], [["", ""], ["Fish.", ""]])])
    assert twin["text/html"].count("(empty answer)") == 1


def test_a_wrong_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="RankingBoard"):
        widgets.Ranking  # noqa: B018
