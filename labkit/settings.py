"""Settings: what a stage is told once, before it starts (sizes, seeds, reductions).

Each field carries one sentence, and bounds or choices; they are checked when the object is built, so a bad preset,
a bad papermill parameter and a bad keyword fail with the same sentence. What may bend while training runs is a knob
(`labkit.knobs`); a name is a setting or a knob, never both. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Self

from labkit.errors import SettingsError

__all__ = ["Settings", "plain", "setting", "tell_fields"]


def setting(
    default: Any, doc: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """A field of a Settings class: its default, one sentence, and the values that it may take."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices})


def tell_fields(cls: type) -> None:
    """Add to the docstring what each field says of itself, so that `help` shows it."""
    own = [f"    {name}: {f.metadata['doc']}" for name, f in vars(cls).items() if isinstance(f, Field)]
    cls.__doc__ = "\n".join([f"{cls.__doc__ or ''}\n", *own])


def plain(value: Any) -> Any:
    """A number of another library, as NumPy's, as Python's own, which JSON can hold; all else as it is."""
    if type(value) in (int, float, bool):
        return value
    return int(value) if isinstance(value, Integral) else float(value) if isinstance(value, Real) else value


@dataclass(frozen=True)
class Settings:
    """Base of the settings of a stage; values are checked whenever one is built."""

    def __init_subclass__(cls) -> None:
        tell_fields(cls)

    def __post_init__(self) -> None:
        for f in fields(self):
            value, meta = plain(getattr(self, f.name)), f.metadata
            object.__setattr__(self, f.name, value)
            if value is None and "None" in str(f.type):
                continue
            if str(f.type) == "bool" and not isinstance(value, bool):
                raise SettingsError(f"{f.name} is {value!r}; it must be True or False. {meta['doc']}")
            if meta["choices"] and value not in meta["choices"]:
                raise SettingsError(f"{f.name} is {value!r}; it must be {' or '.join(meta['choices'])}. {meta['doc']}")
            if meta["low"] is not None or meta["high"] is not None:
                _check_number(f.name, value, meta, whole="int" in str(f.type) and "float" not in str(f.type))

    def but(self, **changes: Any) -> Self:
        """The same settings with some changed; raises SettingsError on an unknown name or a value out of bounds."""
        names = [f.name for f in fields(self)]
        for name in changes:
            if name not in names:
                raise SettingsError(f"There is no setting {name!r}; the settings are {', '.join(names)}.")
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        return cls().but(**row)


def _check_number(name: str, value: Any, meta: Mapping[str, Any], *, whole: bool) -> None:
    """Refuse a value that is no number (or not whole where it must be) or lies outside its bounds."""
    low = meta["low"] if meta["low"] is not None else float("-inf")
    high = meta["high"] if meta["high"] is not None else float("inf")
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if number and low <= value <= high:
        return
    kind = "a whole number" if whole else "a number"
    bounds = f"from {low:g} to {high:g}" if high != float("inf") else f"of at least {low:g}"
    raise SettingsError(f"{name} is {value!r}; it must be {kind} {bounds}. {meta['doc']}")
