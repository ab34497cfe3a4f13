"""What a job is given, checked: a stage to write into, a function that makes the loop, a loop that says Steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from labkit.errors import SettingsError
from labkit.knobs import Schedule
from labkit.runs import StageFolder
from labkit.settings import Settings
from labkit.types import Step

__all__ = ["check_given", "made", "told"]


def check_given(make_loop: Any, folder: Any, schedule: Any, settings: Any) -> None:
    """Raises SettingsError where a job is built on something else than it takes."""
    if not isinstance(folder, StageFolder):
        raise SettingsError(f"A job writes into a stage of a run, not into {folder!r:.60}; give folder=Run(name).stage(stage).")
    if not callable(make_loop):
        what = "is a generator" if isinstance(make_loop, Iterator) else f"is {make_loop!r:.60}"
        raise SettingsError(f"make_loop {what}, which a rollback could not begin again; give the function itself, schedule -> generator of Steps.")
    if not callable(schedule) or isinstance(schedule, type):
        raise SettingsError(f"The schedule is {schedule!r:.60}; give constant(knobs), Dial(knobs) or a function from step to knobs.")
    if settings is not None and not isinstance(settings, Mapping):
        remedy = "settings.to_json()" if isinstance(settings, Settings) else "a dict"
        raise SettingsError(f"The settings of a job are what run.json records, not {settings!r:.60}; give {remedy}.")


def made(make_loop: Callable[[Schedule], Iterator[Step]], schedule: Schedule) -> Iterator[Step]:
    """The loop that `make_loop` makes."""
    loop = make_loop(schedule)
    if not isinstance(loop, Iterator):
        kind = "None" if loop is None else f"a {type(loop).__name__}"
        raise SettingsError(f"make_loop gave {kind}; it must give a generator of Steps, as a function with `yield Step(...)` does.")
    return loop


def told(step: Any) -> Step:
    """What the loop said."""
    if not isinstance(step, Step):
        raise SettingsError(f"The loop yielded {step!r:.60}; a loop yields labkit.types.Step(stage, number, metrics, knobs).")
    return step
