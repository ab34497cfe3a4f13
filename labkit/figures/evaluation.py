"""Figures of an evaluation: over-optimisation, win rates, Likert scores and flags, and the alignment tax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import DataError
from labkit.figures.records import records
from labkit.figures.theme import COLOURS, INK, QUIET, colour, headed, percents, plain, template
from labkit.types import FLAGS

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["alignment_tax", "flag_bars", "gao_fit", "likert_bars", "proxy_and_gold", "win_rates"]


def gao_fit(distance: Sequence[float], reward: Sequence[float], *, kind: str = "rl") -> tuple[float, float]:
    """Least-squares (α, β) of Gao et al. (2023): R(d) = d(α − β ln d) for RL, d(α − βd) for best-of-n; d = √KL.

    `reward` is counted from the starting policy, whose d and R are 0.
    """
    d, r = np.asarray(distance, float), np.asarray(reward, float)
    keep = np.isfinite(d) & np.isfinite(r) & (d > 0)
    if keep.sum() < 3:
        raise DataError(
            f"A fit of over-optimisation needs at least 3 points with KL above 0; there are {int(keep.sum())}."
        )
    d, r = d[keep], r[keep]
    bend = d * np.log(d) if kind == "rl" else d * d
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d, -bend], axis=1), r, rcond=None)
    return float(alpha), float(beta)


def proxy_and_gold(
    sources: Any, *, kind: str = "rl", fit: bool = True, title: str = "Proxy and gold reward against √KL"
) -> go.Figure:
    """RM score (proxy) and gold reward of each run over √KL, both counted from the first step, with Gao et al.'s fits.

    Both are divided by the spread that they have over all steps, so that their shapes can be compared.
    Needs `gold` and `kl_k1`.
    """
    import plotly.graph_objects as go

    fig = go.Figure()
    for place, record in enumerate(records(sources)):
        rows = [s.metrics for s in record.steps if {"score", "gold", "kl_k1"} <= set(s.metrics)]
        if not rows:
            raise DataError(f"{record.name} has no step with score, gold and kl_k1; gold needs the world's judge.")
        d = np.sqrt([max(m["kl_k1"], 0.0) for m in rows])
        for key, label, dash in (("score", "RM score (proxy)", "dot"), ("gold", "gold", "solid")):
            values = np.array([m[key] for m in rows], float)
            hue = colour(2 * place + (key == "gold"))
            rise = (values - values[0]) / (float(values.std()) or 1.0)
            fig.add_scatter(
                x=np.round(d, 4).tolist(),
                y=np.round(rise, 4).tolist(),
                mode="markers",
                name=f"{plain(record.name, 40)}: {label}",
                marker={"size": 6, "color": hue, "symbol": "circle" if key == "gold" else "diamond"},
                text=[f"step {s.number}" for s in record.steps][: len(rows)],
                hovertemplate="%{text}: √KL %{x:.2f}, %{y:.2f}<extra></extra>",
                cliponaxis=False,
            )
            if fit and np.count_nonzero(d > 0) >= 3:
                _fitted(fig, d, rise, kind, hue, dash)
    fig.update_layout(
        template=template(),
        width=720,
        height=430,
        showlegend=True,
        **headed(title, [trace.name for trace in fig.data if trace.name], 640),
        xaxis={"title": {"text": "√KL(policy ‖ PPO init), √nats"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "gain over the first step, in its own spread"}},
    )
    return fig


def _fitted(fig: go.Figure, d: np.ndarray, rise: np.ndarray, kind: str, hue: str, dash: str) -> None:
    alpha, beta = gao_fit(d, rise, kind=kind)
    line = np.linspace(max(float(d.max()) / 200, 1e-6), float(d.max()), 80)
    y = line * (alpha - beta * (np.log(line) if kind == "rl" else line))
    fig.add_scatter(
        x=np.round(line, 4).tolist(),
        y=np.round(y, 4).tolist(),
        mode="lines",
        line={"color": hue, "dash": dash, "width": 1.8},
        showlegend=False,
        hovertemplate=f"fit: α = {alpha:.2f}, β = {beta:.2f}<extra></extra>",
    )


def win_rates(
    rows: Sequence[Mapping[str, Any]], *, title: str = "Win rate against the baseline", baseline: float = 0.5
) -> go.Figure:
    """Win rates with intervals.

    A row has `name`, `rate`, `low`, `high`, and if wished `group` (such as training or held-out labelers) and `count`.
    """
    import plotly.graph_objects as go

    if not rows:
        raise DataError("There are no win rates to draw.")
    names = list(dict.fromkeys(str(r["name"]) for r in rows))
    groups = list(dict.fromkeys(str(r.get("group", "")) for r in rows))
    fig = go.Figure()
    for place, group in enumerate(groups):
        own = {str(r["name"]): r for r in rows if str(r.get("group", "")) == group}
        shown = [n for n in names if n in own]
        shift = (place - (len(groups) - 1) / 2) * min(0.22, 0.8 / len(groups))
        rate = [float(own[n]["rate"]) for n in shown]
        fig.add_scatter(
            x=rate,
            y=[names.index(n) + shift for n in shown],
            mode="markers",
            name=plain(group or "win rate", 60),
            showlegend=len(groups) > 1,
            marker={
                "size": 10,
                "color": colour(place),
                "symbol": ("circle", "diamond", "square", "triangle-up", "triangle-down")[place % 5],
            },
            line={"color": colour(place)},
            error_x={
                "type": "data",
                "array": [float(own[n]["high"]) - v for n, v in zip(shown, rate, strict=True)],
                "arrayminus": [v - float(own[n]["low"]) for n, v in zip(shown, rate, strict=True)],
            },
            text=[
                f"{plain(n, 60)}: {100 * v:.1f} % [{100 * own[n]['low']:.1f} %, {100 * own[n]['high']:.1f} %]{_count(own[n])}"
                for n, v in zip(shown, rate, strict=True)
            ],
            hovertemplate="%{text}<extra></extra>",
        )
    fig.add_shape(
        type="line",
        xref="x",
        yref="y domain",
        x0=baseline,
        x1=baseline,
        y0=0,
        y1=1,
        line={"color": QUIET, "dash": "dash", "width": 1.2},
    )
    fig.update_layout(
        template=template(),
        width=720,
        height=150 + max(44, 14 * len(groups)) * len(names),
        xaxis={
            "title": {"text": "preferred to the baseline (ties count half)"},
            "range": [-0.02, 1.02],
            **percents(),
        },
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [plain(n, 60) for n in names],
            "range": [len(names) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
        **headed(title, groups if len(groups) > 1 else [], 540, left=150),
    )
    return fig


def _count(row: Mapping[str, Any]) -> str:
    return f", {row['count']:g} comparisons" if row.get("count") is not None else ""


def likert_bars(
    scores: Mapping[str, Sequence[float]],
    *,
    prompts: Mapping[str, Sequence[str]] | None = None,
    title: str = "Overall quality, Likert 1 to 7",
) -> go.Figure:
    """Mean Likert score of each model with a 95 % interval of the mean, clustered by prompt.

    prompts: the prompt of each score; without, each score counts as of a prompt of its own. A model that is not in it
    gets no interval.
    """
    import plotly.graph_objects as go

    names = [n for n, v in scores.items() if len(v)]
    means = [float(np.mean(scores[n])) for n in names]
    asked = {n: range(len(scores[n])) for n in names} if prompts is None else prompts
    half = [_half_width(scores[n], asked[n]) if n in asked else 0.0 for n in names]
    fig = go.Figure()
    fig.add_bar(
        x=[plain(n, 30) for n in names],
        y=means,
        marker={"color": [colour(i) for i in range(len(names))]},
        showlegend=False,
        width=None,
        error_y={"type": "data", "array": half, "color": INK},
        hovertemplate="%{x}: %{y:.2f}<extra></extra>",
    )
    fig.update_layout(
        template=template(),
        title=plain(title),
        width=max(420, 140 + 80 * len(names)),
        height=380,
        yaxis={"range": [1, 7.1], "title": {"text": "mean rating"}},
        xaxis={"type": "category"},
    )
    for bar in fig.data:
        bar.base = 1.0
        bar.customdata = means
        bar.y = [m - 1.0 for m in means]
        bar.hovertemplate = "%{x}: %{customdata:.2f}<extra></extra>"
    return fig


def _half_width(values: Sequence[float], clusters: Sequence[Any]) -> float:
    """Half of the 95 % interval of a mean of values that hang together within a cluster; 0 where there is one cluster."""
    from scipy.stats import t

    rest: dict[Any, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        rest[cluster] = rest.get(cluster, 0.0) + value - float(np.mean(values))
    count = len(rest)
    if count < 2:
        return 0.0
    error = math.sqrt(count / (count - 1) * sum(r * r for r in rest.values())) / len(values)
    return float(t.ppf(0.975, count - 1)) * error


def flag_bars(
    shares: Mapping[str, Mapping[str, float]], *, title: str = "How often labelers raised a flag"
) -> go.Figure:
    """Share of responses with each of the paper's flags, by model: `shares[model][flag]`.

    `satisfies_constraint` and the two that only describe (opinion, moral judgment) aside, a flag is bad.
    """
    import plotly.graph_objects as go

    most = max((v for own in shares.values() for v in own.values()), default=1.0)
    flags = [f for f in FLAGS if any(f in own for own in shares.values())] + sorted(
        {f for own in shares.values() for f in own} - set(FLAGS)
    )
    fig = go.Figure()
    for place, (model, own) in enumerate(shares.items()):
        fig.add_bar(
            y=[plain(f.replace("_", " "), 40) for f in flags],
            x=[float(own.get(f, 0.0)) for f in flags],
            orientation="h",
            name=plain(model, 40),
            marker={"color": colour(place)},
            customdata=[100 * float(own.get(f, 0.0)) for f in flags],
            hovertemplate="%{fullData.name}, %{y}: %{customdata:.1f} %<extra></extra>",
        )
    fig.update_layout(
        template=template(),
        barmode="group",
        title={"text": plain(title), "y": 0.99, "yanchor": "top"},
        width=760,
        height=180 + (16 + 13 * len(shares)) * len(flags),
        margin={"t": 104, "l": 170},  # the title, and two rows of models below it
        xaxis={**percents(most), "title": {"text": "share of responses"}, "rangemode": "tozero"},
        yaxis={"autorange": "reversed", "showgrid": False},
        showlegend=True,
    )
    return fig


def alignment_tax(
    rows: Sequence[Mapping[str, Any]], *, title: str = "Public benchmarks: the alignment tax", reference: str = ""
) -> go.Figure:
    """Dumbbells: one line per benchmark, one dot per model.

    A row has `benchmark`, `model`, `value`, and if known `low`, `high`.

    `reference` (by default the first model) is drawn hollow; the line spans from the worst to the best model.
    """
    import plotly.graph_objects as go

    if not rows:
        raise DataError("There are no benchmark results to draw.")
    benchmarks = list(dict.fromkeys(str(r["benchmark"]) for r in rows))
    models = list(dict.fromkeys(str(r["model"]) for r in rows))
    reference = reference or models[0]
    fig = go.Figure()
    for place, benchmark in enumerate(benchmarks):
        values = [float(r["value"]) for r in rows if r["benchmark"] == benchmark]
        fig.add_shape(
            type="line",
            xref="x",
            yref="y",
            x0=min(values),
            x1=max(values),
            y0=place,
            y1=place,
            line={"color": QUIET, "width": 3},
        )
    for place, model in enumerate(models):
        own = [r for r in rows if str(r["model"]) == model]
        error = {
            "type": "data",
            "array": [float(r.get("high", r["value"])) - float(r["value"]) for r in own],
            "arrayminus": [float(r["value"]) - float(r.get("low", r["value"])) for r in own],
            "thickness": 1,
        }
        fig.add_scatter(
            x=[float(r["value"]) for r in own],
            y=[benchmarks.index(str(r["benchmark"])) for r in own],
            mode="markers",
            name=plain(model, 40),
            line={"color": COLOURS[place % 8]},
            marker={
                "size": 10,
                "color": COLOURS[place % 8],
                "symbol": "circle-open"
                if model == reference
                else ("circle", "diamond", "square", "triangle-up")[place % 4],
            },
            error_x=error if any("low" in r for r in own) else None,
            hovertemplate="%{fullData.name}: %{x:.3g}<extra></extra>",
        )
    fig.update_layout(
        template=template(),
        title=plain(title),
        width=760,
        height=150 + 34 * len(benchmarks),
        margin={"t": 78, "l": 170},
        showlegend=True,
        xaxis={"title": {"text": "score"}},
        yaxis={
            "tickvals": list(range(len(benchmarks))),
            "ticktext": [plain(b, 40) for b in benchmarks],
            "range": [len(benchmarks) - 0.5, -0.5],
            "zeroline": False,
        },
    )
    return fig
