"""An Experiment at a scale that only the findings know."""

from __future__ import annotations

from typing import Any

from labkit.experiment import Experiment
from labkit.findings.scales import KIN, amounts_of, preset_of
from labkit.runs import Run

__all__ = ["ScaledExperiment"]


class ScaledExperiment(Experiment):
    """The Experiment of the scale's kin, with the settings and amounts of the scale itself."""

    def __init__(self, run: Run, *, scale: str, **facts: Any) -> None:
        self.own_scale = scale
        super().__init__(run, scale=KIN[scale], **facts)
        self.scale, self.preset, self.amounts = scale, preset_of(scale), amounts_of(scale)

    def _check_same(self, recorded: dict[str, Any]) -> None:
        """The run states its own scale, not that of the kin: before anything is compared or written."""
        self.facts["scale"] = self.own_scale
        super()._check_same(recorded)
