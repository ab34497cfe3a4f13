"""From names to loaded tasks of lm-eval: its own, those of a folder of yours, and the lab's; a mistake is one sentence.

A task is a YAML file (lm-eval's documentation says what may stand in it); see `world/` for some that are short. Relative
paths in it, such as `data_files: items.jsonl`, start at the folder given as `data`. lm-eval's own tasks name a dataset of
the hub; where the folder holds one under that name (`Rowan/hellaswag`), it is read from there and no network is needed.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from labkit.errors import DataError, SettingsError

__all__ = ["check_installed", "load_task", "task_manager"]

OWN = tuple(str(Path(__file__).parent / folder) for folder in ("local", "world"))


def check_installed() -> str:
    """The version of lm-eval; SettingsError where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise SettingsError(
            "lm-eval is not installed, and benchmarks are judged with it: pip install 'labkit[eval]'."
        ) from None


def task_manager(names: Sequence[str], data: Path | None, model: str) -> Any:
    """An index of tasks in which all `names` are found; lm-eval's thousands are read only where the folders do not suffice.

    model: folder or hub name, for tasks that count in its tokens. Raises SettingsError on an unknown name.
    """
    paths = (*OWN, str(data.resolve())) if data else OWN
    for all_of_them in (False, True):
        manager = (_index if data else _kept_index)(paths, all_of_them, model)
        unknown = [name for name in names if name not in manager.task_index]
        if not unknown:
            return manager
    close = difflib.get_close_matches(unknown[0], [*manager.all_tasks, "paper", "world"], n=4, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else "see `lm-eval ls tasks` for the names."
    beside = f", nor has {data} (a YAML file that cannot be read counts as none)" if data else ""
    raise SettingsError(f"lm-eval has no task {unknown[0]!r}{beside}; {hint}")


def _index(paths: tuple[str, ...], all_of_them: bool, model: str) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=list(paths), include_defaults=all_of_them, metadata={"pretrained": model})


_kept_index = lru_cache(maxsize=2)(_index)  # lm-eval's own take seconds to read; files of yours may have changed since


def load_task(manager: Any, name: str, data: Path | None, shots: int | None) -> dict[str, Any]:
    """One task, or the tasks of a group or tag, with their data, as lm-eval's `evaluate` takes them.

    shots: examples before each question, where the task does not fix their number. Raises DataError where the data
    cannot be loaded, SettingsError where a task needs more than a language model.
    """
    try:
        with contextlib.chdir(data or Path.cwd()):
            loaded = manager.load([name])
    except Exception as error:  # whatever a data set's own code, a hub or a YAML file raises
        raise DataError(f"The task {name!r} could not be loaded: {first_line(error)} {_remedy(data)}") from error
    for own, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            raise SettingsError(f"The task {own!r} runs code that the model wrote, or shows it pictures; it cannot be asked here.")
        if shots is not None and task.get_config("num_fewshot") != 0:  # a task that says 0 means it
            task.set_config(key="num_fewshot", value=shots)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    return loaded


def first_line(error: BaseException) -> str:
    """What went wrong in at most 200 characters, as the end of a sentence."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line:.200}".rstrip(".: ") + "."


def _remedy(data: Path | None) -> str:
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
    there = f"into {data}" if data else "into a folder given with --data"
    return f"Data from the hub need a network the first time{offline}; or put them {there}, under their hub name."
