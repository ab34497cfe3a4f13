"""Figures of the prompts: what each step of the preparation took away, and which use cases came out beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.errors import DataError
from labkit.figures.theme import colour, plain, template

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["prompts_kept", "use_case_shares"]

_TAKEN, _PAPER = "rgba(213,94,0,0.55)", "rgba(128,132,138,0.55)"


def prompts_kept(counts: Mapping[str, int], *, title: str = "What the preparation kept") -> go.Figure:
    """Prompts left after each step, and beside them what that step took; `counts` is a preparation report's `counts`."""
    if not counts:
        raise DataError("There are no counts to draw; give `report.counts` of a preparation.")
    left = list(counts.values())
    taken = [0, *(before - after for before, after in zip(left, left[1:], strict=False))]
    names = [
        f"{plain(name, 40)} (−{gone:,})" if gone else plain(name, 40) for name, gone in zip(counts, taken, strict=True)
    ]
    series = [("kept", left, colour(0)), ("taken by this step", taken, _TAKEN)]
    return _bars(names, series, "%{x:,}", title=title, axis="prompts", barmode="stack", height=34, left=190)


def use_case_shares(
    rows: Sequence[Mapping[str, Any]], *, title: str = "Use cases, beside the paper's Table 1"
) -> go.Figure:
    """Per cent of the prompts by use case, here and in the paper; `rows` are those of `use_case_table`."""
    if not rows:
        raise DataError("There are no use cases to draw; give the rows of `use_case_table`.")
    names = [plain(row["title"] or "unknown", 40) for row in rows]
    series = [
        (label, [row[key] or 0 for row in rows], hue)
        for label, key, hue in (("here", "percent", colour(0)), ("paper (Table 1)", "paper", _PAPER))
    ]
    return _bars(names, series, "%{x:.1f} %", title=title, axis="per cent of the prompts", barmode="group", height=30, left=130)


def _bars(names, series, value, *, title, axis, barmode, height, left) -> go.Figure:
    """Horizontal bars: for each name one of each series (label, lengths, colour); `height` pixels a name, `left` for names."""
    import plotly.graph_objects as go

    fig = go.Figure()
    for label, lengths, hue in series:
        fig.add_bar(
            y=names, x=lengths, orientation="h", name=label, marker={"color": hue},
            hovertemplate=f"%{{y}}: {label} {value}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(
        template=template(), barmode=barmode, title=plain(title), width=760, height=150 + height * len(names),
        margin={"t": 78, "l": left}, xaxis={"title": {"text": axis}, "rangemode": "tozero"},
        yaxis={"autorange": "reversed", "showgrid": False}, showlegend=True,
    )  # fmt: skip
    return fig
