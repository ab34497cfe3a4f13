"""Figures 28 and 29: the benchmarks by step while PPO and PPO-ptx train, beside what the pretrained model reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labkit.findings.drawing import HEAD, checked, half, in_words
from labkit.findings.evidence import BySeed, Interval, interval
from labkit.findings.records import Missing, Record, Records
from labkit.world.benchmarks import TAX_BENCHMARKS

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["STANDS_FOR", "at_step", "tax_by_step"]

MEAN = "mean of four"
PANELS = (MEAN, *TAX_BENCHMARKS)
STANDS_FOR = {"reading": "SQuAD", "counting": "DROP", "continuation": "HellaSwag", "translation": "WMT 15"}


def tax_by_step(
    records: Records, stages: Sequence[str] = ("ppo", "ppo_ptx"), title: str = "", sizes: Sequence[str] = ()
) -> go.Figure:
    """A panel per benchmark, a line per stage: means over sizes by seed, with intervals over seeds; dotted: GPT."""
    from plotly.subplots import make_subplots

    from labkit.figures.theme import QUIET, colour, plain, template

    heads = [f"{p} ({STANDS_FOR[p]})" if p in STANDS_FOR else p for p in PANELS]
    fig = make_subplots(1, len(PANELS), subplot_titles=heads, horizontal_spacing=0.045)
    for column, panel in enumerate(PANELS, 1):
        names = TAX_BENCHMARKS if panel == MEAN else (panel,)
        for place, stage in enumerate(stages):
            _curve(fig, _points(records, stage, names, sizes), in_words(stage), colour(place), column)
        gpt = interval(list(records.over_seeds(lambda r, n=names: r.benchmark("base", *n), sizes).values()))
        if gpt.seeds:
            fig.add_hline(y=gpt.value, line={"color": QUIET, "dash": "dot", "width": 1.2}, row=1, col=column)
    fig.update_xaxes(title={"text": "step"})
    fig.update_yaxes(rangemode="tozero")
    title = plain(title or "Benchmarks while PPO and PPO-ptx train (dotted: GPT)")
    fig.update_layout(template=template(), title=title, width=1180, height=400, margin={"t": 104}, meta="panels")
    fig.update_layout(title={"y": 1, "yanchor": "top", "pad": {"t": 10}}, legend={"y": 1.1})  # above the headings
    fig.update_annotations(font={"size": HEAD})
    return checked(fig)


def at_step(record: Record, stage: str, step: int, names: Sequence[str]) -> float:
    """Mean of these benchmarks of a stage's policy at one of the steps at which it was asked."""
    for row in record.by_step(stage):
        if row["step"] == step:
            return sum(row[n] for n in names) / len(names)
    raise Missing(f"{stage} of {record.run.name} was not asked at step {step}.")


def _points(records: Records, stage: str, names: Sequence[str], sizes: Sequence[str]) -> dict[int, Interval]:
    """step -> interval over seeds, for the steps at which the first cell that has the stage was asked."""
    steps: set[int] = set()
    for record in records.cells.values():
        try:
            steps |= {row["step"] for row in record.by_step(stage)}
        except Missing:
            continue
    found: dict[int, BySeed] = {
        step: records.over_seeds(lambda r, step=step: at_step(r, stage, step, names), sizes) for step in sorted(steps)
    }
    return {step: interval(list(values.values())) for step, values in found.items() if values}


def _curve(fig: go.Figure, points: dict[int, Interval], name: str, hue: str, column: int) -> None:
    fig.add_scatter(
        x=list(points),
        y=[i.value for i in points.values()],
        name=name,
        legendgroup=name,
        showlegend=column == 1,
        mode="lines+markers",
        line={"color": hue, "width": 1.8},
        marker={"size": 7, "color": hue},
        error_y={"type": "data", "array": [half(i) for i in points.values()], "color": hue, "thickness": 1},
        row=1,
        col=column,
    )
