"""What a notebook says to the lab: which parameters it was given at its start, and how it ended.

    session = batch.begin(globals(), notebook="05_ppo_ptx")     # the cell after the parameters
    ...
    session.finish(stages=["ppo_ptx"], summary={"win rate": 0.71})  # the last cell

`finish` writes the record runs/<name>/notebooks/<notebook>/run.json. A run without it counts as failed, whatever the
executed notebook looks like: a killed kernel leaves cells that are stamped as completed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.batch import records
from labkit.batch.parameters import check_parameters, find_notebook, injected_names, read_parameters
from labkit.errors import RunError, SettingsError
from labkit.jobs import from_a_page, headless_asked
from labkit.runs import Run, StageFolder, runs_root

__all__ = ["Session", "begin"]


class Session:
    """One execution of one notebook, by hand or headless."""

    def __init__(self, notebook: Path, parameters: Mapping[str, Any]) -> None:
        self.notebook = notebook
        self.parameters = dict(parameters)
        self.run = Run(self.parameters["run"], runs_root())
        self.inputs = records.inputs_of(self.run, notebook, self.parameters)  # as they were before anything ran
        self.errors: list[str] = []  # of background threads, which papermill would not notice

    @property
    def headless(self) -> bool:
        """True where no person is at the notebook."""
        return bool(headless_asked())

    @property
    def record(self) -> StageFolder:
        """Where this notebook's outcome is written."""
        return records.record_of(self.run, self.notebook.stem)

    def finish(
        self, *, stages: Sequence[str] = (), files: Sequence[str] = (), summary: Mapping[str, Any] | None = None
    ) -> None:
        """State that the notebook reached its end, with the stages and files it made and its numbers.

        `stages` are folders of the run, each of which must be done, or stopped by hand with its model kept; `files` are
        other paths in the run folder (such as "prompts" or "labels") whose content later notebooks read; `summary`
        holds numbers and short texts for the report and for the comparison of a sweep. Raises RunError where a stage
        or a thread failed.
        """
        if self.errors:
            raise RunError(f"{self.notebook.stem}: a background thread failed: {self.errors[0]}")
        for name in stages:
            _require_done(self.run.stage(name), self.notebook.stem)
        if (said := records.makes(self.notebook)) and (more := {n.split("@")[0] for n in (*stages, *files)} - {*said}):
            raise RunError(
                f"{self.notebook.stem} made {min(more)}, but its metadata say that it makes {', '.join(said)}; name it there "
                "(labkit.makes), so that a sweep knows what is not to be brought to its points."
            )
        for name in files:
            if not (self.run.path / name).exists():
                raise RunError(f"{self.notebook.stem} says that it wrote {self.run.path / name}, which is not there.")
        if os.environ.get("LABKIT_EXECUTION") != str(self.record.path.resolve()):  # nobody opened it for us
            self.record.begin(settings=self.parameters, seed=self.parameters.get("seed", 0))
        self.record.finish(
            "done",
            stages=list(stages),
            files=list(files),
            summary=dict(summary or {}),
            inputs=self.inputs,
        )


def begin(namespace: Mapping[str, Any], *, notebook: str | Path) -> Session:
    """Check the notebook's parameters as they stand in `namespace` (give `globals()`) and open its session.

    Raises SettingsError on a parameter that the notebook does not declare (papermill only warns), of the wrong type,
    or out of range. `notebook` is the notebook's own name or path.
    """
    path = find_notebook(notebook)
    declared = read_parameters(path)
    if "run" not in declared:
        raise SettingsError(f"{path.name} declares no parameter 'run'; it names the folder under runs/ to work in.")
    missing = [name for name in declared if name not in namespace]
    if missing:
        raise SettingsError(f"{path.name}: {missing[0]} is not defined; run the parameters cell first.")
    given = {name: namespace[name] for name in [*declared, *injected_names(namespace)] if name in namespace}
    session = Session(path, check_parameters(declared, given, path.stem))
    if headless_asked() is None and _nobody_there(namespace):
        os.environ["LABKIT_HEADLESS"] = "1"  # jobs and boards ask the variable, not the kernel
    _watch_threads(session)
    return session


def _nobody_there(namespace: Mapping[str, Any]) -> bool:
    """True in a kernel whose cell came without a cell id: sent by papermill or nbclient, not by a page."""
    shell = namespace.get("get_ipython", lambda: None)()
    kernel = getattr(shell, "kernel", None)
    return kernel is not None and not from_a_page(kernel)


def _watch_threads(session: Session) -> None:
    """Remember the errors that threads die of; what showed them before still does."""
    before = getattr(threading.excepthook, "before", threading.excepthook)

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            session.errors.append(f"{args.exc_type.__name__}: {args.exc_value}")
        before(args)

    hook.before = before  # a cell that is run again replaces its own hook
    threading.excepthook = hook


def _require_done(stage: StageFolder, notebook: str) -> None:
    if records.is_whole(stage):
        return
    status = stage.status
    why = stage.manifest.get("error") if status == "failed" else None
    hint = {
        "running": "wait for its job (job.result()) before the last cell",
        "stopped": "it was stopped and left no model",
        "missing": "the notebook never started it, or under another run name",
    }.get(status, f"see {stage.path}")
    raise RunError(f"{notebook}: stage {stage.path.name} is {status}, not done: {why or hint}.")
