"""Figures of a reward model: how it learned, whether its margins mean what they say, and whom it agrees with.

Inputs are plain rows, so that any source serves: a pair row has `margin` (score of the preferred minus the other),
and where known `gap` (difference of ranks), `labeler`; a completion row has `score` and `length`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import DataError
from labkit.figures.theme import COLOURS, INK, QUIET, colour, headed, percents, plain, template

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["accuracy_by", "by_ranking", "calibration", "pair_rows", "reward_against_length", "reward_histogram", "wilson"]

MOST_UPRIGHT = 12  # groups of bars that stand; more have no room for their names
_BAR, _LETTER = 46, 6  # pixels of a bar with its gap, and of a letter below it


def pair_rows(rankings: Iterable[Any], scores: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """One row per strict pair of each `Ranking`: margin under its scores, rank gap, labeler, and the ranking's place.

    scores: for each ranking its own, by completion id, for ids may come again under another prompt.
    """
    rows = []
    for place, (ranking, own) in enumerate(zip(rankings, scores, strict=True)):
        ranks = ranking.ranks
        for better, worse in ranking.pairs():
            if better in own and worse in own:
                rows.append(
                    {
                        "ranking": place,
                        "prompt_id": ranking.prompt.id,
                        "better": better,
                        "worse": worse,
                        "margin": own[better] - own[worse],
                        "gap": ranks[worse] - ranks[better],
                        "labeler": ranking.labeler,
                    }
                )
    return rows


def by_ranking(rankings: Iterable[Any], values: Iterable[float]) -> list[dict[str, float]]:
    """One value per completion shown, in order -> for each ranking its own, by completion id."""
    found = iter(values)
    return [{c.id: float(next(found)) for c in ranking.completions} for ranking in rankings]


def wilson(right: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: right where few pairs make the normal interval leave [0, 1]."""
    if not count:
        return (0.0, 1.0)
    share, square = right / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z * np.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return min(share, float(middle - half)), max(share, float(middle + half))  # rounding must not cut the share off


