"""The commands that the README shows, for the tests that run them word for word."""

from __future__ import annotations

import re
import shlex

from tests.conftest import REPOSITORY

README = REPOSITORY / "README.md"


def commands() -> list[str]:
    """The lines of the README's bash blocks; continued lines are joined, comments dropped."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def command(start: str) -> list[str]:
    """The words of the one command that begins so, or is it."""
    found = [line for line in commands() if line == start] or [line for line in commands() if line.startswith(start)]
    assert len(found) == 1, f"{len(found)} commands of the README begin with {start!r}"
    return shlex.split(found[0], comments=True)


def programs() -> list[str]:
    """The README's Python blocks."""
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
