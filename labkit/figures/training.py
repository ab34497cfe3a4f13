"""Training curves of one run or of several branches, with interventions as marks, and where the time of a step goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.errors import DataError
from labkit.figures.panels import WIN_RATE, Panel, panels_for, value_of, with_data
from labkit.figures.records import Mark, Measured, Record, interventions, records, win_rates
from labkit.figures.theme import COLOURS, DASHES, INK, QUIET, colour, coloured, plain, template

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from labkit.types import Step

__all__ = ["TIMES", "profile", "time_profile", "training_curves"]

#: Parts of an iteration by metric name; what `time_total` holds beyond them is drawn as idle. A snapshot belongs to the
#: iteration that had to wait for it.
TIMES: dict[str, str] = {
    "time_generation": "generation",
    "time_scoring": "scoring",
    "time_advantage": "advantage",
    "time_update": "update",
    "time_ptx": "ptx",
    "time_snapshot": "snapshot",
}


SPARSE = 0.25  # a series with a value at no more than this share of the steps shows each as a marker, above the lines
_NAMED = 3  # sets of prompts named beside the title of the win rates; the hover names all
FEW_STEPS = 8  # so few that an axis would be marked at halves of a step


def training_curves(
    sources: Any,
    *,
    panels: Sequence[str] = (),
    columns: int = 4,
    title: str = "",
    width: int = 1120,
    marks: bool = True,
) -> go.Figure:
    """A grid of charts, one per panel that has data, over the steps of one or more runs.

    `sources`: a StageFolder, its path, a Job, a list of Steps, a list of those, or a mapping from name to one of them.
    `panels` picks panels by key or by a metric that they draw (see `labkit.figures.panels`). One run: colours tell
    series apart. Several: colours tell runs apart and dashes tell series apart. Interventions are dotted lines whose
    hover says what, why and to what effect. What "evaluate now" measured is the last panel, where there is any.
    """
    found = [r for r in records(sources) if len(r.steps)]
    if not found:
        raise DataError("There are no steps to draw yet; run the stage first.")
    wanted = _chosen([*panels_for(found[0].steps[0].stage), WIN_RATE], panels)
    measured = [WIN_RATE] if WIN_RATE in wanted and any(win_rates(r.evaluations) for r in found) else []
    chosen = [*with_data(wanted, [r.steps for r in found]), *measured]
    if not chosen:
        raise DataError(_nothing_drawn(found, panels))
    fig = _grid(chosen, min(columns, len(chosen)), width, title, legend=len(found) > 1)
    few = max(r.steps[-1].number for r in found) - min(r.steps[0].number for r in found) <= FEW_STEPS
    for place, panel in enumerate(chosen, 1):
        _panel(fig, place, panel, found, marks)
        fig.layout["xaxis" if place == 1 else f"xaxis{place}"].dtick = 1 if few else None  # there is no step 1.5
        if place > len(chosen) - min(columns, len(chosen)):
            fig.layout["xaxis" if place == 1 else f"xaxis{place}"].title = {"text": "step", "standoff": 2}
    return fig


def _nothing_drawn(found: Sequence[Record], panels: Sequence[str]) -> str:
    """Why no panel has data, and how a loop of one's own gets some."""
    if panels:
        return f"None of the panels {', '.join(panels)} has data; leave `panels` empty to draw all that have."
    stage, measured = found[0].steps[0].stage, ", ".join(sorted({name for r in found for s in r.steps for name in s.metrics}))
    return (
        f"No panel draws what {stage} measures ({measured or 'nothing'}); give it panels: PANELS[{stage!r}] = (Panel(key, title, ((metric, name),), "
        "reading),), from labkit.figures."
    )


def _chosen(panels: Sequence[Panel], wanted: Sequence[str]) -> list[Panel]:
    """The panels with a wanted key or metric, in their own order; all of them where nothing is wanted."""
    names = {p.key: {p.key, *(key for key, _ in p.series)} for p in panels}
    unknown = [w for w in wanted if not any(w in known for known in names.values())]
    if unknown:
        raise DataError(f"There is no panel {unknown[0]!r} here; the panels are {', '.join(names)}.")
    return [p for p in panels if not wanted or names[p.key] & set(wanted)]


