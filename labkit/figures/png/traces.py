"""Traces of a plotly figure on matplotlib axes: scatter, bars, heatmap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.figures.png.words import (
    DASH,
    SYMBOL,
    across_of,
    error_of,
    hue_of,
    ink_on,
    listed,
    offset,
    rgba,
    spots_of,
    values,
    words,
)

if TYPE_CHECKING:
    from labkit.figures.png.page import Page

__all__ = ["bars", "heatmap", "scatter"]


LINES, MARKERS = 2, 3  # matplotlib's order of drawing; a trace's own zorder lifts it


def scatter(page: Page, t: Any, axes: Any) -> None:
    """Lines, markers, labels, fills and error bars of one trace."""
    mode, hue = t.mode or "lines", hue_of(t)
    x, y = values(t.x), values(t.y)
    if not len(x):
        return
    artist = None
    if t.fill in ("toself", "tonexty", "tozeroy"):
        if t.fill == "toself":
            axes.fill(x, y, color=rgba(t.fillcolor or hue), linewidth=0)
        else:
            axes.fill_between(x, y, 0, color=rgba(t.fillcolor or hue), linewidth=0)
    if "lines" in mode and (t.line.width is None or t.line.width > 0):
        kind = {"hv": "steps-post"}.get(t.line.shape, "default")
        (artist,) = axes.plot(
            x,
            y,
            DASH.get(t.line.dash or "solid", "-"),
            color=rgba(hue),
            linewidth=(t.line.width or 2) * 0.8,
            drawstyle=kind,
            alpha=t.opacity,
            zorder=LINES + (t.zorder or 0),
        )
    if "markers" in mode:
        artist = _markers(t, axes, x, y, hue) or artist
    if "text" in mode:
        for px, py, label in zip(x, y, listed(t.text, len(x)), strict=True):
            axes.annotate(
                words(label),
                (px, py),
                xytext=offset(t.textposition),
                textcoords="offset points",
                fontsize=8,
                color=page.ink,
                ha=across_of(t.textposition),
                va="center",
                parse_math=False,
            )
    if t.error_x.array is not None or t.error_y.array is not None:
        axes.errorbar(
            x,
            y,
            xerr=error_of(t.error_x),
            yerr=error_of(t.error_y),
            fmt="none",
            ecolor=rgba(hue),
            elinewidth=1.2,
            capsize=2.5,
        )
    page.key(t, artist)


def _markers(t: Any, axes: Any, x: Any, y: Any, hue: str) -> Any:
    size = t.marker.size if np.isscalar(t.marker.size) else 6
    shape = SYMBOL.get(t.marker.symbol if isinstance(t.marker.symbol, str) else "circle", "o")
    fill = t.marker.color if t.marker.color is not None else hue
    fill = [rgba(c) for c in fill] if isinstance(fill, (list, tuple, np.ndarray)) else rgba(fill)
    if str(t.marker.symbol).endswith("-open"):
        face = {"facecolors": "none", "edgecolors": fill}
    else:
        face = {"c": fill if isinstance(fill, list) else [fill]}
        face |= {"edgecolors": rgba(t.marker.line.color)} if t.marker.line.color else {}
    return axes.scatter(
        x,
        y,
        s=((size or 6) * 0.8) ** 2,
        marker=shape,
        alpha=t.marker.opacity or t.opacity,
        linewidths=(t.marker.line.width or 1) * 0.8,
        zorder=MARKERS + (t.zorder or 0),
        **face,
    )


def bars(page: Page, traces: list[Any], axes: Any) -> None:
    """Bars of one subplot together: grouped side by side, or stacked, as the layout says."""
    mode = page.layout.barmode or "group"
    stacked = mode in ("stack", "relative", "overlay")
    gap = page.layout.bargap if page.layout.bargap is not None else 0.25
    bottoms: Any = 0.0
    for place, t in enumerate(traces):
        flat = t.orientation == "h"
        labels, lengths = (values(t.y), values(t.x)) if flat else (values(t.x), values(t.y))
        lengths = np.asarray(lengths, dtype=float)
        spots, unit = spots_of(axes, labels, flat)
        thick = (1 - gap) * unit / (1 if stacked else len(traces))
        spots = spots + (0 if stacked else (place - (len(traces) - 1) / 2) * thick)
        hue = t.marker.color if t.marker.color is not None else "#777777"
        hue = [rgba(c) for c in hue] if isinstance(hue, (list, tuple, np.ndarray)) else rgba(hue)
        base = bottoms if mode in ("stack", "relative") else (np.asarray(t.base, float) if t.base is not None else 0.0)
        error = {
            "yerr": error_of(t.error_y),
            "xerr": error_of(t.error_x),
            "error_kw": {"ecolor": page.ink, "elinewidth": 1.2, "capsize": 2.5},
        }
        draw = axes.barh if flat else axes.bar
        artist = draw(
            spots, lengths, thick, **{"left" if flat else "bottom": base}, color=hue, alpha=t.opacity, **error
        )
        if t.text is not None and t.textposition != "none":
            for spot, length, label in zip(spots, lengths + base, listed(t.text, len(spots)), strict=True):
                where = (length, spot) if flat else (spot, length)
                axes.annotate(
                    words(label),
                    where,
                    xytext=(4, 0) if flat else (0, 3),
                    textcoords="offset points",
                    fontsize=8,
                    color=page.ink,
                    va="center" if flat else "bottom",
                    ha="left" if flat else "center",
                    parse_math=False,
                )
        bottoms = bottoms + lengths
        page.key(t, artist)


def heatmap(page: Page, t: Any, axes: Any) -> None:
    """Cells with their labels, the first row as the axis says."""
    from matplotlib.colors import LinearSegmentedColormap

    z = np.asarray(t.z, dtype=float)
    scale = LinearSegmentedColormap.from_list("lab", [(at, rgba(hue)) for at, hue in t.colorscale])
    axes.imshow(
        np.ma.masked_invalid(z),
        aspect="auto",
        cmap=scale,
        vmin=t.zmin,
        vmax=t.zmax,
        interpolation="nearest",
        origin="lower",
    )
    axes.grid(False)
    if t.text is not None:
        style = {"ha": "center", "va": "center", "fontsize": 7.5, "parse_math": False}
        for row, line in enumerate(t.text):
            for column, label in enumerate(line):
                axes.text(column, row, words(label), color=ink_on(z[row, column], t), **style)
    for labels, which in ((t.x, "x"), (t.y, "y")):
        if labels is not None:
            getattr(axes, f"set_{which}ticks")(range(len(labels)), [words(v) for v in labels], parse_math=False)
