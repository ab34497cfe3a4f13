"""Nothing heavy is imported before it is used; times are taken beside an empty interpreter, as machines are busy."""

import os
import statistics
import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "transformers",
    "trl",
    "datasets",
    "numpy",
    "plotly",
    "papermill",
    "IPython",
    "ipykernel",
    "ipywidgets",
}
WORDS = (
    "labkit labkit.types labkit.knobs labkit.runs labkit.disk labkit.seeds labkit.errors labkit.settings labkit.batch labkit.cli"
)


def seconds(*arguments: str) -> float:
    """Processor time of one interpreter: on a free machine that is its wall time, on a busy one it stays what it is."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def extra_seconds(*arguments: str, rounds: int = 3) -> float:
    """How much longer than an empty interpreter; the median of alternating rounds."""
    return statistics.median(seconds(*arguments) - seconds("-c", "pass") for _ in range(rounds))


@pytest.mark.parametrize("module", WORDS.split())
def test_words_and_command_line_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_import_labkit_is_quick() -> None:
    assert extra_seconds("-c", "import labkit, labkit.types, labkit.knobs, labkit.runs") < 0.3


def test_help_is_quick() -> None:
    assert extra_seconds("-m", "labkit.cli", "--help") < 0.5
