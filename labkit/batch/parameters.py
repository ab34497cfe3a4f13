"""The parameters of a notebook: read from its tagged cell, checked before anything runs.

A parameters cell holds at most six assignments of scalars, each with a comment. Bounds come from the knob of that name
(`labkit.knobs`), or stand at the end of the comment; the values that a text may take stand there in braces:

    kl_coef = 0.02  # β: weight of the KL penalty
    pairs = 200  # comparisons to show [10, 5000]
    scale = "small"  # how much of everything {smoke, small, full}
"""

from __future__ import annotations

import ast
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from labkit import knobs
from labkit.errors import SettingsError

__all__ = ["Parameter", "check_parameters", "find_notebook", "parse_assignments", "read_parameters"]

MOST = 6
_BOUNDS = re.compile(r"\[\s*([-+.\w]+)\s*,\s*([-+.\w]+)\s*\]\s*$")
_CHOICES = re.compile(r"\{([^{}]+)\}\s*$")
_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a notebook: its default gives its type, its comment its meaning and bounds."""

    name: str
    default: bool | int | float | str
    doc: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, value: Any, notebook: str) -> Any:
        """Return `value`, as a float where the default is one; raise SettingsError on a wrong type or value."""
        kind = type(self.default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if kind is float and isinstance(value, float):
            value += 0.0  # -0.0 is 0.0: one point of a sweep, not two
        where = f"{notebook}: parameter {self.name} is {value!r}"
        if type(value) is not kind:
            raise SettingsError(f"{where}; it must be {_KINDS[kind]}, like its default {self.default!r}. {self.doc}")
        if kind in (int, float) and not self.low <= value <= self.high:
            raise SettingsError(f"{where}; it must {_describe_bounds(self.low, self.high)}. {self.doc}")
        if self.choices and value not in self.choices:
            raise SettingsError(f"{where}; it must be one of {', '.join(self.choices)}. {self.doc}")
        return value

    def parse(self, text: str, notebook: str) -> Any:
        """Turn the text of a command line into a checked value of this parameter."""
        kind = type(self.default)
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        try:
            value = words[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            raise SettingsError(
                f"{notebook}: parameter {self.name} is {text!r}; it must be {_KINDS[kind]}, like its default "
                f"{self.default!r}. {self.doc}"
            ) from None
        return self.check(value, notebook)


def find_notebook(name: str | Path, folder: Path | None = None) -> Path:
    """Path of a notebook given as a path or as a bare name such as "05_ppo_ptx"; raises SettingsError if there is none.

    A bare name is looked for in `folder`, else here, in ./notebooks and beside the library.
    """
    name = Path(name)
    file = name if name.suffix == ".ipynb" else name.with_name(name.name + ".ipynb")
    beside = Path(__file__).resolve().parents[2] / "notebooks"
    places = [folder] if folder else [Path(), Path("notebooks"), beside]
    for place in places:
        if (place / file).is_file():
            return (place / file).resolve()
    known = sorted({p.stem for place in places for p in place.glob("*.ipynb")})
    near = f" There are {', '.join(known)}." if known else ""
    raise SettingsError(f"There is no notebook {str(name)!r} in {' or '.join(dict.fromkeys(str(p.resolve()) for p in places))}.{near}")


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares, by name, in the order of its tagged cell.

    Raises SettingsError when the cell is missing, declares more than six, or one of them is no commented scalar.
    """
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        raise SettingsError(f"There is no notebook {notebook}.") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise SettingsError(
            f"{notebook} is not a notebook in JSON; open and save it in Jupyter, or restore it."
        ) from None
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise SettingsError(f"{notebook} has {len(tagged)} cells tagged 'parameters'; it must have one.")
    source = "".join(tagged[0]["source"])
    found = {p.name: p for p in _parse_cell(source, Path(notebook).name)}
    if len(found) > MOST:
        raise SettingsError(f"{notebook} declares {len(found)} parameters; at most {MOST} keep a notebook readable.")
    return found


def check_parameters(declared: Mapping[str, Parameter], given: Mapping[str, Any], notebook: str) -> dict[str, Any]:
    """All parameters with the given values in place of defaults, folders of one's own whole; unknown, mistyped and out-of-range ones raise."""
    from labkit.world.pretrain import own_folder

    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{notebook} has no parameter {name!r}; it has {', '.join(declared)}.{hint}")
    return {name: own_folder(name, p.check(given.get(name, p.default), notebook)) for name, p in declared.items()}


def parse_assignments(items: Iterable[str]) -> dict[str, str]:
    """Split the command line's `name=value` items; the values stay text until a notebook's parameter parses them."""
    found: dict[str, str] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name.strip().isidentifier():
            raise SettingsError(f"-p {item!r} is not understood; write -p name=value.")
        if name.strip() in found:
            raise SettingsError(f"-p {name.strip()} is given twice; give it once.")
        found[name.strip()] = value.strip()
    return found


def injected_names(namespace: Mapping[str, Any]) -> list[str]:
    """Names that papermill's injected cell assigned in this kernel, from the history of cells in `namespace["In"]`."""
    sources = [s for s in namespace.get("In", []) if isinstance(s, str) and s.startswith("# Parameters\n")]
    trees = [ast.parse(s) for s in sources]
    return [t.id for tree in trees for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]


def _parse_cell(source: str, notebook: str) -> Iterable[Parameter]:
    comments = _comments(source)
    for node in ast.parse(source).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(target, ast.Name) or getattr(node, "value", None) is None:
            raise SettingsError(f"{notebook}: line {node.lineno} of the parameters cell is no plain `name = value`.")
        default = _scalar(node.value, target.id, notebook)
        comment = comments.get(node.end_lineno, "")
        if not comment:
            raise SettingsError(f"{notebook}: parameter {target.id} has no comment; say beside it what it does.")
        yield _parameter(target.id, default, comment)


def _scalar(node: ast.expr, name: str, notebook: str) -> Any:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = None
    if type(value) not in _KINDS:
        raise SettingsError(f"{notebook}: the default of parameter {name} must be one number, text, True or False.")
    return value


def _parameter(name: str, default: Any, comment: str) -> Parameter:
    knob = _KNOBS.get(name)
    bounds, choices = _BOUNDS.search(comment), _CHOICES.search(comment)
    doc = _CHOICES.sub("", _BOUNDS.sub("", comment)).strip().rstrip(".")
    doc = f"{doc[:1].upper() if doc[:1].isascii() else doc[:1]}{doc[1:]}."  # a symbol stays: β is no Β
    if knob:
        return Parameter(name, default, doc, knob["low"], knob["high"])
    if bounds:
        return Parameter(name, default, doc, float(bounds[1]), float(bounds[2]))
    if choices:
        return Parameter(name, default, doc, choices=tuple(c.strip().strip("'\"") for c in choices[1].split(",")))
    return Parameter(name, default, doc)


def _comments(source: str) -> dict[int, str]:
    """Text of the comment on each line of `source`."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}


def _describe_bounds(low: float, high: float) -> str:
    if math.isinf(high):
        return f"be at least {low:g}"
    return f"be at most {high:g}" if math.isinf(low) else f"lie between {low:g} and {high:g}"


_KNOBS = {f.name: f.metadata for c in (knobs.SFTKnobs, knobs.RewardKnobs, knobs.PPOKnobs) for f in fields(c)}
