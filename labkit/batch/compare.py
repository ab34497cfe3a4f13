"""The comparison of a sweep: a table of every number by parameters with its spread over seeds, a figure, and a page."""

from __future__ import annotations

import base64
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import knobs
from labkit.batch.pages import duration, short, write_page
from labkit.batch.parameters import read_parameters
from labkit.batch.parents import changed_since
from labkit.batch.records import stale
from labkit.disk import write_jsonl
from labkit.errors import RunError
from labkit.runs import Run, StageFolder

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Group", "comparison_figure", "comparison_table", "groups", "results", "write_comparison"]

_SPREAD = "seed"  # runs that differ in this alone are repetitions of one experiment
_MOST_PANELS = 12


@dataclass(frozen=True)
class Group:
    """Repetitions of one experiment: its parameters without the seed (None: not there), and each finite number once per seed."""

    parameters: Mapping[str, Any]
    numbers: Mapping[str, list[float]]
    runs: int = 1
    diverged: Mapping[str, int] = field(default_factory=dict)  # how many runs state a number that is not finite

    def mean(self, name: str) -> float:
        """Mean over the seeds; nan where no run stated this number."""
        return statistics.fmean(self.numbers[name]) if self.numbers.get(name) else math.nan

    def spread(self, name: str) -> float:
        """Standard deviation over the seeds; nan for fewer than two."""
        return statistics.stdev(self.numbers[name]) if len(self.numbers.get(name, ())) > 1 else math.nan

    def left_out(self, name: str) -> str:
        """What mean and spread of a number leave out, such as "1 of 3 not finite"; empty where every run is in them."""
        diverged = self.diverged.get(name, 0)
        silent = self.runs - diverged - len(self.numbers.get(name, ()))
        counts = ((diverged, "not finite"), (silent, "not stated"))
        return ", ".join(f"{n} of {self.runs} {what}" for n, what in counts if n > 0)


def results(folder: Path, notebook: Path | None = None) -> list[dict[str, Any]]:
    """One row per point of the sweep in `folder`: name, status, error, parameters, summary, minutes, log, outdated.

    outdated says why a done point no longer holds, as where the base run has changed since a smaller grid was made of
    it; `notebook`, the file itself, lets a change of its code be seen as well.
    """
    file = folder / "sweep.json"
    if not file.is_file():
        raise RunError(f"{folder} is no sweep; start one with labkit sweep, or check the name.")
    told = json.loads(file.read_text(encoding="utf-8"))
    base = Run(told["base"], folder.parent) if told.get("base") else None
    rows = []
    for path in sorted(folder.glob(f"*/notebooks/{told['notebook']}/run.json")):
        record = StageFolder(path.parent)
        point = Run(path.parents[2].name, folder)
        manifest = record.manifest
        rows.append(
            {
                "point": point.name,
                "status": record.status,
                "error": manifest.get("error"),
                "outdated": _outdated(record, point, base, notebook),
                "parameters": {k: v for k, v in manifest["settings"].items() if k != "run"},
                "ended": manifest.get("ended") or 0.0,
                "summary": manifest.get("summary") or {},
                "minutes": duration(manifest),
                "notebook": f"{point.name}/notebooks/{told['notebook']}.ipynb",
                "log": f"{point.name}/notebooks/{told['notebook']}/log.txt",
            }
        )
    return rows


def _outdated(record: StageFolder, point: Run, base: Run | None, notebook: Path | None) -> str:
    """Why a done point's numbers are of something that is there no more; empty where they hold."""
    if record.status != "done":
        return ""
    if base is not None and (changed := changed_since(base, point)):
        return f"{', '.join(changed)} of {base.name} changed"
    if notebook is None:
        return ""
    settings = record.manifest["settings"]
    if turned := sorted(set(settings) ^ set(read_parameters(notebook))):
        return f"the notebook has other parameters now: {', '.join(turned)}"
    return stale(point, notebook, settings)