def _grid(chosen: Sequence[Panel], columns: int, width: int, title: str, legend: bool) -> go.Figure:
    from plotly.subplots import make_subplots

    rows = math.ceil(len(chosen) / columns)
    top, bottom, height = 40 + 26 * bool(title) + 22 * legend, 40, 40 + 26 * bool(title) + 22 * legend + 40 + 178 * rows
    inner = height - top - bottom
    fig = make_subplots(
        rows, columns, horizontal_spacing=0.055, vertical_spacing=min(52 / inner, 0.9 / max(rows - 1, 1))
    )
    fig.update_layout(
        template=template(),
        width=width,
        height=height,
        title={"text": plain(title), "y": 1, "yanchor": "top", "pad": {"t": 10}} if title else None,
        meta="panels",
        hovermode="closest",
        margin={"l": 44, "r": 14, "t": top, "b": bottom},
        showlegend=legend,
        legend={"y": 1 + 24 / inner},
    )
    for spare in range(len(chosen) + 1, rows * columns + 1):
        _axes(fig, spare, visible=False)
    return fig


def _panel(fig: go.Figure, place: int, panel: Panel, found: Sequence[Record], marks: bool) -> None:
    axis = "" if place == 1 else str(place)
    if panel is WIN_RATE:
        _measured(fig, axis, found)
    keyed = [
        (key, label)
        for key, label in panel.series
        if any(math.isfinite(value_of(s, key)) for r in found for s in r.steps)
    ]
    for number, record in enumerate(found):
        for other, (key, label) in enumerate(keyed):
            hue = colour(number if len(found) > 1 else other)
            dash = DASHES[other % len(DASHES)] if len(found) > 1 else "solid"
            _line(fig, axis, record, key, label, hue, dash, show=place == 1 and other == 0 and len(found) > 1)
    if panel.target and any(row.get("by") == "controller" for row in found[0].ledger):  # else nobody aims at it
        _target(fig, axis, panel, found[0])
    if panel.level is not None:
        fig.add_shape(
            type="line",
            xref=f"x{axis} domain",
            yref=f"y{axis}",
            x0=0,
            x1=1,
            y0=panel.level,
            y1=panel.level,
            line={"color": QUIET, "width": 1, "dash": "dot"},
        )
    if marks:
        for number, record in enumerate(found):
            _marks(fig, axis, interventions(record), colour(number) if len(found) > 1 else INK)
    _axes(fig, place, log=panel.log and _positive(found, keyed), span=panel.span)
    if panel is WIN_RATE and len(found) == 1:
        keyed = [("win_rate", line.label) for line in win_rates(found[0].evaluations)[:_NAMED]]
    _heading(fig, axis, panel, keyed, len(found) > 1)


def _measured(fig: go.Figure, axis: str, found: Sequence[Record]) -> None:
    """Win rates as points with interval bars over the same steps as the curves; a line joins those on the same prompts."""
    steps = [s.number for r in found for s in (r.steps[0], r.steps[-1])]
    for number, record in enumerate(found):
        for other, line in enumerate(win_rates(record.evaluations)):
            steps += [point[0] for point in line.points]
            several = len(found) > 1
            _points(fig, axis, record, line, colour(number if several else other), DASHES[other % len(DASHES)] if several else "solid")
    room = 0.03 * max(1, max(steps) - min(steps))
    fig.layout[f"xaxis{axis}"].range = [min(steps) - room, max(steps) + room]


def _points(fig: go.Figure, axis: str, record: Record, line: Measured, hue: str, dash: str) -> None:
    at, rates, lows, highs = zip(*line.points, strict=True)
    fig.add_scatter(
        x=at,
        y=rates,
        error_y={
            "array": [round(high - rate, 5) for rate, high in zip(rates, highs, strict=True)],
            "arrayminus": [round(rate - low, 5) for rate, low in zip(rates, lows, strict=True)],
            "symmetric": False,
            "thickness": 1.2,
            "width": 3,
        },
        xaxis=f"x{axis}",
        yaxis=f"y{axis}",
        name=plain(record.name, 60),
        legendgroup=plain(record.name, 60),
        showlegend=False,
        mode="lines+markers",
        line={"color": hue, "dash": dash, "width": 1.8},
        marker={"color": hue, "size": 7},
        text=[f"{100 * rate:.0f} % [{100 * low:.0f}, {100 * high:.0f}] on {line.label}" for _, rate, low, high in line.points],
        hovertemplate="%{fullData.name}<br>step %{x}: win rate %{text}<extra></extra>",
    )


