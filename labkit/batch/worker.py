"""The process that runs one notebook through papermill: `python -m labkit.batch.worker TASK.json`.

The task names the notebook, the executed copy, the parameters and a file for the outcome, which is written even where
the kernel died. What the notebook prints goes to this process's standard output as it comes.
A process of its own keeps threads, GPUs and crashes of several notebooks apart.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from labkit.disk import write_json
from labkit.errors import LabError

__all__ = ["main", "strip_widget_state"]


def main(task_file: str) -> int:
    """Execute a task; return 0: every cell ran, 1: one raised, 3: the kernel died, 4: stopped by hand."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    task = json.loads(Path(task_file).read_text(encoding="utf-8"))
    logging.getLogger("traitlets").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"papermill|nbclient|jupyter_client|zmq")  # theirs, not the user's
    code, outcome = _execute(task)
    try:
        strip_widget_state(Path(task["copy"]))
        write_json(Path(task["outcome"]), outcome)
    except LabError as error:
        print(error, file=sys.stderr)
    return code


def _execute(task: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            papermill.iorw.load_notebook_node(task["notebook"]),
            task["copy"],
            parameters=task["parameters"],
            kernel_name="python3",
            language="python",
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            autosave_cell_every=60,
            start_timeout=600,  # seconds; a crowded machine is slow, not broken
            iopub_timeout=60,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # its warnings are about its own transport
        )
    except PapermillExecutionError as error:
        return 1, {"error": f"cell In [{error.exec_count}] raised {error.ename}: {error.evalue}", "kind": error.ename}
    except DeadKernelError:
        return 3, {"error": "the kernel died", "kind": "DeadKernelError"}
    except KeyboardInterrupt:
        return 4, {"error": "it was stopped by hand", "kind": "KeyboardInterrupt"}
    except Exception as error:  # the edge of the process: a full disk, a broken notebook, a missing kernel
        return 1, {"error": f"{type(error).__name__}: {error}", "kind": type(error).__name__}
    return 0, {"error": None, "kind": None}


def _end_with_parent(parent: int) -> None:
    """Leave when the process that started this one is gone; the kernel in turn notices that its parent is."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(5)


def strip_widget_state(notebook: Path) -> None:
    """Remove the widgets' state from an executed notebook: it is huge, and its boards have static twins."""
    if not notebook.is_file():
        return
    content = json.loads(notebook.read_text(encoding="utf-8"))
    if content.get("metadata", {}).pop("widgets", None) is not None:
        write_json(notebook, content)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