def swept(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the parameters that differ between the points, or that only some of them have; the seed left out."""
    names = dict.fromkeys(name for row in rows for name in row["parameters"] if name != _SPREAD)
    return [name for name in names if len({repr(r["parameters"].get(name)) for r in rows}) > 1]


def groups(rows: Sequence[Mapping[str, Any]]) -> list[Group]:
    """The done points that still hold, gathered over seeds, in the order of their parameters; of points alike the newest."""
    holding = [row for row in rows if row["status"] == "done" and not row.get("outdated")]
    names = swept(holding)
    done = sorted(holding, key=lambda row: row.get("ended", 0.0))
    found: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in {repr(sorted(row["parameters"].items())): row for row in done}.values():
        found.setdefault(tuple(row["parameters"].get(n) for n in names), []).append(row["summary"])
    ordered = sorted(found, key=lambda key: [(2, 0) if v is None else (isinstance(v, str), v) for v in key])
    return [_group(dict(zip(names, key, strict=True)), found[key]) for key in ordered]


def _group(parameters: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]]) -> Group:
    numbers: dict[str, list[float]] = {}
    diverged: dict[str, int] = {}
    for summary in summaries:
        for name, value in summary.items():
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                continue
            if math.isfinite(value):
                numbers.setdefault(name, []).append(float(value))
            else:
                diverged[name] = diverged.get(name, 0) + 1
    return Group(parameters, numbers, len(summaries), diverged)


def _measured(found: Sequence[Group]) -> list[str]:
    """Names of the numbers that any of the groups states, finite or not."""
    return list(dict.fromkeys(name for group in found for name in (*group.numbers, *group.diverged)))


def comparison_table(found: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the parameters, then each number as mean ± standard deviation over seeds, then how many runs.

    A number that some of the runs do not state, or state as not finite, says so beside its mean.
    """
    names, measured = list(found[0].parameters) if found else [], _measured(found)
    rows = [
        [*(_value(g.parameters[n]) for n in names), *(_mean_and_spread(g, n) for n in measured), str(g.runs)]
        for g in found
    ]
    return [*names, *measured, "runs"], rows


def comparison_figure(found: Sequence[Group], *, columns: int = 3) -> go.Figure | None:
    """A panel per number over the first swept parameter, a colour per value of the others, bars for the spread.

    What a mean leaves out (seeds that diverged) is written above its place. None where nothing was swept or nothing measured.
    """
    names = list(found[0].parameters) if found else []
    measured = [n for n in _measured(found) if any(g.numbers.get(n) for g in found)][:_MOST_PANELS]
    if not names or not measured:
        return None
    from plotly.subplots import make_subplots

    from labkit.figures.theme import plain, template

    columns = min(columns, len(measured))
    lines = -(-len(measured) // columns)
    fig = make_subplots(lines, columns, vertical_spacing=0.3 / lines, horizontal_spacing=0.25 / columns)
    axis = _axis(names[0], [g.parameters[names[0]] for g in found])
    for place, name in enumerate(measured):
        row, column = place // columns + 1, place % columns + 1
        for number, (label, members) in enumerate(_families(found, names).items()):
            trace = _trace(members, names[0], name, label, number, axis["type"])
            fig.add_trace(trace.update(showlegend=place == 0 and bool(label)), row, column)
        for note in _notes(found, names[0], name, axis["type"]):
            fig.add_annotation(**note, row=row, col=column)
        fig.update_xaxes(title_text=plain(names[0]), row=row, col=column, **axis)
        fig.update_yaxes(title_text=plain(name), row=row, col=column)
    fig.update_layout(template=template(), width=1080, height=90 + 230 * lines, margin={"t": 40, "b": 50})
    return fig


def write_comparison(folder: Path, notebook: Path | None = None) -> Path:
    """Write index.html and results.jsonl of the sweep in `folder`, and a model sheet per point; return the page.

    notebook: as for `results`.
    """
    from labkit.figures import bundle

    rows = [{**row, "sheet": _sheet(folder, row["point"])} for row in results(folder, notebook)]
    write_jsonl(folder / "results.jsonl", rows)
    found = groups(rows)
    header, body = comparison_table(found)
    fig = comparison_figure(found)
    picture = bundle(fig)["image/png"] if fig is not None else ""
    if picture:
        (folder / "comparison.png").write_bytes(base64.b64decode(picture))
    return write_page(
        folder / "index.html",
        "sweep.html",
        title=f"Sweep {folder.name}",
        header=header,
        body=body,
        picture=picture,
        points=[{**r, "given": ", ".join(f"{k} {short(v)}" for k, v in r["parameters"].items())} for r in rows],
    )


def _sheet(folder: Path, point: str) -> str:
    """Where the model sheet of a point lies, seen from the comparison; empty where the point has no stage to show."""
    from labkit.batch.sheet import write_sheet

    run = Run(point, folder)
    return str(write_sheet(run).relative_to(folder)) if run.stages() else ""


def _families(found: Sequence[Group], names: Sequence[str]) -> dict[str, list[Group]]:
    """The groups that one line joins: those that differ in the first parameter only."""
    families: dict[str, list[Group]] = {}
    for group in found:
        label = ", ".join(f"{n} {_value(group.parameters[n])}" for n in names[1:])
        families.setdefault(label, []).append(group)
    return families


def _trace(members: Sequence[Group], x: str, name: str, label: str, number: int, axis: str) -> go.Scatter:
    import plotly.graph_objects as go

    from labkit.figures.theme import DASHES, colour, plain

    shown = [g for g in members if g.numbers.get(name)]
    spreads = [0.0 if math.isnan(g.spread(name)) else g.spread(name) for g in shown]
    places = [_place(g, x, axis) for g in shown]
    return go.Scatter(
        x=places,
        y=[g.mean(name) for g in shown],
        error_y={"type": "data", "array": spreads, "visible": any(spreads)},
        mode="lines+markers",
        name=plain(label),
        line={"color": colour(number), "dash": DASHES[number % len(DASHES)]},
    )


def _notes(found: Sequence[Group], x: str, name: str, axis: str) -> list[dict[str, Any]]:
    """What the means of a panel leave out, each above its place; one line per place."""
    told: dict[Any, str] = {}
    for group in found:
        if said := group.left_out(name):
            place = _place(group, x, axis)
            place = math.log10(place) if axis == "log" else place  # where an annotation lies on such an axis
            told[place] = f"{told[place]}<br>{said}" if place in told else said
    look = {"yref": "y domain", "y": 1.0, "yanchor": "bottom", "showarrow": False, "font": {"size": 10}}
    return [{"x": place, "text": text, **look} for place, text in told.items()]


def _place(group: Group, x: str, axis: str) -> Any:
    """Where a group stands on the axis of parameter `x`."""
    from labkit.figures.theme import plain

    return plain(_value(group.parameters[x])) if axis == "category" else group.parameters[x]


def _value(value: Any) -> str:
    """A parameter's value as text; that of a point whose notebook did not have the parameter yet is said to be missing."""
    return "not there" if value is None else short(value)


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A logarithmic axis for knobs that are turned logarithmically, categories for texts and where a value is missing."""
    if any(v is None or isinstance(v, (str, bool)) for v in values):
        return {"type": "category"}
    logarithmic = {f.name for c in (knobs.PPOKnobs, knobs.SFTKnobs) for f in fields(c) if f.metadata["log"]}
    return {"type": "log" if name in logarithmic and min(values) > 0 else "linear"}


def _mean_and_spread(group: Group, name: str) -> str:
    mean, spread, left_out = group.mean(name), group.spread(name), group.left_out(name)
    if math.isnan(mean):
        return left_out
    said = f"{mean:.4g}" if math.isnan(spread) else f"{mean:.4g} ± {spread:.2g}"
    return f"{said} ({left_out})" if left_out else said
