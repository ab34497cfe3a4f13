"""The win rate of one model over another, with an interval clustered by prompt, since judgments of one prompt hang together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from labkit.errors import DataError, SettingsError
from labkit.evaluation.winrate.judgments import Judgment
from labkit.labels.intervals import FEW, LEVEL
from labkit.types import listed

__all__ = ["WinRate", "win_rate"]

DISSENT = 5  # fewer prompts than this that say something else than the rest do not tell how far prompts differ


@dataclass(frozen=True)
class WinRate:
    """How often a is preferred to b; a tie is half a win."""

    rate: float
    se: float | None  # clustered by prompt; None for one prompt
    low: float
    high: float
    n: int  # judgments
    prompts: int
    note: str = ""  # a caution: too few prompts to say, or nearly all of them alike

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.rate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def win_rate(judgments: Iterable[Judgment], a: str, b: str, *, level: float = LEVEL) -> WinRate:
    """The share of judgments between `a` and `b`, given either way round, that prefer `a`.

    Standard error: of a mean with clusters (prompts), with the C / (C - 1) correction. Interval: Wilson's, with the
    number of judgments replaced by the effective number rate (1 - rate) / se² and the t quantile of C - 1 degrees of
    freedom, so that it stays inside 0..1 and keeps a width where every judgment agrees (there: C judgments). Where all
    but a few prompts agree, their spread is known badly and would be taken too small (most by ties, which lie half way):
    there the effective number is at most C.
    """
    if not 0 < level < 1:
        raise SettingsError(f"level is {level}; give the share that an interval is to cover, between 0 and 1, as 0.95.")
    by_prompt: dict[str, list[float]] = {}
    for judgment in listed(judgments, Judgment, "judgments"):
        if (judgment.a, judgment.b) == (a, b):
            by_prompt.setdefault(judgment.prompt, []).append(judgment.preference)
        elif (judgment.a, judgment.b) == (b, a):
            by_prompt.setdefault(judgment.prompt, []).append(1 - judgment.preference)
    n, clusters = sum(map(len, by_prompt.values())), len(by_prompt)
    if not n:
        raise DataError(f"There is no judgment between {a!r} and {b!r}; check the model names.")
    rate = sum(map(sum, by_prompt.values())) / n
    if clusters == 1:
        return WinRate(rate, None, 0.0, 1.0, n, 1, _note(1, False, 0, 0.0))
    squares = sum(sum(value - rate for value in values) ** 2 for values in by_prompt.values())
    se = sqrt(clusters / (clusters - 1) * squares) / n
    verdicts = Counter(values[0] for values in by_prompt.values() if len(set(values)) == 1)
    verdict, agreeing = verdicts.most_common(1)[0] if verdicts else (0.0, 0)
    alike = clusters - agreeing < min(DISSENT, clusters / 2)
    return WinRate(rate, se, *_wilson(rate, se, clusters, alike, level), n, clusters, _note(clusters, alike, agreeing, verdict))


def _note(clusters: int, alike: bool, agreeing: int, verdict: float) -> str:
    if clusters < FEW:
        return f"Only {clusters} prompt(s): too few to say."
    if not alike:
        return ""
    what = "are ties" if verdict == 0.5 else "have one verdict"
    return f"{agreeing} of {clusters} prompts {what}: the interval is that of {clusters} judgments at most."


def _wilson(rate: float, se: float, clusters: int, alike: bool, level: float) -> tuple[float, float]:
    from scipy.stats import t

    size = rate * (1 - rate) / se**2 if se > 1e-12 and 0 < rate < 1 else float(clusters)
    size = min(size, float(clusters)) if alike else size
    z = float(t.ppf((1 + level) / 2, clusters - 1))
    centre = (rate + z * z / (2 * size)) / (1 + z * z / size)
    half = z * sqrt(rate * (1 - rate) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    return max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate))
