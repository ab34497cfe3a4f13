"""One figure on its way to matplotlib: axes, limits, shapes, annotations, legend and title."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import DataError
from labkit.figures.png.traces import bars, heatmap, scatter
from labkit.figures.png.words import DASH, log_axis, rgba, words

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Page"]

_PIECE = re.compile(r'<span style="color:([^"]+)">(.*?)</span>|<b>(.*?)</b>', re.S)


class Page:
    """A plotly figure's axes by their names, laid out as plotly does, inside the figure's margins."""

    def __init__(self, fig: go.Figure, canvas: Any, width: float, height: float) -> None:
        self.fig, self.layout, self.canvas = fig, fig.layout, canvas
        self.size = (width, height)
        m, d = fig.layout.margin, fig.layout.template.layout.margin
        left, right, top, bottom = (
            getattr(m, s) if getattr(m, s) is not None else (getattr(d, s) or 40) for s in ("l", "r", "t", "b")
        )
        self.area = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
        self.axes: dict[tuple[str, str], Any] = {}
        self.bars: dict[tuple[str, str], list[Any]] = {}
        self.legend: dict[str, Any] = {}
        self.ink = fig.layout.template.layout.font.color or "#777777"

    def axis(self, x: str, y: str) -> Any:
        """The matplotlib axes for plotly's pair (such as x2, y2), made on first use."""
        if (x, y) not in self.axes:
            ax_x, ax_y = self.layout["xaxis" + x[1:]], self.layout["yaxis" + y[1:]]
            dx, dy = ax_x.domain or (0, 1), ax_y.domain or (0, 1)
            left, bottom, w, h = self.area
            axes = self.canvas.add_axes(
                (left + dx[0] * w, bottom + dy[0] * h, (dx[1] - dx[0]) * w, (dy[1] - dy[0]) * h)
            )
            axes.patch.set_alpha(0)
            self._style(axes, ax_x, ax_y)
            self.axes[x, y] = axes
        return self.axes[x, y]

    def _style(self, axes: Any, ax_x: Any, ax_y: Any) -> None:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(rgba("rgba(128,132,138,0.55)"))
        axes.tick_params(which="both", colors=self.ink, labelsize=8.5, length=2.5, width=0.6)
        axes.grid(True, color=rgba("rgba(128,132,138,0.20)"), linewidth=0.6)
        axes.set_axisbelow(True)
        for which, spec in (("x", ax_x), ("y", ax_y)):
            if spec.type == "log":
                log_axis(axes, which)
            if spec.title.text:
                getattr(axes, f"set_{which}label")(words(spec.title.text), color=self.ink, fontsize=9, parse_math=False)
            if spec.visible is False:
                getattr(axes, f"{which}axis").set_visible(False)
            if spec.showgrid is False:
                getattr(axes, f"{which}axis").grid(False)

    def trace(self, trace: Any) -> None:
        """Draw one trace; bars of a subplot wait until all are known."""
        if trace.visible in (False, "legendonly"):
            return
        if trace.type not in ("scatter", "bar", "heatmap"):
            raise DataError(f"The PNG twin cannot draw a {trace.type!r} trace; use scatter, bar or heatmap.")
        pair = (trace.xaxis or "x", trace.yaxis or "y")
        axes = self.axis(*pair)
        if trace.type == "scatter":
            scatter(self, trace, axes)
        elif trace.type == "bar":
            self.bars.setdefault(pair, []).append(trace)
        else:
            heatmap(self, trace, axes)

    def key(self, trace: Any, artist: Any) -> None:
        """Remember a trace for the legend, where it wants to be there."""
        if artist is not None and trace.showlegend is not False and trace.name and self.layout.showlegend is not False:
            self.legend.setdefault(words(trace.name), artist)

    def finish(self) -> None:
        """Bars, limits, shapes, annotations, legend and title: what must come after all traces."""
        for pair, traces in self.bars.items():
            bars(self, traces, self.axes[pair])
        for (x, y), axes in self.axes.items():
            self._limits(axes, self.layout["xaxis" + x[1:]], self.layout["yaxis" + y[1:]])
        for shape in self.layout.shapes:
            self._shape(shape)
        for note in self.layout.annotations:
            self._annotation(note)
        self._legend()
        if self.layout.title.text:
            self._rich(self.layout.title.text, 8 / self.size[0], 1 - 8 / self.size[1], 11.5, "left", "top")

    def _legend(self) -> None:
        if len(self.legend) < 2 and not (self.legend and self.layout.showlegend):
            return
        left, bottom, _, h = self.area
        key = self.canvas.legend(
            self.legend.values(),
            self.legend.keys(),
            loc="lower left",
            bbox_to_anchor=(left, bottom + h + 0.012 + (24 / self.size[1] if self.layout.meta == "panels" else 0)),
            ncols=self._columns(),
            frameon=False,
            fontsize=9,
            labelcolor=self.ink,
            borderaxespad=0,
            handlelength=1.6,
        )
        for label in key.get_texts():
            label.set_parse_math(False)

    def _columns(self) -> int:
        """How many legend entries fit side by side."""
        longest = max(len(name) for name in self.legend)
        return max(1, min(len(self.legend), 6, int(self.size[0] * self.area[2] / (5.6 * longest + 46))))

    def _limits(self, axes: Any, ax_x: Any, ax_y: Any) -> None:
        for spec, which in ((ax_x, "x"), (ax_y, "y")):
            if spec.range is not None and spec.type != "category":
                low, high = (10.0 ** np.array(spec.range, float)) if spec.type == "log" else spec.range
                getattr(axes, f"set_{which}lim")(low, high)
            elif spec.autorange == "reversed":
                getattr(axes, f"invert_{which}axis")()
            if spec.tickvals is not None:
                labels = spec.ticktext if spec.ticktext is not None else spec.tickvals
                getattr(axes, f"set_{which}ticks")(list(spec.tickvals), [words(v) for v in labels], parse_math=False)
            if spec.dtick is not None:
                from matplotlib.ticker import MultipleLocator

                getattr(axes, f"{which}axis").set_major_locator(MultipleLocator(spec.dtick))
            if spec.showticklabels is False:
                axes.tick_params(axis=which, **{"labelleft" if which == "y" else "labelbottom": False})

    def _shape(self, s: Any) -> None:
        x, y = (s.xref or "x").split(" ")[0], (s.yref or "y").split(" ")[0]
        axes = self.axis(x if x != "paper" else "x", y if y != "paper" else "y")
        tx = axes.transAxes if "domain" in (s.xref or "") or x == "paper" else axes.transData
        ty = axes.transAxes if "domain" in (s.yref or "") or y == "paper" else axes.transData
        from matplotlib.transforms import blended_transform_factory

        place = {"transform": blended_transform_factory(tx, ty), "zorder": 1}
        if s.type == "rect":
            from matplotlib.patches import Rectangle

            axes.add_patch(
                Rectangle(
                    (s.x0, s.y0),
                    s.x1 - s.x0,
                    s.y1 - s.y0,
                    facecolor=rgba(s.fillcolor or "rgba(0,0,0,0)"),
                    linewidth=0,
                    **place,
                )
            )
        else:
            axes.plot(
                [s.x0, s.x1],
                [s.y0, s.y1],
                DASH.get(s.line.dash or "solid", "-"),
                color=rgba(s.line.color),
                linewidth=(s.line.width or 1) * 0.8,
                scalex=False,
                scaley=False,
                **place,
            )

    def _annotation(self, a: Any) -> None:
        left, bottom, w, h = self.area
        across, up = a.xanchor or "center", {"middle": "center"}.get(a.yanchor or "middle", a.yanchor or "center")
        across = "center" if across == "auto" else across
        if a.xref == "paper" and a.yref == "paper":
            self._rich(a.text, left + a.x * w, bottom + a.y * h, (a.font.size or 12) * 0.85, across, up)
            return
        axes = self.axis((a.xref or "x").split(" ")[0], (a.yref or "y").split(" ")[0])
        axes.annotate(
            words(a.text),
            (a.x, a.y),
            xytext=(a.xshift or 0, a.yshift or 0),
            textcoords="offset points",
            fontsize=8,
            color=rgba(a.font.color or self.ink),
            ha=across,
            va=up,
            parse_math=False,
        )

    def _rich(self, text: str, x: float, y: float, size: float, across: str, up: str) -> None:
        """Text with coloured and bold pieces, at a place given as a fraction of the figure."""
        from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea

        pieces, at = [], 0
        for found in _PIECE.finditer(text):
            pieces += [
                (text[at : found.start()], self.ink, False),
                (found[2] or found[3], found[1] or self.ink, bool(found[3])),
            ]
            at = found.end()
        pieces.append((text[at:], self.ink, False))
        areas = [
            TextArea(
                words(t),
                textprops={
                    "color": rgba(c),
                    "fontsize": size,
                    "fontweight": "bold" if b else "normal",
                    "parse_math": False,
                },
            )
            for t, c, b in pieces
            if t
        ]
        if not areas:
            return
        box = HPacker(children=areas, pad=0, sep=0, align="baseline")
        corner = {"top": "upper", "bottom": "lower", "center": "center"}[up]
        where = {("center", "center"): "center"}.get((corner, across), f"{corner} {across}")
        self.canvas.add_artist(
            AnchoredOffsetbox(
                where,
                child=box,
                frameon=False,
                pad=0,
                borderpad=0,
                bbox_to_anchor=(x, y),
                bbox_transform=self.canvas.transFigure,
            )
        )
