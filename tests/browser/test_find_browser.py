"""A missing browser is never silent: a skip that says so, and a failure where CI=true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import find_browser
from tests.browser.lab import ROOT


def test_a_named_browser_counts_only_if_it_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_BROWSER", str(tmp_path / "none"))
    assert find_browser.find() is None
    (tmp_path / "chrome").touch()
    monkeypatch.setenv("LABKIT_BROWSER", str(tmp_path / "chrome"))
    assert find_browser.find() == str(tmp_path / "chrome")


def test_the_script_says_loudly_that_there_is_none() -> None:
    script = Path(find_browser.__file__)
    environment = {**os.environ, "LABKIT_BROWSER": "/nowhere/chrome"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "CANNOT RUN" in done.stderr and done.stdout == ""


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 error"), ("", "1 skipped")])
@pytest.mark.parametrize("lacking", ["browser", "playwright"])
def test_without_a_browser_or_its_driver_the_tests_skip_or_fail(
    tmp_path: Path, ci: str, outcome: str, lacking: str
) -> None:
    test = "tests/browser/test_rig.py::test_a_failing_cell_is_seen"
    environment = {**os.environ, "LABKIT_BROWSER": "/nowhere/chrome", "CI": ci}
    if lacking == "playwright":
        (tmp_path / "playwright.py").write_text("raise ImportError('not installed')")
        environment |= {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert outcome in done.stdout and "CANNOT RUN" in done.stdout
