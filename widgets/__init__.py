"""The lab's eyes and hands in the notebook: `from widgets import RankingBoard, RewardInspector, Cockpit, KnobPanel`.

Each name is loaded when first asked for, so that a notebook pays only for the boards it shows.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "RankingBoard": "widgets.ranking",
    "RewardInspector": "widgets.inspector",
    "Cockpit": "widgets.cockpit",
    "KnobPanel": "widgets.knobs",
}

__all__ = ["Cockpit", "KnobPanel", "RankingBoard", "RewardInspector"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"widgets has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
