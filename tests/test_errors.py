"""How an error of the lab looks in a notebook: its sentence, not a page of frames."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

CAUSE = "from labkit.presets import preset\npreset('huge')"


def test_a_notebook_shows_the_sentence_and_the_way_to_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    shell = InteractiveShell()
    shell.run_cell(CAUSE)
    shown = capsys.readouterr().out.strip().splitlines()
    assert shown[0].startswith("SettingsError: There is no scale 'huge'") and len(shown) == 2
    assert "presets.py:" in shown[1]
    shell.run_cell(shown[1].partition("The whole traceback: ")[2])
    told = capsys.readouterr()
    assert "Traceback (most recent call last)" in told.err and "in preset" in told.err


def test_an_error_that_is_not_the_labs_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    InteractiveShell().run_cell("1 / 0")
    assert "Traceback (most recent call last)" in capsys.readouterr().out
