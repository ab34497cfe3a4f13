"""The browser side of a board: its ES module and style sheet, loaded by path and joined with the modules it imports.

anywidget hands one module to the page, where a relative import has nothing to be relative to. A board's `<stem>.js`
may therefore import names from `.mjs` files beside it (which node tests alone); each of those is laid in front of it
as one constant, `const visible_mjs = (() => { ...; return { segments }; })();`, so that private names never collide.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

__all__ = ["css", "esm"]

_HERE = Path(__file__).parent
_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([a-z_]+)\.mjs";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:const|let|function|class) (\w+))", re.MULTILINE)


@cache
def esm(stem: str) -> str:
    """The whole ES module of a board: every `.mjs` it needs, once and in order, then `<stem>.js`."""
    parts: dict[str, str] = {}
    body = _linked((_HERE / f"{stem}.js").read_text(encoding="utf-8"), parts)
    return "\n".join([*parts.values(), body])


@cache
def css(*stems: str) -> str:
    """The style sheets `<stem>.css`, joined."""
    return "\n".join((_HERE / f"{stem}.css").read_text(encoding="utf-8") for stem in stems)


def _linked(source: str, parts: dict[str, str]) -> str:
    """`source` with its imports turned into constants; the modules it imports are added to `parts` before it."""
    for _, name in _IMPORT.findall(source):
        if name not in parts:
            inner = _linked((_HERE / f"{name}.mjs").read_text(encoding="utf-8"), parts)
            names = ", ".join(found for _, found in _EXPORT.findall(inner))
            body = _EXPORT.sub(lambda m: m[1], inner)
            parts[name] = f"const {name}_mjs = (() => {{\n{body}\nreturn {{ {names} }};\n}})();\n"
    return _IMPORT.sub(lambda m: f"const {m[1].replace(' as ', ': ')} = {m[2]}_mjs;\n", source)
