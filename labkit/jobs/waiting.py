"""Who waits for a job: the one variable that says whether a person is there, and the line a waiting cell shows."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from labkit.errors import LabError
from labkit.types import Step

__all__ = ["HEADLESS_VARIABLE", "StillRunning", "by_hand", "by_hand_every", "from_a_page", "headless_asked", "nobody_there", "running_kernel", "wait_for"]

HEADLESS_VARIABLE = "LABKIT_HEADLESS"
PRINT_EVERY = 15.0  # seconds between progress lines while a headless result() waits


class StillRunning(LabError):
    """Stops "Run All" at a cell that needs a result which is not there yet; shown as one line."""

    def _render_traceback_(self) -> list[str]:  # IPython shows this instead of a traceback
        return [str(self)]


def headless_asked() -> bool | None:
    """What LABKIT_HEADLESS says: True (any word but 0, false, no), False, or None where it is not set."""
    asked = os.environ.get(HEADLESS_VARIABLE, "").strip().lower()
    return asked not in {"0", "false", "no"} if asked else None


def nobody_there() -> bool:
    """True where no person waits at a notebook: asked for, or this process is no kernel."""
    asked = headless_asked()
    return running_kernel() is None if asked is None else asked


def running_kernel() -> Any:
    """The ipykernel that this process is, or None; a script that only imported ipykernel is none."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None)


def from_a_page(kernel: Any) -> bool:
    """True where the cell that runs now carries a cell id: a page sends one, papermill and nbclient do not."""
    try:
        parent = kernel.get_parent("shell")
    except Exception:  # a kernel that cannot tell its parent message is not JupyterLab's
        return False
    return bool((parent.get("metadata") or {}).get("cellId"))


def by_hand(count: int) -> int:
    """`count` where a person may want to go back, else none: a headless run needs its newest snapshots alone, to be resumed."""
    return 0 if nobody_there() else count


def by_hand_every(total: int, parts: int = 8) -> int:
    """Steps between snapshots of a short stage: `parts` of them where a person may want to go back, else none."""
    return by_hand(max(1, total // parts))


def wait_for(
    thread: threading.Thread | None, name: str, steps: Sequence[Step], total: int, paused: Callable[[], bool] = lambda: False
) -> None:
    """Wait until `thread` has ended, with a line of progress now and then; name: whose progress it is."""
    printed = time.monotonic()
    while thread is not None and thread.is_alive():
        thread.join(0.2)
        if time.monotonic() - printed > PRINT_EVERY and (steps or paused()):
            printed = time.monotonic()
            at = f"{name} is paused at step {steps[-1].number if steps else 0} of {total}; job.resume() goes on."
            print(at if paused() else _line(name, steps[-1], total), flush=True)


def _line(name: str, step: Step, total: int) -> str:
    shown = [
        f"{key} {step.metrics[key]:.3g}"
        for key in ("loss", "accuracy", "score", "gold", "kl_k1", "ptx_loss")
        if key in step.metrics
    ]
    return f"{name}: step {step.number} of {total} · " + " · ".join(shown)
