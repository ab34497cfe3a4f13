"""Ask models the tasks of lm-eval, one task at a time, and write what was found to runs/<run>/benchmarks/results.json."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.disk import write_json
from labkit.errors import DataError, LabError, RunError, SettingsError
from labkit.evaluation.harness.models import models_of, path_of
from labkit.evaluation.harness.names import asked_for
from labkit.evaluation.harness.tasks import check_installed, first_line, load_task, task_manager
from labkit.runs import Run

__all__ = ["Benchmarks", "benchmarks"]

SHOTS_SEED = 1234  # of the examples before a question; lm-eval's own
RESAMPLES = 1000  # bootstrap draws for a standard error that has no formula; lm-eval takes 100 for BLEU
#: What warns at every call, of what the lab does on purpose, counts itself, or of rows that have ended and are read no more.
TALKATIVE = ("lm_eval.models.huggingface", "lm_eval.api.task", "lm_eval.api.registry", "transformers.modeling_utils")


@dataclass
class Benchmarks:
    """What lm-eval found; `to_json` is what benchmarks/results.json holds."""

    lm_eval: str  # version
    tasks: list[str]  # as they were asked for, "paper" and "world" written out
    limit: int | None  # questions of each task at most; None: all
    shots: int | None  # examples before each question; None: what the task says
    data: str | None  # folder of local data
    left_out: list[str]  # of "paper", in sentences
    models: list[dict[str, Any]] = field(default_factory=list)  # model, path, hash of its weights, context in tokens
    #: task, metric, model, value, stderr (None: unknown), n questions, higher_is_better, shots, version of the task;
    #: requests made for that task, and how many of them lost their beginning because they were too long.
    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # a sentence for each task that could not be asked; the others were

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def value(self, task: str, metric: str, model: str) -> float | None:
        """One number, by the names in `rows`."""
        found = (r["value"] for r in self.rows if (r["task"], r["metric"], r["model"]) == (task, metric, model))
        return next(found, None)

    def text(self) -> str:
        """A table with a row per task and metric and a column per model, and what has to be known beside it."""
        from tabulate import tabulate

        names = [m["model"] for m in self.models]
        cells = {(r["task"], r["metric"], r["model"]): r for r in self.rows}
        lines = list(dict.fromkeys((r["task"], r["metric"]) for r in self.rows))
        body = []
        for task, metric in lines:
            own = [cells.get((task, metric, name)) for name in names]
            some = next(r for r in own if r)
            body.append([task, metric + _arrow(some), some["n"], *map(_cell, own)])
        table = tabulate(body, ["task", "metric", "n", *names], disable_numparse=True)
        return "\n\n".join(part for part in (table, "\n".join([*self._cut(), *self.left_out])) if part)

    def _cut(self) -> list[str]:
        """A sentence per task and model on questions that lost their beginning."""
        context = {m["model"]: m["context"] for m in self.models}
        counts = {(r["task"], r["model"]): r for r in self.rows if r["cut"]}
        return [
            f"{task}, {model}: {r['cut']} of {r['requests']} requests did not fit the context of {context[model]} tokens and lost their beginning."
            for (task, model), r in counts.items()
        ]


def benchmarks(
    run: Run,
    models: Sequence[str] = (),
    tasks: Sequence[str] = ("world",),
    *,
    data: str | Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 16,
    say: Callable[[str], None] = print,
) -> Benchmarks:
    """Ask models tasks of lm-eval; written to runs/<run>/benchmarks/ after every task, earlier results are put aside.

    models: stages of the run, "base", folders or hub names; by default all that the run has. tasks: names of lm-eval's
    tasks, groups and tags, of tasks in `data`, "paper" (the paper's benchmarks) or "world" (the world's miniatures).
    data: a folder with task files (YAML), local data, or both. limit: the first questions of each task only.
    Prompts are used verbatim, without a chat template. A task that cannot be asked joins `failed` and stops no other;
    where none can, that is the error.
    """
    version, folder = check_installed(), _folder(data)
    if (limit is not None and limit < 1) or batch_size < 1 or (shots is not None and shots < 0):
        raise SettingsError("limit and batch_size must be at least 1, and shots at least 0.")
    names, told = asked_for(tasks, folder)
    if not names:
        raise SettingsError(" ".join(["No task is named; give names of lm-eval's tasks, or paper, or world.", *told]))
    paths = {name: path_of(run, name) for name in dict.fromkeys(models or models_of(run))}
    found = Benchmarks(version, names, limit, shots, str(folder) if folder else None, told)
    with _quiet():
        first = next(iter(paths.values()))
        ready = {first: _load(found, folder, first)}  # what cannot be asked is told before anything is written
        stage = run.stage("benchmarks")
        stage.begin(settings={"models": list(paths), "tasks": names, "limit": limit, "shots": shots})
        try:
            for name, path in paths.items():
                loaded = ready.pop(path, None) or _load(found, folder, path)
                _ask_model(found, name, path, loaded, batch_size, say, stage.path / "results.json")
        except BaseException as error:
            with contextlib.suppress(LabError):  # a full disk must not hide the error that came first
                stage.finish("failed", error=str(error) or type(error).__name__)
            raise
        stage.finish(*(["failed"] if found.failed else []), error=" ".join(found.failed) or None)
    if not found.rows:
        raise RunError(found.failed[0])
    return found


def _load(found: Benchmarks, data: Path | None, model: str) -> dict[str, dict[str, Any]]:
    """Tasks with their questions, for a model of this folder or hub name; those that cannot be loaded join `failed`."""
    manager, loaded = task_manager(found.tasks, data, model), {}
    for task in found.tasks:
        try:
            loaded[task] = load_task(manager, task, data, found.shots)
        except LabError as error:
            found.failed += [str(error)] if str(error) not in found.failed else []
    if not loaded:
        raise DataError(found.failed[0])
    return loaded


def _ask_model(
    found: Benchmarks,
    name: str,
    path: str,
    loaded: dict[str, dict[str, Any]],
    batch_size: int,
    say: Callable[[str], None],
    file: Path,
) -> None:
    """Ask one model all tasks; results join `found` and the file after each."""
    from labkit.evaluation.harness.lm import LabLM
    from labkit.models import load_policy, load_tokenizer, model_hash

    tokenizer = load_tokenizer(path)
    model = load_policy(path, tokenizer=tokenizer)
    asked = LabLM(model, tokenizer, batch_size=batch_size)
    found.models.append({"model": name, "path": path, "hash": model_hash(model), "context": asked.max_length})
    for task, own in loaded.items():
        say(f"{name}: {task}")
        try:
            found.rows += _ask_task(asked, name, task, own, found.limit)
        except LabError as error:
            found.failed.append(str(error))
        write_json(file, found.to_json())


def _ask_task(asked: Any, model: str, name: str, loaded: dict[str, Any], limit: int | None) -> list[dict[str, Any]]:
    """The rows of one task, or of the tasks of a group, for one model."""
    from lm_eval.evaluator import evaluate

    for task in loaded["tasks"].values():
        task.set_fewshot_seed(seed=SHOTS_SEED)
    asked.asked = asked.cut = 0
    try:
        results = evaluate(asked, loaded, limit=limit, bootstrap_iters=RESAMPLES, log_samples=False)
    except LabError as error:
        raise type(error)(f"{name} cannot be asked of {model}: {error}.") from error
    except Exception as error:  # a task's own code may raise anything
        raise RunError(f"{name} could not be asked of {model}: {first_line(error)}") from error
    counts = {"requests": asked.asked, "cut": asked.cut}
    return [{**row, "model": model, **counts} for task in results["results"] for row in _rows(results, task)]


def _rows(results: Mapping[str, Any], task: str) -> Iterator[dict[str, Any]]:
    """A row per metric of a task or group; lm-eval writes "acc,none" beside "acc_stderr,none", the filter behind the comma."""
    numbers = results["results"][task]
    for key, value in numbers.items():
        metric, comma, kind = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        yield {
            "task": task,
            "metric": metric if kind == "none" else f"{metric}, {kind}",
            "value": _number(value),
            "stderr": _number(numbers.get(f"{metric}_stderr,{kind}")),
            "n": numbers["sample_len"],
            "higher_is_better": results["higher_is_better"].get(task, {}).get(metric),
            "shots": results["n-shot"].get(task),
            "version": results["versions"].get(task),
        }


def _number(value: Any) -> float | None:
    """A finite number, or None for what lm-eval calls N/A."""
    try:
        return float(value) if math.isfinite(value) else None
    except TypeError:
        return None


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "-"
    return f"{row['value']:.3f}" + ("" if row["stderr"] is None else f" ± {row['stderr']:.3f}")


def _arrow(row: Mapping[str, Any]) -> str:
    """Which way is better."""
    return {True: " ↑", False: " ↓"}.get(row["higher_is_better"], "")


def _folder(data: str | Path | None) -> Path | None:
    if data is not None and not Path(data).is_dir():
        raise DataError(f"There is no folder {data}; give one that holds task files (YAML), data, or both.")
    return None if data is None else Path(data).resolve()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What lm-eval prints goes to stderr, its bars and its warnings without cause are left out, its bootstrap starts no processes."""
    from tqdm import tqdm

    drawn = tqdm.__init__

    def hidden(bar: tqdm, *args: Any, **options: Any) -> None:
        drawn(bar, *args, **{**options, "disable": True})

    loggers = {logging.getLogger(name): logging.getLogger(name).level for name in TALKATIVE}
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        tqdm.__init__ = hidden
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        tqdm.__init__ = drawn
        for logger, level in loggers.items():
            logger.setLevel(level)
        os.environ.pop("DISABLE_MULTIPROC") if before is None else os.environ.update(DISABLE_MULTIPROC=before)
