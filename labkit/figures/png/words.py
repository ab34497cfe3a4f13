"""Plotly's words in matplotlib's: text without markup, colours, dashes, markers, error bars, positions of bars."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np

__all__ = [
    "DASH",
    "SYMBOL",
    "across_of",
    "error_of",
    "hue_of",
    "ink_on",
    "listed",
    "log_axis",
    "offset",
    "rgba",
    "spots_of",
    "values",
    "words",
]

DASH = {"solid": "-", "dot": ":", "dash": "--", "dashdot": "-."}
SYMBOL = {
    "circle": "o",
    "triangle-up": "^",
    "triangle-down": "v",
    "diamond": "D",
    "square": "s",
    "x": "x",
    "line-ns": "|",
    "circle-open": "o",
}


def words(markup: Any) -> str:
    """Plotly's markup as plain text."""
    return html.unescape(re.sub(r"<[^>]+>", "", str(markup).replace("<br>", "\n")))


def rgba(hue: Any) -> Any:
    """A CSS colour as matplotlib takes it."""
    found = re.fullmatch(r"rgba?\(([^)]+)\)", str(hue))
    if not found:
        return hue
    r, g, b, *a = (float(v) for v in found[1].split(","))
    return (r / 255, g / 255, b / 255, a[0] if a else 1.0)


def ink_on(value: float, t: Any) -> str:
    """Ink that reads on a cell of a diverging heatmap: white on the strong ends."""
    reach = max(abs(t.zmin or 0), abs(t.zmax or 0)) or 1.0
    return "white" if abs(value) > 0.5 * reach else "#777b80"


def hue_of(t: Any) -> str:
    """The colour of a scatter trace."""
    marker = t.marker.color if isinstance(t.marker.color, str) else None
    return t.line.color or marker or "#777777"


def values(data: Any) -> Any:
    """An array of whatever a trace holds; empty for nothing."""
    return np.asarray([] if data is None else data)


def listed(text: Any, count: int) -> list[Any]:
    """One label per point."""
    return list(text) if isinstance(text, (list, tuple, np.ndarray)) else [text] * count


def error_of(bar: Any) -> Any:
    """(2, N) lengths below and above, or None."""
    if bar is None or bar.array is None:
        return None
    up = np.asarray(bar.array, float)
    down = np.asarray(bar.arrayminus, float) if bar.arrayminus is not None else up
    return np.vstack([down, up])


def spots_of(axes: Any, labels: Any, flat: bool) -> tuple[Any, float]:
    """Positions of bars and the distance between neighbours: numbers as they are, names as 0, 1, 2 with tick labels."""
    if labels.dtype.kind in "if":
        return labels.astype(float), float(np.min(np.diff(np.sort(labels)))) if len(labels) > 1 else 1.0
    spots = np.arange(len(labels), dtype=float)
    (axes.set_yticks if flat else axes.set_xticks)(spots, [words(v) for v in labels], parse_math=False)
    return spots, 1.0


def offset(position: Any) -> tuple[float, float]:
    """Points by which a label stands off its place."""
    where = position or "middle center"
    return (
        6 if "right" in where else -6 if "left" in where else 0,
        8 if "top" in where else -8 if "bottom" in where else 0,
    )


def across_of(position: Any) -> str:
    """Horizontal alignment of a label."""
    where = position or "middle center"
    return "left" if "right" in where else "right" if "left" in where else "center"


def log_axis(axes: Any, which: str) -> None:
    """A log axis with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
