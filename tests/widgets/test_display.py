"""Alive or static: how the boards tell whether a person is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import widgets
from widgets import display


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
    lines = display.table_text(["rank", "text"], [[1, "short"], [22, "y" * 200]], width=20).splitlines()
    assert [line.index(c) for line, c in zip(lines, "tsy", strict=True)] == [6, 6, 6]
    assert lines[2].endswith("…") and len(lines[2]) == 26


def test_a_wrong_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="RankingBoard"):
        widgets.Ranking  # noqa: B018
