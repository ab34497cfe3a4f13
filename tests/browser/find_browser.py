"""Find the browser that the browser tests drive, and bring one where that is allowed.

    python tests/browser/find_browser.py            print the path of a browser, exit 1 where there is none
    python tests/browser/find_browser.py --ensure   the same, after trying to install one

Order: $LABKIT_BROWSER, a Chromium or Chrome on the PATH, Playwright's own download, apt-get when root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "microsoft-edge")
MISSING = (
    "No Chromium was found, so the browser tests CANNOT RUN here. Install one (apt-get install chromium, or "
    "python -m playwright install chromium), or name it: LABKIT_BROWSER=/path/to/chrome."
)


def find() -> str | None:
    """Path of a Chromium-like browser on this machine, or None."""
    named = os.environ.get("LABKIT_BROWSER")
    if named:
        return named if Path(named).exists() else None
    return next(filter(None, map(shutil.which, NAMES)), None) or _of_playwright()


def ensure() -> str | None:
    """Path of a browser, installed now if need be; None where neither Playwright nor apt-get can bring one."""
    if found := find():
        return found
    _attempt([sys.executable, "-m", "playwright", "install", "chromium"])
    if not (found := find()) and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        _attempt(["apt-get", "update", "-qq"])
        _attempt(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"])
        found = find()
    return found


def _of_playwright() -> str | None:
    """The browser that `playwright install` downloaded, if it did."""
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Exception:  # no playwright, no driver for this platform, or an event loop already running
        return None
    return path if Path(path).exists() else None


def _attempt(command: list[str]) -> None:
    print("+", " ".join(command), file=sys.stderr)
    try:
        subprocess.run(command, stdout=sys.stderr, timeout=900, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  {error}", file=sys.stderr)


def main() -> int:
    path = ensure() if "--ensure" in sys.argv[1:] else find()
    if path is None:
        print(f"\n{'!' * 100}\n{MISSING}\n{'!' * 100}\n", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
