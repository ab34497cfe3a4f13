"""A figure as a mime bundle that shows everywhere: plotly in JupyterLab, PNG on GitHub, words in a terminal."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from labkit.figures.png import draw_png, words

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["bundle"]


SHARP = 1.5  # pixels of the picture to one of the figure
WIDEST = 1200  # pixels of the picture: JupyterLab shows all of them, however wide the page is


def bundle(fig: go.Figure, *, text: str = "", scale: float = 0.0) -> dict[str, Any]:
    """The mime bundle of `fig`: `application/vnd.plotly.v1+json`, `image/png` and `text/plain`.

    `text` is what a reader without pictures gets; by default the figure's title and the names of its series.
    The PNG is drawn from the same traces by matplotlib, so that no browser is needed; scale: its pixels to one of the
    figure, by default 1.5, and less for a wide figure.
    """
    scale = scale or min(SHARP, WIDEST / float(fig.layout.width or 760))
    body = json.loads(fig.to_json(), parse_float=lambda digits: float(f"{float(digits):.6g}"))
    body["config"] = {"displaylogo": False, "responsive": True}
    return {
        "application/vnd.plotly.v1+json": body,
        "image/png": base64.b64encode(draw_png(fig, scale=scale)).decode("ascii"),
        "text/plain": text or _words(fig),
    }


def _words(fig: go.Figure) -> str:
    names = list(dict.fromkeys(words(t.name) for t in fig.data if t.name))
    title = words(fig.layout.title.text or "Figure")
    return f"{title}: {', '.join(names)}" if names else title
