"""Results as JSON with date, hardware and versions, as a table in Markdown, and as a figure of cost against size."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

__all__ = ["environment", "figure", "save", "table"]

PACKAGES = ("torch", "transformers", "trl", "accelerate", "tokenizers")


def environment(device: str = "cpu", threads: int = 1) -> dict[str, Any]:
    """When and on what: enough to judge whether two results compare."""
    import torch

    facts = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES} | {"peer for PPO": "trl 1.12.0"},
    }
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def save(results: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return path


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: one row per contest, then phases and floors of PPO."""
    facts = results["environment"]
    lines = [
        f"## {facts['date'][:10]}: {facts.get('gpu') or facts['processor']}, {facts['threads']} thread(s)",
        "",
        ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + ".",
        "Ratios are peer over lab, by round: median (least to most). Above 1 the lab is faster.",
        "",
        "| measure | lab | peer | ratio |",
        "|---|---|---|---|",
    ]
    lines += [_row(name, result) for name, result in results.items() if isinstance(result, dict) and "lab" in result]
    for name, result in results.items():
        if isinstance(result, dict) and "floor" in result:
            lines += ["", f"### {name}: seconds of an iteration", "", *_phases(result)]
        if isinstance(result, dict) and "share" in result:
            lines += [
                "",
                f"{name}: the pretraining gradient costs {_spread(result['share'])} of the rest of the iteration.",
            ]
    return "\n".join(lines) + "\n"


def figure(rows: list[dict[str, Any]], path: Path) -> Path:
    """Cost of an iteration against response length and batch (in tokens) and model size (in operations), as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    titles = {"response length": "tokens", "batch": "tokens", "model": "operations"}
    board, axes = plt.subplots(1, len(titles), figsize=(12, 3.6), layout="constrained")
    for axis, (varied, unit) in zip(axes, titles.items(), strict=True):
        points = sorted((r[unit], r["seconds"]) for r in rows if r["varied"] == varied)
        x, y = zip(*points, strict=True)
        axis.plot(x, y, "o-", label="measured")
        slope = sum(a * b for a, b in points) / sum(a * a for a in x)
        axis.plot(x, [slope * a for a in x], "--", label="linear")
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
    peer = next((p for p in ("trl", "generate") if p in result), None)
    unit = next(k for k in result["lab"] if k.endswith("_per_second"))
    cells = [_amount(result[who][unit]) if who else "not measured" for who in ("lab", peer)]
    ratio = _spread(result["ratio"]) if "ratio" in result else ""
    return f"| {name} ({unit.replace('_', ' ')}) | {cells[0]} | {cells[1]} | {ratio} |"


def _phases(result: dict[str, Any]) -> list[str]:
    floor = result["floor"]["phases"]
    lines = ["| phase | floor | lab | peer | ratio |", "|---|---|---|---|---|"]
    for phase, least in floor.items():
        peer = f"{result['trl']['phases'][phase]:.2f}" if "trl" in result else ""
        ratio = _spread(result["phase_ratios"][phase]) if "phase_ratios" in result else ""
        lines.append(f"| {phase} | {least:.2f} | {result['lab']['phases'][phase]:.2f} | {peer} | {ratio} |")
    rate = result["floor"]["operations_per_second"] / 1e9
    lines += ["", f"Floor: what the mathematics multiplies, at the {rate:,.0f} GFLOP/s measured here."]
    for who in ("lab", "trl"):
        if who in result:
            facts = result[who]
            lines.append(
                f"{who}: mean response {facts['mean_length']:.1f} tokens, peak memory {facts['peak_mib']:,.0f} MiB."
            )
    return lines


def _amount(value: float | dict[str, float]) -> str:
    return f"{value['median'] if isinstance(value, dict) else value:,.1f}"


def _spread(values: dict[str, float]) -> str:
    return f"{values['median']:.2f} ({values['min']:.2f} to {values['max']:.2f})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
