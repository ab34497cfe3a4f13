"""Accessibility scans by axe-core: fetched from npm once into build/axe/, never committed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.browser.lab import ROOT

VERSION = "4.14.1"
FOLDER = ROOT / "build" / "axe"


def axe_source() -> str:
    """The text of axe.min.js; where npm cannot bring it the test is skipped, or fails under CI=true."""
    file = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists() and shutil.which("npm"):
        FOLDER.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(FOLDER),
            f"axe-core@{VERSION}",
        ]
        subprocess.run(command, capture_output=True, timeout=180, check=False)
    if not file.exists():
        reason = f"axe-core {VERSION} could not be fetched by npm into {FOLDER}"
        (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)(reason)
    return Path(file).read_text(encoding="utf-8")


def violations(page: Any, selector: str, impacts: tuple[str, ...] = ("serious", "critical")) -> list[str]:
    """Scan what `selector` matches; returns one line per violation of these impacts, with the elements."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(axe_source())
    found = page.evaluate("(selector) => axe.run(selector)", selector)
    assert len(found["passes"]) > 8, f"axe looked at almost nothing in {selector}: {found['passes']}"
    return [
        f"{rule['impact']} {rule['id']}: {rule['help']}: "
        + " | ".join(node["html"][:160] for node in rule["nodes"][:4])
        for rule in found["violations"]
        if rule["impact"] in impacts
    ]
