"""What the figures of the findings are drawn with: the paper's names of models, bars and lines with intervals over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.errors import DataError
from labkit.findings.evidence import interval
from labkit.findings.records import Record, Records

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["HEAD", "NAMES", "bars", "checked", "dots", "half", "in_words", "level", "mean_line", "new_figure", "upright"]

NAMES = {
    "base": "GPT",
    "few-shot": "GPT prompted",
    "sft": "SFT",
    "ppo_init": "PPO init",
    "ppo": "PPO",
    "ppo_ptx": "PPO-ptx",
}
SWEPT = {"beta": "β = ", "gamma": "γ of the preset times ", "lr": "learning rate of the preset times "}
VARIANTS = {"longer": "trained twice as long", "nomix": "from the unmixed init", "ensemble": "with three judges"}
HEAD = 12  # letters of a panel's heading: smaller than the figure's title, and no wider than the panel


def in_words(stage: str) -> str:
    """A model or a variant of the plan by the paper's name: "ppo-beta=0.5" is "PPO at β = 0.5"."""
    kind, _, variant = stage.partition("-") if stage not in NAMES else (stage, "", "")
    name, _, number = variant.partition("=")
    if name in SWEPT:
        return f"{NAMES[kind]} at {SWEPT[name]}{number.removeprefix('x')}"
    return f"{NAMES[kind]} {VARIANTS[name]}" if name in VARIANTS else NAMES.get(stage, stage)


def new_figure(title: str, *, height: int, left: int = 70) -> go.Figure:
    """An empty figure in the findings' look; height and left margin in pixels."""
    import plotly.graph_objects as go

    from labkit.figures.theme import plain, template

    fig = go.Figure()
    fig.update_layout(
        template=template(), title=plain(title), width=900, height=height, margin={"t": 90, "l": left}, showlegend=True
    )
    return fig


def bars(
    title: str,
    kinds: Mapping[str, Callable[[Record, str], float]],
    records: Records,
    models: Sequence[str],
    axis: str,
    sizes: Sequence[str] = (),
) -> go.Figure:
    """Groups of bars, one group per kind, one bar per model, with intervals over seeds."""
    from labkit.figures.theme import INK, colour

    fig = new_figure(title, height=400)
    for place, model in enumerate(models):
        found = [
            interval(list(records.over_seeds(lambda r, v=v, m=model: v(r, m), sizes).values())) for v in kinds.values()
        ]
        shown = [(k, i) for k, i in zip(kinds, found, strict=True) if i.seeds]
        fig.add_bar(
            x=[k for k, _ in shown],
            y=[i.value for _, i in shown],
            name=NAMES.get(model, model),
            marker={"color": colour(place)},
            error_y={"type": "data", "array": [half(i) for _, i in shown], "color": INK},
        )
    fig.update_layout(barmode="group", yaxis={"title": {"text": axis}}, xaxis={"type": "category"})
    return checked(fig)


def mean_line(
    fig: go.Figure,
    name: str,
    points: Mapping[Any, Mapping[int, float]],
    place: int,
    dash: str,
) -> None:
    """A line through means over seeds, with intervals."""
    from labkit.figures.theme import colour

    found = {x: interval(list(values.values())) for x, values in points.items()}
    found = {x: i for x, i in sorted(found.items(), key=lambda item: list(points).index(item[0])) if i.seeds}
    hue = colour(place)
    error = {"type": "data", "array": [half(i) for i in found.values()], "color": hue, "thickness": 1}
    fig.add_scatter(
        x=list(found),
        y=[i.value for i in found.values()],
        name=name,
        mode="lines+markers",
        line={"color": hue, "dash": dash, "width": 1.8},
        marker={"size": 7, "color": hue},
        error_y=error,
    )


def upright(fig: go.Figure, x: Sequence[Any], found: Sequence[Any], hue: str, column: int) -> None:
    """A line with upright intervals in one panel."""
    fig.add_scatter(
        x=list(x),
        y=[i.value for i in found],
        mode="lines+markers",
        line={"color": hue, "width": 1.8},
        marker={"size": 7, "color": hue},
        error_y={"type": "data", "array": [half(i) for i in found], "color": hue, "thickness": 1},
        row=1,
        col=column,
    )


def dots(fig: go.Figure, found: Sequence[Any], places: Sequence[float], hue: str, name: str) -> None:
    """Dots with level intervals, at these places from top to bottom."""
    fig.add_scatter(
        x=[i.value for i in found],
        y=list(places),
        mode="markers",
        name=name,
        marker={"size": 10, "color": hue},
        line={"color": hue},
        error_x={"type": "data", "array": [half(i) for i in found], "color": hue},
    )


def half(found: Any) -> float:
    """Half the width of an interval; 0 where there is none."""
    return 0.0 if found.high is None else found.high - found.value


def checked(fig: go.Figure) -> go.Figure:
    """The figure, if anything is drawn in it."""
    if not any(t.x is not None and len(t.x) for t in fig.data):
        raise DataError("Nothing was recorded for this figure yet; run labkit findings first.")
    return fig


def level(fig: go.Figure, found: Any, dash: str, place: int) -> None:
    """A level line through one panel, at the mean of a model."""
    from labkit.figures.theme import QUIET

    if found.seeds:
        axes = {"xref": f"x{place if place > 1 else ''} domain", "yref": f"y{place if place > 1 else ''}"}
        line = {"color": QUIET, "dash": dash, "width": 1.2}
        fig.add_shape(type="line", x0=0, x1=1, y0=found.value, y1=found.value, line=line, **axes)
