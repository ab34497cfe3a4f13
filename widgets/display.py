"""How a board shows itself: alive by hand, as a static twin when nobody can touch it.

A notebook is run by hand or headless (papermill, nbclient, a plain Python script). Nothing in the kernel marks
papermill, so our own runner says it: `LABKIT_HEADLESS=1`. Without that variable a cell that carries no JupyterLab
cell id is taken as headless. `LABKIT_HEADLESS=0` insists on the live boards.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labkit.figures.text import cell
from labkit.jobs.waiting import HEADLESS_VARIABLE, from_a_page, headless_asked, running_kernel

__all__ = [
    "HEADLESS_VARIABLE",
    "drawn_by_the_page",
    "is_headless",
    "show",
    "show_table",
    "static_bundle",
    "table_html",
    "table_text",
]

PLOTLY = "application/vnd.plotly.v1+json"
LONGEST_WORD = 32  # letters of a word that is not broken
WIDE = 800  # pixels: a figure of more takes the width that the page has


def is_headless() -> bool:
    """True when no person can touch a widget here: a batch run of a notebook, a script, a test."""
    asked = headless_asked()
    if asked is not None:
        return asked
    kernel = running_kernel()
    return kernel is None or not from_a_page(kernel)


def show(thing: Any) -> None:
    """Display `thing` in the notebook; in a plain script print its text. A plotly figure brings a PNG twin along."""
    if hasattr(thing, "to_plotly_json"):
        thing = _Figure(thing)
    if running_kernel() is not None:
        from IPython.display import display

        display(thing)
        return
    bundle = getattr(thing, "_repr_mimebundle_", None)
    made = bundle() if bundle else None
    data = made[0] if isinstance(made, tuple) else made
    print((data or {}).get("text/plain") or str(thing))


def show_table(rows: Iterable[Any], *, columns: Sequence[str] = (), caption: str = "", below: Sequence[str] = ()) -> None:
    """Display rows as a table; every cell is escaped and shown as it is.

    A row is a mapping, or one of the lab's words (a Prompt, a Completion). columns: which to show, in which order;
    below: sentences under the table.
    """
    rows = [row.to_json() if hasattr(row, "to_json") else row for row in rows]
    header = list(columns) or list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(key, row.get(key, "")) for key in header] for row in rows]
    show(_Table(header, cells, caption, below))


class _Table:
    def __init__(
        self, header: Sequence[str], cells: Sequence[Sequence[str]], caption: str, below: Sequence[str]
    ) -> None:
        self.header, self.cells, self.caption, self.below = header, cells, caption, below

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        text = "\n".join([table_text(self.header, self.cells), *self.below])
        said = "".join(f"<p>{html.escape(line)}</p>" for line in self.below)
        return static_bundle(f"{self.caption}\n{text}".lstrip(), table_html(self.header, self.cells, self.caption) + said)


class _Figure:
    def __init__(self, figure: Any) -> None:
        self.figure = figure

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        from labkit.figures import bundle

        return drawn_by_the_page(bundle(self.figure))


def drawn_by_the_page(made: Mapping[str, Any]) -> dict[str, Any]:
    """By hand, a figure's bundle without its picture, and without a width that a page may not have; else as it is.

    JupyterLab shows a picture as long as there is one, as large as its pixels, until the mouse is over it. Without one it
    draws the figure at once, as wide as there is room, and keeps a picture of that for whoever opens the notebook.
    JupyterLab itself fits the figure to a window that changes; plotly doing so too (`responsive`) forgets the height, and
    the figure is gone.
    """
    if PLOTLY not in made or is_headless():
        return dict(made)
    body = dict(made[PLOTLY])
    layout = dict(body["layout"])
    if layout.get("width", 0) > WIDE:
        del layout["width"]
        body["config"] = {**body.get("config", {}), "responsive": False}
    return {**{kind: data for kind, data in made.items() if kind != "image/png"}, PLOTLY: {**body, "layout": layout}}


def _cell(column: str, value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else cell(column, str(value))


def static_bundle(text: str, body: str) -> dict[str, str]:
    """A mime bundle of a static twin: readable `text` and an HTML `body` whose every value is already escaped."""
    return {"text/plain": text, "text/html": f'<div class="labkit-static mathjax_ignore">{body}</div>'}


def table_html(header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """An HTML table with every cell escaped and line breaks kept."""
    head = "".join(f'<th scope="col" style="text-align:left;white-space:{_space(str(h))}">{html.escape(str(h))}</th>' for h in header)
    body = "".join(f"<tr>{''.join(_cell_html(str(c)) for c in row)}</tr>" for row in rows)
    wide = "text-align:left;width:max-content;max-width:min(60em, 90vw)"  # wider than a narrow table, of one column say
    title = f"<caption style='{wide}'>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell_html(text: str) -> str:
    """Words stay whole, but for those that no table could hold; a cell of one word also at its hyphens, as best-of-16."""
    wrap = "anywhere" if max(map(len, text.split()), default=0) > LONGEST_WORD else "normal"
    style = f"text-align:left;vertical-align:top;white-space:{_space(text)};max-width:48em;overflow-wrap:{wrap}"
    return f'<td style="{style}">{html.escape(text)}</td>'


def _space(text: str) -> str:
    return "nowrap" if len(text.split()) == 1 and len(text) <= LONGEST_WORD else "pre-wrap"


def table_text(header: Sequence[str], rows: Iterable[Sequence[Any]], width: int = 60) -> str:
    """The same table for a terminal: one line per row, long cells cut at `width` characters."""
    lines = [[_clip(str(c), width) for c in row] for row in [header, *rows]]
    sizes = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join("  ".join(c.ljust(s) for c, s in zip(line, sizes, strict=True)).rstrip() for line in lines)


def _clip(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
