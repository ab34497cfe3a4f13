"""Figures of a ranking session: who wins the comparisons, and before that what lies on the cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.errors import DataError
from labkit.figures.theme import colour, plain, template
from labkit.types import Ranking

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["card_lengths", "pairs_won"]


def pairs_won(rankings: Sequence[Ranking], *, title: str = "Who wins the comparisons") -> go.Figure:
    """Share of its strict pairs that each model's completions won, best first; the count of pairs stands beside the name."""
    import plotly.graph_objects as go

    won: dict[str, list[int]] = {}
    for ranking in rankings:
        models = {c.id: c.model or "unknown" for c in ranking.completions}
        for better, worse in ranking.pairs():
            won.setdefault(models[better], []).append(1)
            won.setdefault(models[worse], []).append(0)
    if not won:
        raise DataError("There is no strict pair in these rankings, so nobody wins; rank some completions apart.")
    order = sorted(won, key=lambda m: sum(won[m]) / len(won[m]))
    fig = go.Figure()
    fig.add_bar(
        y=[f"{plain(m, 40)} ({len(won[m])} pairs)" for m in order],
        x=[round(sum(won[m]) / len(won[m]), 4) for m in order],
        orientation="h",
        marker={"color": colour(0)},
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
        name="share of pairs won",
    )
    fig.update_layout(
        template=template(),
        title=plain(title),
        width=640,
        height=120 + 30 * len(order),
        margin={"t": 60, "l": 220},
        xaxis={"tickformat": ".0%", "title": {"text": "share of strict pairs won"}, "range": [0, 1]},
        yaxis={"showgrid": False},
    )
    return fig


def card_lengths(cards: Sequence[Sequence[str]], *, title: str = "What lies on the cards") -> go.Figure:
    """Words of each completion, one row of dots per card: long answers beside short ones invite a bias for length."""
    import plotly.graph_objects as go

    if not any(cards):
        raise DataError("There is no card with a completion to draw.")
    fig = go.Figure()
    fig.add_scatter(
        x=[len(text.split()) for texts in cards for text in texts],
        y=[number for number, texts in enumerate(cards, 1) for _ in texts],
        mode="markers",
        marker={"size": 8, "color": colour(0), "opacity": 0.6},
        name="one response",
        hovertemplate="card %{y}: %{x} words<extra></extra>",
    )
    fig.update_layout(
        template=template(),
        title=plain(title),
        width=640,
        height=160 + 16 * min(len(cards), 30),
        margin={"t": 60},
        xaxis={"title": {"text": "words in the response"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "card"}, "autorange": "reversed"},
    )
    return fig
