"""Figures of a ranking session: who wins the comparisons, and before that what lies on the cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.errors import DataError
from labkit.figures.theme import INK, QUIET, colour, nothing, percents, plain, template
from labkit.types import Ranking

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["card_lengths", "longer_wins", "pairs_won"]

#: How much longer, in words: the bins of `longer_wins`, each with its label.
APART = ((1, 2, "1 to 2"), (3, 5, "3 to 5"), (6, 10, "6 to 10"), (11, 20, "11 to 20"), (21, 10**9, "21 or more"))


def pairs_won(rankings: Sequence[Ranking], *, title: str = "Who wins the comparisons") -> go.Figure:
    """Share of its strict pairs that each model's completions won, best first; the count of pairs stands beside the name.

    Completions whose model nobody named have no bar. Where no completion has a name, as in most files of comparisons,
    nobody can win: `longer_wins` is drawn instead, the first thing to know of labels without names.
    """
    import plotly.graph_objects as go

    won: dict[str, list[int]] = {}
    for ranking in rankings:
        models = {c.id: c.model for c in ranking.completions}
        for better, worse in ranking.pairs():
            won.setdefault(models[better], []).append(1)
            won.setdefault(models[worse], []).append(0)
    if not won:
        return nothing("There is no strict pair in these rankings, so nobody wins.", title)
    nameless = len(won.pop("", []))
    if not won:
        return longer_wins(rankings)
    order = sorted(won, key=lambda m: sum(won[m]) / len(won[m]))
    fig = go.Figure()
    fig.add_bar(
        y=[f"{plain(m, 40)} ({len(won[m])} pairs)" for m in order],
        x=[round(sum(won[m]) / len(won[m]), 4) for m in order],
        orientation="h",
        marker={"color": colour(0)},
        customdata=[100 * sum(won[m]) / len(won[m]) for m in order],
        hovertemplate="%{y}: %{customdata:.0f} %<extra></extra>",
        name="share of pairs won",
    )
    against = f" (against completions without a name in {nameless} cases)" if nameless else ""
    fig.update_layout(
        template=template(),
        title=plain(title),
        width=640,
        height=120 + 30 * len(order),
        margin={"t": 60, "l": 220},
        xaxis={**percents(), "title": {"text": f"share of strict pairs won{against}"}, "range": [0, 1]},
        yaxis={"showgrid": False},
    )
    return fig


def longer_wins(rankings: Sequence[Ranking], *, title: str = "Does the longer answer win?") -> go.Figure:
    """How often the longer completion of a strict pair was preferred, by how many words longer it is, with intervals.

    A reward model learns what is easiest to see; where length alone predicts the labels it will learn length.
    """
    import plotly.graph_objects as go

    from labkit.figures.reward import wilson

    found = _longer(rankings)
    if not found:
        return nothing("In no strict pair of these rankings is one completion longer than the other.", title)
    bins = [(name, [won for words, won in found if low <= words <= high]) for low, high, name in APART]
    bins = [(name, won) for name, won in bins if won]
    shares = [sum(won) / len(won) for _, won in bins]
    spans = [wilson(sum(won), len(won)) for _, won in bins]
    fig = go.Figure()
    fig.add_bar(
        x=[f"{name}<br>n={len(won)}" for name, won in bins],
        y=[round(share, 4) for share in shares],
        marker={"color": colour(0)},
        opacity=0.85,
        error_y={
            "type": "data",
            "array": [high - share for share, (_, high) in zip(shares, spans, strict=True)],
            "arrayminus": [share - low for share, (low, _) in zip(shares, spans, strict=True)],
            "color": INK,
        },
        customdata=[100 * share for share in shares],
        hovertemplate="%{x}: %{customdata:.0f} %<extra></extra>",
        name="the longer one won",
    )
    coin = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": 0.5, "y1": 0.5}
    fig.add_shape(**coin, line={"color": QUIET, "dash": "dot", "width": 1.2})
    fig.update_layout(
        template=template(),
        title=plain(f"{title} {100 * sum(won for _, won in found) / len(found):.0f} % of {len(found)} strict pairs"),
        width=640,
        height=360,
        xaxis={"title": {"text": "words that it is longer by"}, "type": "category"},
        yaxis={"title": {"text": "pairs that it won"}, "range": [0, 1.03], **percents()},
    )
    return fig


def _longer(rankings: Sequence[Ranking]) -> list[tuple[int, bool]]:
    """Of each strict pair of unequal lengths: by how many words, and whether the longer one was preferred."""
    found = []
    for ranking in rankings:
        words = {c.id: len(c.text.split()) for c in ranking.completions}
        for better, worse in ranking.pairs():
            if words[better] != words[worse]:
                found.append((abs(words[better] - words[worse]), words[better] > words[worse]))
    return found


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
