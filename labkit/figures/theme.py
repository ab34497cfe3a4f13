"""One look for every figure: colours that colour-blind readers tell apart, ink that reads on white and on black.

Backgrounds are transparent, text is a mid grey with a contrast above 4 against both JupyterLab themes, and
series differ by dash as well as by colour. Untrusted text (model output, notes) enters a figure only through `plain`.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from labkit.figures.text import visible

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["COLOURS", "DASHES", "DIVERGING", "GRID", "INK", "QUIET", "colour", "coloured", "headed", "nothing", "percents", "plain", "template"]

#: Okabe and Ito's palette, the light hues darkened until each has a contrast of 2.8 or more on white and on #111.
COLOURS: tuple[str, ...] = ("#0a7bc4", "#d55e00", "#009e73", "#c2619c", "#b58500", "#4a9fd8", "#8a6fd1", "#7d7d7d")
DASHES: tuple[str, ...] = ("solid", "dot", "dash", "dashdot")
INK = "#777b80"
QUIET = "rgba(128,132,138,0.55)"
GRID = "rgba(128,132,138,0.20)"
#: Blue for below, orange for above, transparent grey in the middle (readable for all common colour deficiencies).
DIVERGING: tuple[tuple[float, str], ...] = ((0.0, "#2166ac"), (0.5, "rgba(128,128,128,0.08)"), (1.0, "#d55e00"))


def colour(number: int) -> str:
    """The colour of series `number`; they repeat after eight."""
    return COLOURS[number % len(COLOURS)]


def plain(text: object, limit: int = 400) -> str:
    """Text that plotly will show letter by letter: no markup, no MathJax, nothing invisible, at most `limit` long."""
    shown = visible(str(text))
    if len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return html.escape(shown).replace("$", "&#36;").replace("\n", "<br>")


def coloured(text: str, hue: str) -> str:
    """`text` (already safe) in a colour, in plotly's markup; the PNG twin understands it too."""
    return f'<span style="color:{hue}">{text}</span>'


def percents(high: float = 1.0) -> dict[str, list[Any]]:
    """Ticks of an axis of shares from 0 to `high`, written as in every sentence: 20 %."""
    step = next((s for s in (0.01, 0.02, 0.05, 0.1) if high <= 6 * s), 0.2)
    ticks = [round(step * n, 2) for n in range(math.floor(high / step + 1e-9) + 1)]
    return {"tickvals": ticks, "ticktext": [f"{100 * tick:.0f} %" for tick in ticks]}


def headed(title: str, names: Sequence[str], room: float, left: int | None = None) -> dict[str, Any]:
    """Layout of a title at the very top and a margin that holds as many rows of a legend below it as these names need.

    room: pixels from the left axis to the right one; left: the margin there, where it is not the usual one.
    """
    longest = max(map(len, names), default=0)
    rows = math.ceil(len(names) / max(1, int(room / (6.3 * longest + 46))))
    margin = {"t": 42 + 19 * rows, **({} if left is None else {"l": left})}
    return {"title": {"text": plain(title), "y": 1, "yanchor": "top", "pad": {"t": 10}}, "margin": margin}


@lru_cache(maxsize=1)
def template() -> go.layout.Template:
    """The lab's plotly template; a few hundred bytes, where plotly's own takes seven kilobytes in every figure."""
    import plotly.graph_objects as go

    axis = {
        "gridcolor": GRID,
        "linecolor": QUIET,
        "zerolinecolor": QUIET,
        "zerolinewidth": 1,
        "tickcolor": QUIET,
        "ticks": "outside",
        "ticklen": 3,
        "automargin": True,
        "title": {"standoff": 6, "font": {"size": 11}},
        "tickfont": {"size": 10},
    }
    return go.layout.Template(
        layout={
            "font": {
                "family": "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif",
                "size": 12,
                "color": INK,
            },
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(COLOURS),
            "title": {"font": {"size": 15}, "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 8}},
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"font": {"size": 12}, "align": "left", "namelength": -1},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
            "margin": {"l": 56, "r": 16, "t": 48, "b": 44},
            "bargap": 0.25,
        }
    )


def nothing(note: str, title: str) -> go.Figure:
    """A figure without data that says why there are none: labels of one's own may leave nothing to draw, and a notebook goes on."""
    import plotly.graph_objects as go

    middle = {"xref": "x", "yref": "y", "x": 0.5, "y": 0.5, "showarrow": False}
    hidden = {"visible": False, "range": [0, 1]}
    fig = go.Figure(go.Scatter(x=[], y=[], mode="lines", name=plain(note), hoverinfo="skip", showlegend=False))
    fig.add_annotation(text=plain(note), **middle)
    fig.update_layout(template=template(), title=plain(title), width=640, height=160, xaxis=hidden, yaxis=hidden)
    return fig
