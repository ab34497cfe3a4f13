"""What a number over seeds allows us to say: claims with a region, intervals over seeds, and three verdicts.

A claim holds where the whole interval lies inside its region, does not hold where the whole interval lies outside, and
is not decided where the interval covers the border, or where there are too few seeds for an interval.
A finding holds when all its deciding claims do, and does not hold as soon as one of them does not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["FAILS", "HOLDS", "OPEN", "BySeed", "Claim", "Interval", "interval", "verdict_of"]

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"
LEVEL = 0.95
FEWEST_FOR_INTERVAL = 2  # with one seed there is no interval over seeds
#: Two seeds estimate their spread from a single difference, which is now and then near nothing by chance: a tiny
#: interval around a wrong mean would then decide. Three is little, but one seed can no longer agree with one other.
FEWEST_SEEDS = 3
FEWEST_ALIKE = (
    5  # seeds that all give the very same value: a sign test needs five (1/2^5 < 5 %), Student's t cannot say
)


@dataclass(frozen=True)
class Interval:
    """Mean over seeds with its 95 % t interval; `low` and `high` are None for fewer than two seeds."""

    value: float
    low: float | None
    high: float | None
    seeds: int

    def __str__(self) -> str:
        if not self.seeds:
            return "-"
        if self.low is None:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """The mean of one value per seed with Student's interval; undefined (no seeds) where a value is not finite."""
    n = len(values)
    if not n or not all(map(math.isfinite, values)):
        return Interval(math.nan, None, None, 0)
    mean = statistics.fmean(values)
    if n < FEWEST_FOR_INTERVAL:
        return Interval(mean, None, None, n)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


class BySeed(dict[int, float]):
    """One value per seed; `lost` says of every other seed of the plan why it has none.

    over: "sweep" or "further" where the value is a mean over those sizes of the plan alone, else over what it says itself.
    """

    def __init__(
        self, values: Mapping[int, float] | None = None, lost: Mapping[int, str] | None = None, over: str = ""
    ) -> None:
        super().__init__(values or {})
        self.lost, self.over = dict(lost or {}), over


@dataclass(frozen=True)
class Claim:
    """One number, measured once per seed, and the open region `above` < number < `below` in which it must lie.

    deciding: False for a number that is shown beside the finding and takes no part in its verdict.
    """

    words: str
    by_seed: Mapping[int, float]
    above: float = -math.inf
    below: float = math.inf
    deciding: bool = True

    @property
    def measured(self) -> Interval:
        """Mean over seeds, with interval."""
        return interval(list(self.by_seed.values()))

    @property
    def lost(self) -> dict[int, str]:
        """Seeds of the plan without a value, and why; they may differ from the others, so they are always shown."""
        return getattr(self.by_seed, "lost", {})

    @property
    def region(self) -> str:
        """The region in words."""
        if math.isfinite(self.above) and math.isfinite(self.below):
            return f"between {self.above:g} and {self.below:g}"
        return f"above {self.above:g}" if math.isfinite(self.above) else f"below {self.below:g}"

    @property
    def verdict(self) -> str:
        """holds, does not hold or not decided."""
        found = self.measured
        if found.low is None or found.high is None or found.seeds < FEWEST_SEEDS:
            return OPEN
        alike = math.isclose(found.low, found.high, rel_tol=1e-9, abs_tol=1e-12)  # equal but for the last bit
        if alike and found.seeds < FEWEST_ALIKE:
            return OPEN  # an interval without width is no certainty, as with shares of few questions
        if self.above < found.low and found.high < self.below:
            return HOLDS
        return FAILS if found.high <= self.above or found.low >= self.below else OPEN

    def to_json(self) -> dict[str, Any]:
        found = self.measured
        return {
            "claim": self.words,
            "must": self.region,
            "value": None if math.isnan(found.value) else found.value,
            "low": found.low,
            "high": found.high,
            "seeds": found.seeds,
            "lost": {str(seed): why for seed, why in self.lost.items()},
            "by_seed": {str(seed): value for seed, value in self.by_seed.items()},
            "deciding": self.deciding,
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        return f"{self.words}: {self.measured} (must be {self.region})"


def verdict_of(claims: Sequence[Claim]) -> str:
    """The verdict of a finding: one deciding claim that does not hold sinks it, one open claim leaves it open."""
    verdicts = [c.verdict for c in claims if c.deciding]
    if FAILS in verdicts:
        return FAILS
    return OPEN if not verdicts or OPEN in verdicts else HOLDS
