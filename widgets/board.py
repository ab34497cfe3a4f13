"""What all boards have in common: alive by hand, a static twin headless, and a page that asks by messages alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anywidget

from widgets import display, twins

__all__ = ["Board"]


class Board(anywidget.AnyWidget):
    """A widget with a static twin. Each board says what that is: `twin()`, one mime bundle, and `static()` where there are more."""

    def static(self) -> list[dict[str, Any]]:
        """The mime bundles of the static twin."""
        return [self.twin()]

    def _ipython_display_(self) -> None:
        for made in self.static() if display.is_headless() else [self._repr_mimebundle_()]:
            twins.show_bundle(made)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.twin() if display.is_headless() else super()._repr_mimebundle_(**options)

    def open(self) -> None:
        """Open the channel to the page; a headless run has no page and keeps no widget state."""
        if not display.is_headless():
            super().open()

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Take nothing from the page by way of traits: what a person does there comes as messages and is checked."""