def _line(fig: go.Figure, axis: str, record: Record, key: str, label: str, hue: str, dash: str, show: bool) -> None:
    """One series of one run. What only some steps measured (once per epoch) is joined across the others, with a marker each."""
    points = [(s.number, v) for s in record.steps if math.isfinite(v := value_of(s, key))]
    few = len(points) <= SPARSE * len(record.steps)
    fig.add_scatter(
        x=[n for n, _ in points],
        y=[float(f"{v:.5g}") for _, v in points],
        xaxis=f"x{axis}",
        yaxis=f"y{axis}",
        name=plain(record.name, 60),
        legendgroup=plain(record.name, 60),
        showlegend=show,
        mode="lines+markers" if few else "lines" if len(points) > 1 else "markers",
        line={"color": hue, "dash": dash, "width": 1.8, "shape": "hv" if key.startswith("knob:") else "linear"},
        marker={"color": hue, "size": 8, "line": {"color": INK, "width": 1.5}} if few else {"color": hue},
        zorder=int(few),
        hovertemplate=f"%{{fullData.name}}<br>step %{{x}}: {label} %{{y:.4g}}<extra></extra>",
    )


def _target(fig: go.Figure, axis: str, panel: Panel, record: Record) -> None:
    """The dashed target, drawn only when it is near the data: a far target would flatten the curve."""
    target = [(s.number, value_of(s, panel.target)) for s in record.steps]
    top = max((v for s in record.steps for key, _ in panel.series if math.isfinite(v := value_of(s, key))), default=0)
    if target and all(math.isfinite(v) for _, v in target) and min(v for _, v in target) <= 4 * top:
        fig.add_scatter(
            x=[n for n, _ in target],
            y=[v for _, v in target],
            xaxis=f"x{axis}",
            yaxis=f"y{axis}",
            mode="lines",
            showlegend=False,
            line={"color": QUIET, "dash": "dash", "width": 1.4, "shape": "hv"},
            hovertemplate="target %{y:.4g}<extra></extra>",
        )


def _marks(fig: go.Figure, axis: str, marks: Sequence[Mark], hue: str) -> None:
    for mark in marks:
        fig.add_shape(
            type="line",
            xref=f"x{axis}",
            yref=f"y{axis} domain",
            x0=mark.step,
            x1=mark.step,
            y0=0,
            y1=1,
            line={"color": hue, "width": 1, "dash": "dot"},
            opacity=0.7,
        )
    if marks:
        fig.add_scatter(
            x=[m.step for m in marks],
            y=[0] * len(marks),
            xaxis=f"x{axis}",
            yaxis=f"y{axis}",
            mode="markers",
            showlegend=False,
            cliponaxis=False,
            marker={"symbol": "triangle-up", "size": 8, "color": hue},
            text=[plain(m.sentence) for m in marks],
            hovertemplate="%{text}<extra></extra>",
            meta="mark",
        )


def _axes(
    fig: go.Figure,
    place: int,
    *,
    visible: bool = True,
    log: bool = False,
    span: tuple[float | None, float | None] = (None, None),
) -> None:
    axis = "" if place == 1 else str(place)
    marks = [t for t in fig.data if t.meta == "mark" and (t.yaxis or "y") == f"y{axis}"]
    low, high = _range(fig, axis, log, span)
    for trace in marks:  # marks sit on the floor of their panel, wherever that is
        trace.y = [10**low if log else low] * len(trace.x)
    fig.layout[f"xaxis{axis}"].update(visible=visible, showgrid=False)
    fig.layout[f"yaxis{axis}"].update(
        visible=visible,
        type="log" if log else "linear",
        range=[low, high],
        nticks=5,
        exponentformat="e",  # a learning rate of 400µ is nobody's
    )


