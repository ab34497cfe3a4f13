"""Rows for the reward inspector: the samples that every Step has, and, read when somebody asks, the whole batch of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit.figures.records import named, read
from labkit.runs import StageFolder

__all__ = ["batches_of", "rows_of"]

Batches = Callable[[str, int], list[dict[str, Any]]]


def rows_of(sources: Any, *, steps: Sequence[int] = (), whole: bool = False) -> list[dict[str, Any]]:
    """The sampled responses of runs as rows with `source` and `step`; `steps` picks some (default: every step).

    `sources` is a StageFolder, its path, a Job, a list of Steps, or a mapping from name to one of them.
    whole: of each of these steps all episodes, where the run kept them (PPO does), and else its samples.
    """
    rows = []
    for name, source in named(sources):
        record = read(source, name)
        for step in record.steps:
            if not steps or step.number in steps:
                kept = _episodes(source, step.number) if whole else []
                rows += [{"source": record.name, "step": step.number, **row} for row in kept or step.samples]
    return rows


def batches_of(sources: Any) -> Batches:
    """For `RewardInspector(batches=...)`: (source, step) -> all episodes of that step; none where they were not kept.

    sources: as for `rows_of`. Nothing is read before it is asked for, and then that step alone.
    """
    by_name = {read(source, name).name: source for name, source in named(sources)}

    def batch(source: str, step: int) -> list[dict[str, Any]]:
        kept = _episodes(by_name[source], step) if source in by_name else []
        return [{"source": source, "step": step, **row} for row in kept]

    return batch


def _episodes(source: Any, step: int) -> list[dict[str, Any]]:
    """What the folder of a source kept of a step; nothing where it has no folder."""
    from labkit.experiment.batches import batch_of

    folder = StageFolder(Path(source)) if isinstance(source, (str, Path)) else getattr(source, "folder", source)
    kept = batch_of(folder, step) if isinstance(folder, StageFolder) else None
    return kept["episodes"] if kept else []
