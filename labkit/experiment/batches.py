"""Every step's completions, kept: the whole batch that PPO sampled, with token ids and seeds, in a file beside metrics.jsonl.

    {"step": 7, "policy": {"stage": "ppo_init", "weights": "1f0c…", "iterations": 6}, "sampling": {...}, "episodes": [{...}, ...]}

One line per step, so a batch is whole or not there. Lines are appended before the Step is recorded; which of them hold is
decided when they are read: a step that a rollback undid, or that was never recorded, has none, and of a step that was
taken twice the later line counts, as in metrics.jsonl.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.disk import append_jsonl
from labkit.errors import RunError
from labkit.runs import StageFolder
from labkit.types import Step

if TYPE_CHECKING:
    from labkit.ppo import State

__all__ = ["FILE", "batch_of", "batch_steps", "with_batches_kept"]

FILE = "completions.jsonl"
_STEP = re.compile(rb'\{"step": (\d+)[,}]')
HEAD = 32  # bytes of a line that hold its step


def with_batches_kept(
    steps: Generator[Step], state: State, folder: Callable[[], StageFolder], told: Mapping[str, Any]
) -> Iterator[Step]:
    """The same Steps; before each one is recorded its whole batch is appended to the file. Of several processes the first one writes.

    folder: asked each time, as a job may branch; a branch begins with the batches of its past. told: what is said of
    every batch: the `policy` that the stage began with, and the `sampling` parameters beside the temperature.
    """
    from labkit.ppo.measure import batch_rows

    with closing(steps):
        for step in steps:
            rows = batch_rows(state)  # by every process: each holds a share
            if rows is not None:
                _append(folder(), step, rows, told)
            yield step


def batch_steps(stage: StageFolder) -> list[int]:
    """Numbers of the recorded steps whose whole batch was kept, ascending."""
    return sorted(_places(stage))


def batch_of(stage: StageFolder, number: int) -> dict[str, Any] | None:
    """What was kept of one step: step, policy, sampling and `episodes`; None where nothing was, or it was undone.

    Of the file only that one line is parsed.
    """
    place = _places(stage).get(number)
    if place is None:
        return None
    with (stage.path / FILE).open("rb") as stream:
        stream.seek(place)
        line = stream.readline()
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise RunError(
            f"{stage.path / FILE} is not JSON in the line of step {number} ({error.msg}); repair or remove that line."
        ) from None


def _append(stage: StageFolder, step: Step, rows: list[dict[str, Any]], told: Mapping[str, Any]) -> None:
    file = stage.path / FILE
    if not file.exists() and step.number > 1:
        _bring_past(stage, step.number)
    line = {
        "step": step.number,
        "policy": {**told["policy"], "iterations": step.number - 1},
        "sampling": {"temperature": step.knobs.get("temperature", 1.0), **told["sampling"]},
        "episodes": rows,
    }
    append_jsonl(file, line)


def _bring_past(stage: StageFolder, number: int) -> None:
    """Give a branch the batches before step `number` that hold in the stage it left, as they are there."""
    source = _trunk(stage)
    while source is not None and not (source.path / FILE).exists():  # a branch of a branch that took no step
        source = _trunk(source)
    if source is None:
        return
    places = sorted(place for n, place in _standing(source.path / FILE).items() if n < number)
    scratch = stage.path / f".{FILE}.tmp"
    with (source.path / FILE).open("rb") as stream, scratch.open("wb") as out:
        for place in places:
            stream.seek(place)
            out.write(stream.readline())
    scratch.replace(stage.path / FILE)


def _trunk(stage: StageFolder) -> StageFolder | None:
    """The stage that a branch left, where there is one."""
    name = (stage.manifest.get("parents") or {}).get("branch_of")
    return StageFolder(stage.path.with_name(name)) if name and (stage.path.with_name(name) / "run.json").exists() else None


def _places(stage: StageFolder) -> dict[int, int]:
    """Step -> where its line begins, of the steps that are recorded."""
    file = stage.path / FILE
    if not file.exists():
        return {}
    recorded = {step.number for step in stage.steps()}
    return {number: place for number, place in _standing(file).items() if number in recorded}


def _standing(file: Path) -> dict[int, int]:
    """Step -> where its line begins; a step that comes again takes the place of all that came at or after it."""
    found: dict[int, int] = {}
    place = 0
    with file.open("rb") as stream:
        for line in stream:
            match = _STEP.match(line[:HEAD])
            if match and line.endswith(b"\n"):  # a torn last line is none
                number = int(match[1])
                found = {n: where for n, where in found.items() if n < number}
                found[number] = place
            place += len(line)
    return found