def _range(fig: go.Figure, axis: str, log: bool, span: tuple[float | None, float | None]) -> tuple[float, float]:
    values = [v for t in fig.data if (t.yaxis or "y") == f"y{axis}" and t.meta != "mark" for v in t.y if v is not None]
    values += [s.y0 for s in fig.layout.shapes if s.yref == f"y{axis}"]
    for t in (t for t in fig.data if t.yaxis == f"y{axis}" and t.error_y.array is not None):
        values += [y + up for y, up in zip(t.y, t.error_y.array, strict=True)]
        values += [y - down for y, down in zip(t.y, t.error_y.arrayminus, strict=True)]
    values = [math.log10(v) for v in values if v > 0] if log else values
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = 0.07 * (high - low) or 0.1 * abs(high) or (0.3 if log else 0.1)
    return (low - pad if span[0] is None else span[0], high + pad if span[1] is None else span[1])


def _positive(found: Sequence[Record], keyed: Sequence[tuple[str, str]]) -> bool:
    """A log axis is right only where all numbers are positive; β = 0 turns it linear."""
    values = [value_of(s, key) for r in found for s in r.steps for key, _ in keyed]
    return all(v > 0 for v in values if math.isfinite(v))


def _heading(fig: go.Figure, axis: str, panel: Panel, keyed: Sequence[tuple[str, str]], several: bool) -> None:
    keys = ""
    if len(keyed) > 1 and not several:
        keys = "  " + " · ".join(coloured(label, COLOURS[i]) for i, (_, label) in enumerate(keyed))
    elif len(keyed) > 1:
        keys = "  " + " · ".join(f"{label} {'─┄╌┈'[i % 4]}" for i, (_, label) in enumerate(keyed))
    x, y = fig.layout[f"xaxis{axis}"].domain, fig.layout[f"yaxis{axis}"].domain
    inner = fig.layout.height - fig.layout.margin.t - fig.layout.margin.b
    fig.add_annotation(
        text=f"<b>{panel.title}</b>{keys}",
        x=x[0],
        y=y[1] + 5 / inner,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        font={"size": 12},
        hovertext=panel.reading,
    )


def time_profile(sources: Any, *, title: str = "Where the time of a step goes", last: int = 0) -> go.Figure:
    """Stacked bars of the mean seconds per step by part (generation, scoring, ..., idle), one bar per run.

    `last` > 0 averages over that many newest steps only, which leaves the slower first steps out.
    """
    import plotly.graph_objects as go

    found = [r for r in records(sources) if len(r.steps)]
    parts = {r.name: profile(list(r.steps)[-last:]) for r in found}
    if not any(parts.values()):
        raise DataError("These steps hold no time_* metrics, so there is no time to draw.")
    fig = go.Figure()
    names = list(parts)
    for place, part in enumerate([*TIMES.values(), "idle"]):
        seconds = [parts[n].get(part, 0.0) for n in names]
        if any(s > 0 for s in seconds):
            fig.add_bar(
                x=[round(s, 5) for s in seconds],
                y=[plain(n, 60) for n in names],
                orientation="h",
                name=part,
                marker={"color": COLOURS[place % len(COLOURS)] if part != "idle" else "rgba(128,132,138,0.35)"},
                hovertemplate=f"{part}: %{{x:.3g}} s<extra></extra>",
            )
    fig.update_layout(
        template=template(),
        barmode="stack",
        title=plain(title),
        width=860,
        height=150 + 42 * len(names),
        xaxis={"title": {"text": "seconds per step"}},
        yaxis={"autorange": "reversed"},
        margin={"t": 78, "l": 120},
        showlegend=True,
    )
    return fig


def profile(steps: Sequence[Step]) -> dict[str, float]:
    """Mean seconds of an iteration by part; what its parts leave of it is idle. Empty where nothing was timed."""
    if not steps:
        return {}
    sums = {label: sum(s.metrics.get(key, 0.0) for s in steps) / len(steps) for key, label in TIMES.items()}
    idle = sum(s.metrics.get("time_total", 0.0) for s in steps) / len(steps) - sum(sums.values())
    return {k: v for k, v in {**sums, "idle": max(idle, 0.0)}.items() if v > 0}
