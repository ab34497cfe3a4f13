"""The PNG twin of a plotly figure, drawn with matplotlib: no browser, about a tenth of a second.

It reads the same traces and layout and draws the part of plotly's vocabulary that the lab's figures use: scatter,
bar and heatmap traces, error bars, line and rectangle shapes, annotations, linear, log and category axes, subplots.
A trace it does not know is an error, so that a twin never silently lacks data.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from labkit.figures.png.page import Page
from labkit.figures.png.words import words

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["draw_png", "words"]


def draw_png(fig: go.Figure, *, scale: float = 1.5) -> bytes:
    """PNG bytes of `fig` at its own width and height times `scale`, transparent, with a palette of 128 colours."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout = fig.layout
    width, height = float(layout.width or 760), float(layout.height or 420)
    canvas = Figure(figsize=(width / 72, height / 72), dpi=72 * scale)
    FigureCanvasAgg(canvas)
    canvas.patch.set_alpha(0)
    page = Page(fig, canvas, width, height)
    for trace in fig.data:
        page.trace(trace)
    page.finish()
    return _compress(canvas)


def _compress(canvas: Any) -> bytes:
    from PIL import Image

    raw = io.BytesIO()
    canvas.savefig(raw, format="png", transparent=True)
    small = io.BytesIO()
    Image.open(raw).convert("RGBA").quantize(128, method=Image.Quantize.FASTOCTREE).save(
        small, format="png", optimize=True
    )
    return small.getvalue()
