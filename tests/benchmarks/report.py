"""Results as JSON with date, hardware and versions, as a table in Markdown, and as a figure of cost against size."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from tests.benchmarks.fits import UNITS, points_of

__all__ = ["environment", "figure", "save", "table"]

PACKAGES = ("torch", "transformers", "trl", "accelerate", "tokenizers")
PER = {"tokens": (1e6, "µs a token"), "operations": (1e12, "ps an operation")}  # how a slope is printed


def environment(device: str = "cpu", threads: int = 1) -> dict[str, Any]:
    """When and on what: enough to judge whether two results compare."""
    import torch

    facts = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "threads": threads,
        "python": platform.python_version(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,  # programs that compete for the cores
        "cores": os.cpu_count(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def save(results: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return path


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: one row per contest, then phases and floors, ablations and line fits."""
    facts = results["environment"]
    load = f", load {facts['load']:.1f} on {facts['cores']} cores" if facts.get("load") is not None else ""
    lines = [
        f"## {facts['date'][:10]}: {facts.get('gpu') or facts['processor']}, {facts['threads']} thread(s){load}",
        "",
        ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + ".",
        "Ratios are peer over lab, by round: median (least to most). Above 1 the lab is faster.",
        "",
        "| measure | lab | peer | ratio |",
        "|---|---|---|---|",
    ]
    found = {name: result for name, result in results.items() if isinstance(result, dict)}
    lines += [_row(name, result) for name, result in found.items() if "lab" in result]
    for name, result in found.items():
        if "floor" in result:
            lines += ["", f"### {name}: seconds of a round", "", *_phases(result)]
        lines += _remarks(name, result)
        if "fits" in result:
            lines += ["", f"### {name}", "", *_fits(result)]
        if "tricks" in result:
            lines += ["", f"### {name}", "", *_tricks(result)]
    return "\n".join(lines) + "\n"


def _remarks(name: str, result: dict[str, Any]) -> list[str]:
    """A sentence for each number that is no ratio to a peer."""
    said = []
    if "failed" in result:
        said.append(f"failed: {_shortly(result['failed'])}")
    if "peer failed" in result:
        said.append(f"the peer failed, so the lab ran alone: {_shortly(result['peer failed'])}")
    if "share" in result:
        said.append(f"the pretraining gradient costs {_spread(result['share'])} of the rest of the iteration.")
    if "overhead" in result:
        said.append(f"on the same batches the lab takes {_spread(result['overhead'])} of TRL's trainer's time.")
    if "left out" in result:
        said.append(f"left out: {result['left out']}")
    return [line for text in said for line in ("", f"{name}: {text}")]


def _shortly(error: str) -> str:
    """How a contestant ended, and its very last words; the JSON has the rest."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return " ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))


def _fits(result: dict[str, Any]) -> list[str]:
    """Whether cost is linear: slope, intercept and R² of the line through each series."""
    lines = ["| varied | size | slope | intercept, s | R² |", "|---|---|---|---|---|"]
    for varied, fit in result["fits"].items():
        factor, unit = PER[fit["unit"]]
        lines.append(
            f"| {varied} | {fit['unit']} | {fit['slope'] * factor:.1f} {unit} | {fit['intercept']:.2f} | {fit['r2']:.4f} |"
        )
    return lines


def _tricks(result: dict[str, Any]) -> list[str]:
    """What each trick gave: time of its part and of the whole rollout without it, over the time with it."""
    lines = ["| trick | its part without it | rollout without it |", "|---|---|---|"]
    return lines + [
        f"| {name} | {_spread(row['part'])} | {_spread(row['whole'])} |" for name, row in result["tricks"].items()
    ]


def figure(cost: dict[str, Any], path: Path) -> Path:
    """Cost of an iteration against response length and batch (in tokens) and model size (in operations), as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    board, axes = plt.subplots(1, len(UNITS), figsize=(12, 3.6), layout="constrained")
    for axis, (varied, unit) in zip(axes, UNITS.items(), strict=True):
        x, y = zip(*points_of(cost["rows"], varied), strict=True)
        fit = cost["fits"][varied]
        axis.plot(x, y, "o", label="measured")
        axis.plot(
            (0, max(x)),
            [fit["intercept"] + fit["slope"] * a for a in (0, max(x))],
            "--",
            label=f"line, R² {fit['r2']:.3f}",
        )
        axis.set(
            title=f"varied: {varied}",
            xlabel=f"{unit} of an iteration",
            ylabel="seconds",
            xlim=(0, None),
            ylim=(0, None),
        )
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    board.savefig(path, dpi=110)
    plt.close(board)
    return path


def _row(name: str, result: dict[str, Any]) -> str:
    peer = _peer(result)
    unit = next(k for k in result["lab"] if k.endswith("_per_second"))
    cells = [_amount(result[who][unit]) if who else "not measured" for who in ("lab", peer)]
    ratio = _spread(result["ratio"]) if "ratio" in result else ""
    return f"| {name} ({unit.replace('_', ' ')}) | {cells[0]} | {cells[1]} | {ratio} |"


def _phases(result: dict[str, Any]) -> list[str]:
    floor, other = result["floor"]["phases"], _peer(result)
    lines = ["| phase | floor | lab | peer | ratio |", "|---|---|---|---|---|"]
    for phase, least in floor.items():
        peer = f"{result[other]['phases'][phase]:.2f}" if other else ""
        ratio = _spread(result["phase_ratios"][phase]) if phase in result.get("phase_ratios", {}) else ""
        lines.append(f"| {phase} | {least:.2f} | {result['lab']['phases'][phase]:.2f} | {peer} | {ratio} |")
    rate = result["floor"]["operations_per_second"] / 1e9
    lines += ["", f"Floor: what the mathematics multiplies, at the {rate:,.0f} GFLOP/s measured here."]
    lines += [_about(who, result[who]) for who in ("lab", other) if who]
    return lines


def _about(who: str, facts: dict[str, Any]) -> str:
    """What one contestant said of itself."""
    length = f"mean response {facts['mean_length']:.1f} tokens, " if "mean_length" in facts else ""
    dtypes = sorted(set(facts.get("dtypes", {}).values()))
    return (
        f"{who}: {length}peak memory {facts['peak_mib']:,.0f} MiB, {facts['threads']} thread(s)"
        + (f", weights and passes {' and '.join(dtypes)}" if dtypes else "")
        + f", trl {facts['versions'].get('trl', 'none')}, torch {facts['versions']['torch']}."
    )


def _peer(result: dict[str, Any]) -> str | None:
    return next((name for name in ("trl", "generate", "steps", "rloo", "grpo") if name in result), None)


def _amount(value: float | dict[str, float]) -> str:
    return f"{value['median'] if isinstance(value, dict) else value:,.1f}"


def _spread(values: dict[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f} to {values['max']:.2f})"


def _version(name: str) -> str | None:
    """None where the package is not installed: TRL need not be, the lab then runs alone."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
