"""One response as a strip of coloured tokens: the static twin of the inspector's token view."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labkit.errors import DataError
from labkit.figures.theme import DIVERGING, plain, template

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["token_strip"]


def token_strip(
    tokens: Sequence[str], columns: Mapping[str, Sequence[float]], *, title: str = "Token by token", width: int = 1000
) -> go.Figure:
    """A heat strip: one row per quantity (KL, value, advantage, ...), one column per token.

    Each row is scaled by its own largest absolute value, so that a small KL and a large value are both seen;
    the numbers themselves are in the hover. Zero is transparent, blue below, orange above.
    """
    import plotly.graph_objects as go

    rows = {name: np.asarray(v, float) for name, v in columns.items() if len(v)}
    if not tokens or not rows:
        raise DataError("There are no tokens to draw.")
    for name, v in rows.items():
        if len(v) != len(tokens):
            raise DataError(f"{name} has {len(v)} numbers for {len(tokens)} tokens; give one per token.")
    z = [np.round(v / (np.nanmax(np.abs(v)) or 1.0), 4).tolist() for v in rows.values()]
    labels = [plain(textwrap.shorten(t, 14, placeholder="…") if t.strip() else t.replace(" ", "␣"), 14) for t in tokens]
    text = [[f"{v:.2f}" if len(tokens) <= 16 else "" for v in row] for row in rows.values()]
    fig = go.Figure()
    fig.add_heatmap(
        z=z,
        y=list(rows),
        zmin=-1,
        zmax=1,
        colorscale=[list(stop) for stop in DIVERGING],
        showscale=False,
        text=text,
        texttemplate="%{text}",
        customdata=[np.round(v, 5).tolist() for v in rows.values()],
        hovertemplate="%{y} of token %{x}: %{customdata:.4g}<extra></extra>",
        xgap=2,
        ygap=2,
    )
    fig.update_layout(
        template=template(),
        title=plain(title),
        width=width,
        height=130 + 30 * len(rows),
        margin={"l": 130, "b": 60, "t": 44},
        xaxis={"tickvals": list(range(len(tokens))), "ticktext": labels, "tickangle": -40, "showgrid": False},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
    return fig
