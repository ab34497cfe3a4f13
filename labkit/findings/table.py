"""All findings, in the order of the paper's table, and then those beyond the paper."""

from __future__ import annotations

from labkit.errors import SettingsError
from labkit.findings.beyond import BEYOND
from labkit.findings.finding import Finding
from labkit.findings.preference import PREFERENCE
from labkit.findings.stages import STAGE_FINDINGS
from labkit.findings.training import TRAINING_FINDINGS

__all__ = ["FINDINGS", "find"]

FINDINGS: tuple[Finding, ...] = (*PREFERENCE, *TRAINING_FINDINGS, *STAGE_FINDINGS, *BEYOND)


def find(id: str) -> Finding:
    """The finding of that id."""
    for found in FINDINGS:
        if found.id == id:
            return found
    raise SettingsError(f"There is no finding {id!r}; the findings are {', '.join(f.id for f in FINDINGS)}.")
