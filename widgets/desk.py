"""The desk of knobs behind a panel: what sliders look like, what was asked, when it was applied, why it was refused.

No Jupyter here: a panel sends plain messages in and shows the plain state that comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from labkit.errors import SettingsError
from labkit.knobs import Dial, Knobs

__all__ = ["Desk", "describe"]

_FIRST = ("kl_coef", "kl_target", "ptx_coef")  # the knobs that a person reaches for most
_LONGEST_NOTE = 500  # characters of a "why" that are kept


def describe(knobs: Knobs) -> list[dict[str, Any]]:
    """The sliders of a set of knobs, out of the metadata of its fields; those of KL penalty and ptx come first."""
    order = [
        *(f for n in _FIRST for f in fields(knobs) if f.name == n),
        *(f for f in fields(knobs) if f.name not in _FIRST),
    ]
    return [
        {
            "name": f.name,
            "symbol": f.metadata.get("symbol", ""),
            "doc": f"{f.metadata['doc']} {f.metadata['low']:g} to {f.metadata['high']:g}: {f.metadata['bounds']}.",
            "low": f.metadata["low"],
            "high": f.metadata["high"],
            "log": bool(f.metadata.get("log")),
            "start": getattr(knobs, f.name),
        }
        for f in order
    ]


class Desk:
    """Takes requests for a dial and tells what became of each; values from the page are checked again here."""

    def __init__(self, dial: Dial) -> None:
        self.dial = dial
        self._ledger, self._seen, self._last = dial.ledger, 0, {}

    @property
    def has_controller(self) -> bool:
        """True where a KL controller could hold β."""
        return hasattr(self.dial.knobs, "kl_coef") and hasattr(self.dial.knobs, "kl_target")

    def turn(self, changes: Mapping[str, Any], why: str = "") -> None:
        """Queue new values; what is no finite number raises SettingsError. Bounds are judged at the step's boundary."""
        numbers = {}
        for name, value in changes.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise SettingsError(f"{name} = {value!r} is not a number.")
            if name not in {f.name for f in fields(self.dial.knobs)}:
                raise SettingsError(f"There is no knob {name!r} here.")
            numbers[name] = float(value)
        self.dial.turn(**numbers, why=str(why)[:_LONGEST_NOTE])

    def apply(self, changes: Mapping[str, Any], why: str = "") -> None:
        """Turn what an alert suggests; where the controller holds β, take it into the hand first, or it would be refused."""
        auto = [row["asked"] for row in self.dial.pending if row["knob"] == "auto"] or [self.dial.auto]
        if "kl_coef" in changes and auto[-1]:
            self.switch(False, why)
        self.turn(changes, why)

    def switch(self, auto: bool, why: str = "") -> None:
        """Give β to the controller, or take it back into the hand."""
        (self.dial.release if auto else self.dial.hold)(why=str(why)[:_LONGEST_NOTE])

    def state(self) -> dict[str, Any]:
        """Value, waiting request and newest outcome of each knob, and who holds β."""
        ledger = self.dial.ledger
        if ledger is not self._ledger:  # after a rollback the dial keeps another list: what is superseded is forgotten
            self._ledger, self._seen, self._last = ledger, 0, {}
        for row in ledger[self._seen :]:
            if row["by"] == "controller" and row["outcome"] == "refused":
                continue  # asked before the hand took over: no answer to anybody
            self._last[row["knob"]] = {k: row[k] for k in ("step", "outcome", "reason", "by", "asked", "old", "new")}
        self._seen = len(ledger)
        waiting = {row["knob"]: row["asked"] for row in self.dial.pending if row["by"] != "controller"}
        rows = {
            f.name: {
                "value": getattr(self.dial.knobs, f.name),
                "waiting": waiting.get(f.name),
                "last": self._last.get(f.name),
            }
            for f in fields(self.dial.knobs)
        }
        auto = {"on": self.dial.auto, "waiting": waiting.get("auto"), "last": self._last.get("auto")}
        return {"rows": rows, "auto": auto if self.has_controller else None}
