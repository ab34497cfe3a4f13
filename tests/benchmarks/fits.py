"""Is the cost linear? A straight line through (size, seconds), and how much of the variance it explains."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

__all__ = ["UNITS", "line", "points_of"]

#: what was varied -> the size that the cost should be linear in
UNITS = {"response length": "tokens", "batch": "tokens", "model": "operations"}


def points_of(rows: Sequence[dict[str, Any]], varied: str) -> list[tuple[float, float]]:
    """(size, seconds) of the rows in which `varied` was varied, smallest first."""
    return sorted((row[UNITS[varied]], row["seconds"]) for row in rows if row["varied"] == varied)


def line(sizes: Sequence[float], seconds: Sequence[float]) -> dict[str, float]:
    """Least squares of seconds on size: slope, intercept and R²."""
    slope, intercept = statistics.linear_regression(sizes, seconds)
    return {"slope": slope, "intercept": intercept, "r2": statistics.correlation(sizes, seconds) ** 2}
