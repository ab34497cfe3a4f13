"""KnobPanel: sliders for a Dial, built from the knobs' own bounds; the cockpit carries the same panel.

    KnobPanel(dial)
    KnobPanel(job.dial, names=("kl_coef", "ptx_coef"))

A slider only asks. The loop applies what was asked at its next step's boundary, and the panel shows at which step, or
why it was refused. With a KL controller there is a switch: the controller holds β, or the hand does.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import traitlets

from labkit.errors import SettingsError
from labkit.knobs import Dial
from widgets import display, twins
from widgets.assets import css, esm
from widgets.board import Board
from widgets.desk import Desk, describe

__all__ = ["KnobPanel"]


class KnobPanel(Board):
    """Sliders of `dial`; names: which knobs, and in which order (default: all)."""

    _esm = esm("knobs")
    _css = css("board", "knobs")
    spec = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, dial: Dial, *, names: Sequence[str] = (), rate: float = 4.0) -> None:
        if not isinstance(dial, Dial):
            raise SettingsError(f"A KnobPanel turns a Dial, not a {type(dial).__name__}; give Dial(knobs) to the job.")
        knobs = describe(dial.knobs)
        unknown = sorted(set(names) - {k["name"] for k in knobs})
        if unknown:
            raise SettingsError(
                f"There is no knob {unknown[0]!r}; the knobs are {', '.join(k['name'] for k in knobs)}."
            )
        shown = [next(k for k in knobs if k["name"] == n) for n in names] or knobs
        self.desk, self._period = Desk(dial), 1.0 / rate
        self._error, self._closed = "", False
        super().__init__(spec={"knobs": shown}, state={"knobs": self.desk.state(), "error": ""})
        self.on_msg(self._hear)
        if not display.is_headless():
            threading.Thread(target=_tick, args=(weakref.ref(self),), name="knobs", daemon=True).start()

    def refresh(self) -> None:
        """Show where the knobs stand; the helper thread does this by itself."""
        state = {"knobs": self.desk.state(), "error": self._error}
        if state != self.state:
            self.state = state

    def _hear(self, _: Any, message: Any, buffers: Any = None) -> None:
        self._error = ""
        try:
            if message.get("kind") == "turn":
                self.desk.turn(message.get("changes") or {}, message.get("why", ""))
            elif message.get("kind") == "auto" and self.desk.has_controller:
                self.desk.switch(bool(message.get("on")), message.get("why", ""))
        except Exception as error:
            self._error = str(error)

    def twin(self) -> dict[str, Any]:
        """A table of the knobs."""
        return twins.knob_bundle(self.desk)

    def close(self) -> None:
        """End the helper thread and the widget."""
        self._closed = True
        super().close()


def _tick(panel: weakref.ref) -> None:
    """The helper thread: whatever goes wrong is said on the panel, and the thread goes on until the panel is gone."""
    period, broken = panel()._period, ""
    while (self := panel()) is not None and not self._closed:
        try:
            self.refresh()
            if broken and self._error == broken:
                self._error = ""
            broken = ""
        except Exception as error:
            broken = self._error = f"The panel could not be brought up to date: {type(error).__name__}: {error}"
            self.state = {**self.state, "error": broken}
        del self
        time.sleep(period)
