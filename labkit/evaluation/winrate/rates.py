"""The win rate of one model over another, with an interval that knows that judgments of one prompt hang together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from labkit.errors import DataError
from labkit.evaluation.winrate.judgments import Judgment
from labkit.labels.intervals import FEW, LEVEL

__all__ = ["WinRate", "win_rate"]


@dataclass(frozen=True)
class WinRate:
    """How often a is preferred to b; a tie is half a win."""

    rate: float
    se: float | None  # clustered by prompt; None for one prompt
    low: float
    high: float
    n: int  # judgments
    prompts: int

    @property
    def note(self) -> str:
        """A caution where there are too few prompts to say."""
        return f"Only {self.prompts} prompt(s): too few to say." if self.prompts < FEW else ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "note": self.note}

    def __str__(self) -> str:
        return f"{self.rate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def win_rate(judgments: Iterable[Judgment], a: str, b: str, *, level: float = LEVEL) -> WinRate:
    """The share of judgments between `a` and `b`, given either way round, that prefer `a`.

    Standard error: of a mean with clusters (prompts), with the C / (C - 1) correction. Interval: Wilson's, with the
    number of judgments replaced by the effective number rate (1 - rate) / se² and the t quantile of C - 1 degrees of
    freedom, so that it stays inside 0..1 and keeps a width where every judgment agrees (there: C judgments).
    """
    by_prompt: dict[str, list[float]] = {}
    for judgment in judgments:
        if (judgment.a, judgment.b) == (a, b):
            by_prompt.setdefault(judgment.prompt, []).append(judgment.preference)
        elif (judgment.a, judgment.b) == (b, a):
            by_prompt.setdefault(judgment.prompt, []).append(1 - judgment.preference)
    n, clusters = sum(map(len, by_prompt.values())), len(by_prompt)
    if not n:
        raise DataError(f"There is no judgment between {a!r} and {b!r}; check the model names.")
    rate = sum(map(sum, by_prompt.values())) / n
    if clusters == 1:
        return WinRate(rate, None, 0.0, 1.0, n, 1)
    squares = sum(sum(value - rate for value in values) ** 2 for values in by_prompt.values())
    se = sqrt(clusters / (clusters - 1) * squares) / n
    return WinRate(rate, se, *_wilson(rate, se, clusters, level), n, clusters)


def _wilson(rate: float, se: float, clusters: int, level: float) -> tuple[float, float]:
    from scipy.stats import t

    size = rate * (1 - rate) / se**2 if se > 1e-12 and 0 < rate < 1 else float(clusters)
    z = float(t.ppf((1 + level) / 2, clusters - 1))
    centre = (rate + z * z / (2 * size)) / (1 + z * z / size)
    half = z * sqrt(rate * (1 - rate) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    return max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate))
