"""HTML pages of the batch floor: templates with every value escaped, and short ways to write numbers, times and what a run was made with."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from labkit.errors import RunError
from labkit.runs import Run

__all__ = ["caution", "duration", "made_with", "short", "write_page"]

SMOKE = "Smoke: a few steps, to see that everything runs; its numbers mean nothing."


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Render `templates/<template>` with escaped `values` into `path`, which is replaced atomically."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return write_text(path, environment.get_template(template).render(**values))


def write_text(path: Path, text: str) -> Path:
    """Replace `path` with `text`, atomically."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text, encoding="utf-8", errors="replace")
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise RunError(f"Could not write {path}: {error.strerror}. Free some space or check the folder.") from error
    return path


def made_with(run: Run) -> str:
    """What a run was prepared with, on one line: scale, seed, model and the rest; empty before its prompts are there."""
    return " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.facts.items())


def caution(run: Run) -> str:
    """What must be said beside the numbers of a run at smoke; empty at any other scale."""
    return SMOKE if run.facts.get("scale") == "smoke" else ""


def short(value: Any) -> str:
    """A number with four significant digits, a list by its items, anything else as text."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(short, value))
    return "" if value is None else str(value)


def duration(manifest: dict[str, Any]) -> str:
    """Minutes between a manifest's start and end; empty where it has not ended."""
    return f"{(manifest['ended'] - manifest['started']) / 60:.1f}" if "ended" in manifest else ""


def moment(seconds: float) -> str:
    """A time stamp as date and time, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
