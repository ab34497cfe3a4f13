"""`labkit sweep`: a grid of parameters and seeds over one notebook, several at once, each in a run folder of its own.

    runs/<sweep>/sweep.json                       which notebook, from which base run
    runs/<sweep>/kl_coef=0.01,seed=0/...          one run folder per point of the grid
    runs/<sweep>/index.html, results.jsonl        the comparison

A point that is done and unchanged is skipped, so that the same command resumes a sweep, and a larger grid extends it.
A point whose process or kernel was killed is tried once more; one that another process is at work on is left to it.
Nothing of an earlier attempt is deleted.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.batch import records
from labkit.batch.engines import local_engine, ray_engine
from labkit.batch.notebooks import Outcome, as_prepared, resolve_parameters
from labkit.batch.parents import bring_parents
from labkit.disk import write_json
from labkit.errors import RunError, SettingsError
from labkit.runs import Run

__all__ = ["Point", "grid", "sweep"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """One point of the grid: its folder name, the parameters given for it, and all parameters with the defaults."""

    name: str
    given: Mapping[str, Any]
    parameters: Mapping[str, Any]


def grid(notebook: Path, given: Mapping[str, str], base: Run | None = None) -> list[Point]:
    """Every combination of the comma-separated values of `given`, checked; raises SettingsError on a bad one.

    What is not given is as `base` was prepared.
    """
    if "run" in given:
        raise SettingsError("A sweep names its runs itself; leave -p run=... out, and name the sweep by --name.")
    resolve_parameters(notebook, {k: v.split(",")[0].strip() for k, v in given.items()}, "check")
    prepared = as_prepared(notebook, {}, base) if base else {}
    lists = {name: [v.strip() for v in text.split(",")] for name, text in given.items()}
    points = {}
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        parameters = resolve_parameters(notebook, {**prepared, **chosen}, "check")
        typed = {name: parameters[name] for name in parameters if name in chosen}
        name = _point_name({n: chosen[n] if isinstance(v, str) else v for n, v in typed.items()})  # a folder as it was typed
        points[name] = Point(name, typed, {**parameters, "run": name})
    return list(points.values())


def sweep(
    notebook: Path,
    given: Mapping[str, str],
    *,
    name: str,
    root: Path,
    base: Run | None = None,
    jobs: int | None = None,
    ray: bool = False,
    say: Say = print,
) -> dict[str, Outcome]:
    """Run every point of the grid that is not done yet; return the outcomes of those that ran, by name of the point.

    `base` is the run whose earlier stages (and data) each point starts from. `jobs` points run at once; by default as
    many as there are GPUs, else cores. With `ray` they run as tasks of a Ray cluster that shares this folder.
    """
    points = grid(notebook, given, base)
    home = _claim(Run(name, Path(root).resolve()), notebook, base)  # a worker of a cluster stands in another folder
    todo: dict[str, str] = {}
    under_way = 0
    for point in points:
        run = Run(point.name, home.path)
        if records.record_of(run, notebook.stem).status == "running":
            under_way += 1
            say(f"{point.name} is being run by another process, and is left to it (labkit close, where that process is gone for good).")
            continue
        if base:
            bring_parents(base, run, notebook, seed=point.parameters.get("seed"))
        if why := records.stale(run, notebook, point.parameters):
            todo[point.name] = why
    beside = f"{under_way} under way elsewhere, " if under_way else ""
    say(f"{home.path}: {len(points)} points, {len(points) - under_way - len(todo)} done, {beside}{len(todo)} to run.")
    tasks = [(notebook, Run(p.name, home.path), dict(p.given)) for p in points if p.name in todo]
    return (ray_engine if ray else local_engine)(tasks, jobs, say) if tasks else {}


def _claim(home: Run, notebook: Path, base: Run | None) -> Run:
    """Make the sweep's folder, or make sure that the one there belongs to the same notebook and base."""
    file = home.path / "sweep.json"
    mine = {"notebook": notebook.stem, "base": base.name if base else None}
    if file.exists():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found != mine:
            raise RunError(
                f"{home.path} is a sweep over {found['notebook']} from {found['base']}, not over {mine['notebook']} "
                f"from {mine['base']}; choose another --name."
            )
    elif home.path.exists() and any(home.path.iterdir()):
        raise RunError(f"{home.path} exists and is no sweep; choose another --name.")
    else:
        write_json(file, mine)
    return home


def _point_name(values: Mapping[str, Any]) -> str:
    """A folder name such as "kl_coef=0.01,seed=0"; one that would not fit or would lose something ends in a hash."""
    full = ",".join(f"{name}={value}" for name, value in values.items()) or "defaults"
    safe = re.sub(r"[^A-Za-z0-9._@+=,-]|\.\.", "-", full)[:100]
    return safe if safe == full else f"{safe}-{hashlib.sha256(full.encode()).hexdigest()[:8]}"
