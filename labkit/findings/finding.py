"""One finding: the paper's words and figure, what must hold, what would have made it fail, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.findings.evidence import HOLDS, Claim, verdict_of
from labkit.findings.records import Records

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Finding", "Outcome", "measure_finding"]


@dataclass(frozen=True)
class Finding:
    """A row of the table of findings; `claims` turns records into measured claims, `figure` draws them."""

    id: str
    title: str
    where: str  # figure or section of the paper; for those beyond it, whose idea it is
    paper: str  # what the paper says, with its figures
    fails_if: str  # what would have made it fail: why it is not true by construction
    claims: Callable[[Records], Sequence[Claim]]
    figure: Callable[[Records], go.Figure] | None = None
    beyond: bool = False
    tried: str = ""  # what was tried where it does not hold, or stays open; told only then
    note: str = ""  # how our claims are to be read: the yardstick, and which of them could not have failed


@dataclass(frozen=True)
class Outcome:
    """A finding as measured."""

    finding: Finding
    claims: tuple[Claim, ...]

    @property
    def verdict(self) -> str:
        return verdict_of(self.claims)

    @property
    def seeds(self) -> int:
        """The seeds on which the least supported deciding claim rests."""
        return min((c.measured.seeds for c in self.claims if c.deciding), default=0)

    @property
    def lost(self) -> dict[int, str]:
        """Seeds of the plan that some deciding claim has to do without, and why."""
        return {seed: why for c in self.claims if c.deciding for seed, why in c.lost.items()}

    @property
    def tried(self) -> str:
        """What was tried, where the finding does not hold or is not decided."""
        return "" if self.verdict == HOLDS else self.finding.tried

    @property
    def ours(self) -> str:
        """Our numbers in one cell of a table: the claim that decides, that is the least favourable one."""
        order = {"does not hold": 0, "not decided": 1, "holds": 2}
        claim = min((c for c in self.claims if c.deciding), key=lambda c: order[c.verdict], default=None)
        return str(claim) if claim else "-"

    def to_json(self) -> dict[str, Any]:
        f = self.finding
        return {
            "id": f.id,
            "title": f.title,
            "where": f.where,
            "paper": f.paper,
            "fails_if": f.fails_if,
            "note": f.note,
            "beyond": f.beyond,
            "tried": self.tried,
            "verdict": self.verdict,
            "seeds": self.seeds,
            "lost": {str(seed): why for seed, why in sorted(self.lost.items())},
            "claims": [c.to_json() for c in self.claims],
        }


def measure_finding(finding: Finding, records: Records) -> Outcome:
    """Measure one finding from what the runs recorded; what was not recorded leaves its claim without seeds."""
    return Outcome(finding, tuple(finding.claims(records)))
