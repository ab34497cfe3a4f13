"""Fixtures of the browser tests: one JupyterLab and one Chromium per test session, one page per test.

A missing browser is a loud skip; where CI=true it is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.experiment import Experiment
from labkit.runs import Run
from tests.browser import find_browser
from tests.browser.lab import BROWSER_FLAGS, ROOT, Lab, LabServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium driven by Playwright."""
    cannot = pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip
    try:
        from playwright import sync_api as playwright_api
    except ImportError:
        cannot("Playwright is not installed, so the browser tests CANNOT RUN here: pip install playwright.")
    path = find_browser.find()
    if path is None:
        cannot(find_browser.MISSING)
    with playwright_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(BROWSER_FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A JupyterLab of its own."""
    server = LabServer(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with every stage of the tour at smoke scale, made once; tests work on copies (`books.take`)."""
    run = Run("smoke", tmp_path_factory.mktemp("smoke"))
    Experiment(run, scale="smoke", model="small").ensure("ppo", "ppo_ptx", say=lambda line: None)
    return run


@pytest.fixture
def lab(lab_server: LabServer, browser: Any) -> Iterator[Lab]:
    """A fresh page; its kernel is shut down afterwards."""
    page = Lab(lab_server, browser)
    yield page
    page.close()
    lab_server.shut_kernels()


@pytest.fixture(scope="session")
def shots() -> Callable[[str], str]:
    """Where screenshots go: `shots("ranking-light")` is a path under build/screenshots/."""
    folder = ROOT / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: str(folder / f"{name}.png")
