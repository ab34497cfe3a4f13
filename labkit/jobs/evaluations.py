"""What "evaluate now" measured, kept beside the run's other records: at which step, on which prompts, with which interval.

    {"time": 1764…, "step": 30, "prompts": ["…", "…"], "values": {"win_rate": 0.61, "low": 0.52, "high": 0.69, "n": 96, …}}

One line per evaluation in the stage's evaluations.jsonl. `StageFolder.evaluations` reads those that hold: what was measured
on steps that a rollback undid says nothing of the steps that took their place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from labkit.runs import StageFolder

__all__ = ["keep_evaluation", "of_this_start"]


def keep_evaluation(folder: StageFolder, step: int, prompts: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Append what was measured after `step` on these prompts; returns the row."""
    row = {"time": time.time(), "step": step, "prompts": list(prompts), "values": with_interval(values, len(set(prompts)))}
    folder.append_evaluation(row)
    return row


def of_this_start(folder: StageFolder, begun: float) -> bool:
    """Whether the folder still holds the run that a job began or resumed at `begun`, and not one begun anew by another job."""
    return bool(begun) and (folder.path / "run.json").exists() and folder.manifest["started"] == begun


def with_interval(values: Mapping[str, Any], prompts: int) -> dict[str, Any]:
    """The values as plain JSON; a win rate that came without an interval gets Wilson's, as of one judgment per prompt."""
    from labkit.figures.reward import wilson

    kept = {str(key): _plain(value) for key, value in values.items()}
    rate = kept.get("win_rate")
    if isinstance(rate, (int, float)) and 0 <= rate <= 1 and (kept.get("low") is None or kept.get("high") is None):
        low, high = wilson(rate * prompts, prompts) if prompts > 1 else (0.0, 1.0)
        kept |= {"low": low, "high": high, "interval": "Wilson's, as of one judgment per prompt"}
    return kept


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None
