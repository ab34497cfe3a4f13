"""The errors of the lab: each is one sentence that says what is wrong, where, and what to do. Standard library only."""

import traceback

__all__ = [
    "DataError",
    "InvariantError",
    "LabError",
    "ModelError",
    "RunError",
    "SettingsError",
    "SnapshotError",
]


class LabError(Exception):
    """Base of every error that the lab raises on purpose; `str(error)` is the sentence for the user."""

    def _render_traceback_(self) -> list[str]:
        """The lines that a notebook shows in place of a traceback: the sentence, and for developers where it was raised."""
        frames = traceback.extract_tb(self.__traceback__)
        where = f"Raised in {frames[-1].name}, {frames[-1].filename}:{frames[-1].lineno}. " if frames else ""
        whole = "import sys, traceback; traceback.print_exception(sys.last_value)"
        return [f"{type(self).__name__}: {self}", f"{where}The whole traceback: {whole}"]


class SettingsError(LabError, ValueError):
    """A setting, knob or notebook parameter has a wrong name, type or value."""


class DataError(LabError, ValueError):
    """Prompts, demonstrations, rankings or texts cannot be used as they are."""


class ModelError(LabError, ValueError):
    """A model or tokenizer lacks what the method needs (an end token, a head, enough context)."""


class RunError(LabError, RuntimeError):
    """A run folder is missing, half-written, stale or in use."""


class SnapshotError(RunError):
    """A snapshot is damaged, or lacks files; an older one may be whole."""


class InvariantError(LabError, RuntimeError):
    """Training broke a promise of the method (ratio = 1, KL = 0, finite losses); names usual causes."""
