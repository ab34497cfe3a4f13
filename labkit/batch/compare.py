"""The comparison of a sweep: a table of every number by parameters with its spread over seeds, a figure, and a page."""

from __future__ import annotations

import base64
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import knobs
from labkit.batch.pages import duration, short, write_page
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
    """Repetitions of one experiment: its parameters without the seed, and each number once per seed."""

    parameters: Mapping[str, Any]
    numbers: Mapping[str, list[float]]

    def mean(self, name: str) -> float:
        """Mean over the seeds; nan where no run stated this number."""
        return statistics.fmean(self.numbers[name]) if self.numbers.get(name) else math.nan

    def spread(self, name: str) -> float:
        """Standard deviation over the seeds; nan for fewer than two."""
        return statistics.stdev(self.numbers[name]) if len(self.numbers.get(name, ())) > 1 else math.nan


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
    return stale(point, notebook, record.manifest["settings"]) if notebook is not None else ""


def swept(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the parameters that differ between the points, the seed left out."""
    names = [name for name in (rows[0]["parameters"] if rows else {}) if name != _SPREAD]
    return [name for name in names if len({repr(r["parameters"].get(name)) for r in rows}) > 1]


def groups(rows: Sequence[Mapping[str, Any]]) -> list[Group]:
    """The done points that still hold, gathered over seeds, in the order of their parameters; of points alike the newest."""
    names = swept(rows)
    found: dict[tuple, dict[str, list[float]]] = {}
    holding = (row for row in rows if row["status"] == "done" and not row.get("outdated"))
    done = sorted(holding, key=lambda row: row.get("ended", 0.0))
    for row in {repr(sorted(row["parameters"].items())): row for row in done}.values():
        numbers = found.setdefault(tuple(row["parameters"].get(n) for n in names), {})
        for name, value in row["summary"].items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                numbers.setdefault(name, []).append(float(value))
    ordered = sorted(found, key=lambda key: [(isinstance(v, str), v) for v in key])
    return [Group(dict(zip(names, key, strict=True)), found[key]) for key in ordered]


def comparison_table(found: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: the parameters, then each number as mean ± standard deviation over seeds, then the count."""
    names = list(found[0].parameters) if found else []
    measured = list(dict.fromkeys(n for g in found for n in g.numbers))
    rows = [
        [
            *(short(g.parameters[n]) for n in names),
            *(_mean_and_spread(g, n) for n in measured),
            str(max((len(v) for v in g.numbers.values()), default=0)),
        ]
        for g in found
    ]
    return [*names, *measured, "runs"], rows


def comparison_figure(found: Sequence[Group], *, columns: int = 3) -> go.Figure | None:
    """A panel per number over the first swept parameter, a colour per value of the others, bars for the spread.

    None where nothing was swept or nothing measured.
    """
    names = list(found[0].parameters) if found else []
    measured = list(dict.fromkeys(n for g in found for n in g.numbers))[:_MOST_PANELS]
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
        label = ", ".join(f"{n} {short(group.parameters[n])}" for n in names[1:])
        families.setdefault(label, []).append(group)
    return families


def _trace(members: Sequence[Group], x: str, name: str, label: str, number: int, axis: str) -> go.Scatter:
    import plotly.graph_objects as go

    from labkit.figures.theme import DASHES, colour, plain

    shown = [g for g in members if g.numbers.get(name)]
    spreads = [0.0 if math.isnan(g.spread(name)) else g.spread(name) for g in shown]
    places = [plain(g.parameters[x]) if axis == "category" else g.parameters[x] for g in shown]
    return go.Scatter(
        x=places,
        y=[g.mean(name) for g in shown],
        error_y={"type": "data", "array": spreads, "visible": any(spreads)},
        mode="lines+markers",
        name=plain(label),
        line={"color": colour(number), "dash": DASHES[number % len(DASHES)]},
    )


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A logarithmic axis for knobs that are turned logarithmically, categories for texts."""
    if any(isinstance(v, (str, bool)) for v in values):
        return {"type": "category"}
    logarithmic = {f.name for c in (knobs.PPOKnobs, knobs.SFTKnobs) for f in fields(c) if f.metadata["log"]}
    return {"type": "log" if name in logarithmic and min(values) > 0 else "linear"}


def _mean_and_spread(group: Group, name: str) -> str:
    mean, spread = group.mean(name), group.spread(name)
    if math.isnan(mean):
        return ""
    return f"{mean:.4g}" if math.isnan(spread) else f"{mean:.4g} ± {spread:.2g}"