def calibration(
    pairs: Sequence[Mapping[str, Any]], *, bins: int = 8, title: str = "Does the margin mean what it says?"
) -> go.Figure:
    """Share of pairs that people ordered as the RM does, against σ(|margin|), with Wilson intervals.

    The diagonal is a calibrated RM: where it claims 80 %, people agree in 80 of 100 pairs.
    """
    import plotly.graph_objects as go

    margins = _margins(pairs)
    said = 1 / (1 + np.exp(-np.abs(margins)))
    agreed = (margins > 0) + 0.5 * (margins == 0)
    edges = np.unique(np.quantile(said, np.linspace(0, 1, min(bins, max(1, len(said) // 5)) + 1)))
    place = np.clip(np.searchsorted(edges, said, side="right") - 1, 0, max(len(edges) - 2, 0))
    groups = [np.flatnonzero(place == b) for b in range(max(len(edges) - 1, 1)) if (place == b).any()]
    x, y = [float(said[g].mean()) for g in groups], [float(agreed[g].mean()) for g in groups]
    spans = [wilson(float(agreed[g].sum()), len(g)) for g in groups]
    fig = go.Figure()
    fig.add_scatter(
        x=[0.5, 1], y=[0.5, 1], mode="lines", line={"dash": "dash", "color": QUIET}, name="calibrated", hoverinfo="skip"
    )
    fig.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"color": COLOURS[0]},
        marker={"size": 8},
        name="this RM",
        error_y={
            "type": "data",
            "array": [max(0, hi - v) for v, (_, hi) in zip(y, spans, strict=True)],
            "arrayminus": [max(0, v - lo) for v, (lo, _) in zip(y, spans, strict=True)],
        },
        text=[f"{len(g)} pairs" for g in groups],
        hovertemplate="says %{x:.2f}, labelers %{y:.2f} (%{text})<extra></extra>",
    )
    fig.update_layout(
        template=template(),
        title=plain(title),
        width=520,
        height=420,
        margin={"t": 78},
        xaxis={"title": {"text": "P(win) that the RM's margin claims"}, "range": [0.48, 1.01]},
        yaxis={
            "title": {"text": "share of pairs labelers order so"},
            "range": [min(0.35, *[lo - 0.02 for lo, _ in spans]), 1.03],
        },
    )
    return fig


def accuracy_by(pairs: Sequence[Mapping[str, Any]], key: str, *, title: str = "") -> go.Figure:
    """Pair accuracy by `key` ('gap', 'labeler', ...) as bars with Wilson intervals; many groups lie, the best on top.

    0.5 is a coin; a tie of scores counts half.
    """
    import plotly.graph_objects as go

    _margins(pairs)
    groups: dict[Any, list[float]] = {}
    for row in pairs:
        groups.setdefault(row.get(key, "unknown"), []).append(
            1.0 if row["margin"] > 0 else 0.5 if row["margin"] == 0 else 0.0
        )
    names = sorted(groups, key=lambda v: (isinstance(v, str), v))
    width = max(420, 160 + _BAR * len(names))
    room = (width - 76) / len(names) / _LETTER  # letters that stand below a bar without being tilted
    lying = len(names) > MOST_UPRIGHT or max(len(line) for n in names for line in (str(n)[:24], f"n={len(groups[n])}")) > room
    if lying:
        names.sort(key=lambda n: np.mean(groups[n]))
    shares = [float(np.mean(groups[n])) for n in names]
    spans = [wilson(sum(groups[n]), len(groups[n])) for n in names]
    told = [f"{plain(n, 24)}{' · ' if lying else '<br>'}n={len(groups[n])}" for n in names]
    around = {
        "type": "data",
        "array": [hi - s for s, (_, hi) in zip(shares, spans, strict=True)],
        "arrayminus": [s - lo for s, (lo, _) in zip(shares, spans, strict=True)],
        "color": INK,
    }
    fig = go.Figure()
    look = {"customdata": [100 * share for share in shares], "marker": {"color": COLOURS[0]}, "opacity": 0.85, "showlegend": False}
    if lying:
        fig.add_bar(x=shares, y=told, orientation="h", error_x=around, hovertemplate="%{y}: %{customdata:.1f} %<extra></extra>", **look)
    else:
        fig.add_bar(x=told, y=shares, error_y=around, hovertemplate="%{x}: %{customdata:.1f} %<extra></extra>", **look)
    label = {"gap": "difference of ranks", "labeler": "labeler"}.get(key, key)
    share = {"title": {"text": "pairs ordered right"}, "range": [0, 1.03], **percents()}
    group = {"title": {"text": "" if lying else label}, "type": "category"}
    fig.update_layout(
        template=template(),
        title=plain(title or f"Accuracy by {label}"),
        width=640 if lying else width,
        height=150 + 19 * len(names) if lying else 360,
        xaxis=share if lying else group,
        yaxis=group if lying else share,
        margin={"l": 24 + 7 * max(map(len, told))} if lying else None,
    )
    across = {"xref": "x", "yref": "y domain", "x0": 0.5, "x1": 0.5, "y0": 0, "y1": 1}
    along = {"xref": "x domain", "yref": "y", "x0": 0, "x1": 1, "y0": 0.5, "y1": 0.5}
    fig.add_shape(type="line", line={"color": QUIET, "dash": "dot", "width": 1.2}, **(across if lying else along))
    return fig


def reward_histogram(groups: Mapping[str, Sequence[float]], *, bins: int = 30, title: str = "Rewards") -> go.Figure:
    """Histograms of scores by group (SFT, PPO, ...) over common bins, each as a share of its own group."""
    import plotly.graph_objects as go

    values = {name: np.asarray(list(v), float) for name, v in groups.items() if len(v)}
    if not values:
        raise DataError("There are no scores to draw.")
    everything = np.concatenate(list(values.values()))
    edges = np.histogram_bin_edges(
        everything[np.isfinite(everything)], bins=min(bins, max(5, int(np.sqrt(everything.size) * 2)))
    )
    fig = go.Figure()
    for place, (name, v) in enumerate(values.items()):
        share = np.histogram(v[np.isfinite(v)], edges)[0] / max(len(v), 1)
        x = np.concatenate([edges[:1], np.repeat(edges[1:-1], 2), edges[-1:]])
        y = np.repeat(share, 2)
        hue = colour(place)
        fig.add_scatter(
            x=np.round([x[0], *x, x[-1]], 4).tolist(),
            y=np.round([0, *y, 0], 5).tolist(),
            mode="lines",
            fill="toself",
            name=f"{plain(name, 40)} (n={len(v)}, mean {v.mean():.2f})",
            line={"color": hue, "width": 1.6, "dash": ("solid", "dash", "dot", "dashdot")[place % 4]},
            fillcolor=_faint(hue),
            hoverinfo="name",
        )
    fig.update_layout(
        template=template(),
        width=640,
        height=380,
        showlegend=True,
        **headed(title, [trace.name for trace in fig.data], 560),
        xaxis={"title": {"text": "RM score"}},
        yaxis={"title": {"text": "share of responses"}, "rangemode": "tozero"},
    )
    return fig


def reward_against_length(
    rows: Sequence[Mapping[str, Any]], *, title: str = "Reward against length", group: str = "source"
) -> go.Figure:
    """Score against length in tokens, one colour per group, with the least-squares line and Pearson's r of each."""
    import plotly.graph_objects as go

    groups: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row.get("length") is not None and row.get("score") is not None:
            groups.setdefault(str(row.get(group, "responses")), []).append((float(row["length"]), float(row["score"])))
    if not groups:
        raise DataError("No row has both a length and a score.")
    fig = go.Figure()
    for place, (name, points) in enumerate(groups.items()):
        length, score = np.array(points).T
        varied = len(points) > 2 and np.ptp(length) > 0 and np.ptp(score) > 0
        note = f" (r = {np.corrcoef(length, score)[0, 1]:.2f})" if varied else ""
        fig.add_scatter(
            x=length.tolist(),
            y=np.round(score, 4).tolist(),
            mode="markers",
            name=plain(name, 40) + note,
            marker={"size": 5, "color": colour(place), "opacity": 0.55},
        )
        if varied:
            slope, level = np.polyfit(length, score, 1)
            ends = np.array([length.min(), length.max()])
            fig.add_scatter(
                x=ends.tolist(),
                y=(slope * ends + level).tolist(),
                mode="lines",
                line={"color": colour(place)},
                showlegend=False,
                hoverinfo="skip",
            )
    fig.update_layout(
        template=template(),
        width=560,
        height=400,
        showlegend=True,
        **headed(title, [trace.name for trace in fig.data if trace.name], 480),
        xaxis={"title": {"text": "tokens in the response"}},
        yaxis={"title": {"text": "RM score"}},
    )
    return fig


def _margins(pairs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    margins = np.array([row["margin"] for row in pairs], float)
    if not margins.size:
        raise DataError("There are no strict pairs to judge the reward model by; give rankings that prefer something.")
    return margins


def _faint(hue: str) -> str:
    r, g, b = (int(hue[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},0.14)"
