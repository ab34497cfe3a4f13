"""The lab's own notebooks as a person opens them: laid into the server's folder at smoke scale, walked to the end, looked at.

    run = take(smoke_run, server, "02_sft", run="main")   # the notebook, and a copy of the run that it goes on from
    stops = walk(lab.visit("02_sft.ipynb"))               # "Run All", and on from each cell that waits for a training
    look(lab)                                             # everything it shows is really drawn, and nothing is cut off
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from typing import Any

from labkit.batch.records import record_of
from labkit.runs import Run
from tests.browser.lab import ROOT, Lab, LabServer

WAITS = "When the board says done"  # of a cell whose training goes on, or whose model is being written
WHOLE = 500_000  # ms: a whole notebook, where others keep both cores busy
SMOKE = {"scale": "smoke", "model": "small"}  # where a notebook asks for them
PLOTLY, TABLE = "application/vnd.plotly.v1+json", "text/html"
#: Of the boards, what has to be there: curves, rows and tokens, cards.
BOARDS = {".lkc": ".lkc-canvas", ".lki": ".lki-list tbody tr", ".rb": '[data-key^="card:"]'}


def take(server: LabServer, name: str, made: Run | None = None, *, without: tuple[str, ...] = (), **parameters: Any) -> Run:
    """Lay a notebook into the server's folder with these parameters, and under its `run` a copy of a run made before.

    without: stages that are left out of the copy.
    """
    book = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    (cell,) = [c for c in book["cells"] if "parameters" in c["metadata"].get("tags", [])]
    source = "".join(cell["source"])
    for key, value in {**{k: v for k, v in SMOKE.items() if f"\n{k} = " in source}, **parameters}.items():
        source, found = re.subn(rf"(?m)^{key} = \S+", lambda _, k=key, v=value: f"{k} = {json.dumps(v)}", source)
        assert found == 1, f"{name} has no parameter {key}"
    cell["source"] = source
    (server.root / f"{name}.ipynb").write_text(json.dumps(book), encoding="utf-8")
    run = Run(re.search(r'(?m)^run = "(\w+)"', source)[1], server.root / "runs")
    run.path.parent.mkdir(exist_ok=True)  # else the notebook looks for it beside the folder
    if made is not None:
        shutil.rmtree(run.path, ignore_errors=True)
        shutil.copytree(made.path, run.path, ignore=shutil.ignore_patterns(*without))
    return run


def cell_with(lab: Lab, words: str) -> int:
    """The first cell whose source has these words."""
    return next(i for i, cell in enumerate(lab.cells()) if words in "".join(cell["source"]))


def click_cell(lab: Lab, index: int) -> None:
    lab.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-InputPrompt").click()


def choose(lab: Lab, item: str) -> None:
    """Choose something of the menu Run, and wait until no cell runs or waits any more."""
    lab.page.get_by_role("menuitem", name="Run", exact=True).click()
    lab.page.get_by_role("menuitem", name=item, exact=True).click()
    lab.page.wait_for_timeout(500)
    lab.page.wait_for_function(
        "() => ![...document.querySelectorAll('.jp-Notebook .jp-InputPrompt')].some((p) => p.textContent.includes('*'))",
        polling=100,
        timeout=WHOLE,
    )
    lab.wait_kernel()


def walk(lab: Lab, meanwhile: Callable[[], None] | None = None) -> list[int]:
    """Run All; then, as its line says, on from each cell that waits for a training. Returns the cells where it stopped.

    meanwhile: what the hand does while the first of them trains.
    """
    choose(lab, "Run All Cells")
    stops: list[int] = []
    while waiting := [(i, e) for i, e in failures(lab) if WAITS in e]:
        ((stop, said),) = waiting
        assert "\n" not in said and "Run Selected Cell and All Below" in said, "one line, that says how to go on"
        if meanwhile and not stops:
            meanwhile()
        lab.page.wait_for_function("() => [...document.querySelectorAll('.lkc-pill')].every((pill) => pill.dataset.status === 'done')")
        click_cell(lab, stop)
        choose(lab, "Run Selected Cell and All Below")
        assert not stops or stop > stops[-1]
        stops.append(stop)
    assert not lab.errors(), "\n".join(lab.errors())
    return stops


def failures(lab: Lab) -> list[tuple[int, str]]:
    """Where a cell ended in an error, and what it says."""
    outputs = [(i, o) for i, cell in enumerate(lab.cells()) for o in cell.get("outputs", [])]
    return [(i, "\n".join(o["traceback"])) for i, o in outputs if o["output_type"] == "error"]


def look(lab: Lab) -> None:
    """Every output of the notebook is drawn, whole and legible; every cell with code ran; nobody complains."""
    cells = lab.cells()
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    nodes = lab.page.locator(".jp-Notebook .jp-Cell")
    for index, cell in enumerate(cells):
        node = nodes.nth(index)
        node.scroll_into_view_if_needed()
        seen = node.evaluate(_SEEN)
        here = f"cell {index}: {''.join(cell['source'])[:80]}"
        assert not seen["cut"], f"{here}: cut off: {seen['cut']}"
        kinds = [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]
        assert len(seen["figures"]) == kinds.count(PLOTLY), here
        for figure in seen["figures"]:
            assert figure["marks"] > 0 and figure["width"] > 300 and figure["height"] > 100, f"{here}: an empty figure: {figure}"
            assert not figure["outside"] and not figure["over"], f"{here}: {figure}"
        assert seen["tables"] >= sum("<table" in str(o.get("data", {}).get(TABLE, "")) for o in cell.get("outputs", [])), here
        assert seen["empty"] == 0, f"{here}: a table without rows"
    for board, parts in BOARDS.items():
        for one in lab.page.locator(f"{board}:not({board} *)").all():
            one.scroll_into_view_if_needed()
            one.locator(parts).first.wait_for()
    assert lab.page.evaluate(_BLANK) == [], "charts of the boards without a line"
    assert lab.complaints() == []


def summary_of(lab: Lab, run: Run, name: str) -> dict[str, Any]:
    """What the notebook's own record says of its outcome; where the last cell ends with a table, it says the same."""
    record = record_of(run, name)
    assert record.status == "done", record.manifest
    summary = record.manifest["summary"]
    last = lab.page.locator(".jp-Notebook .jp-Cell").last
    rows = [row.split("\t") for row in last.locator("table").last.locator("tbody tr").all_inner_texts()]
    assert [row[0] for row in rows] == list(summary), "the last cell shows them all"
    return summary


#: What a reader of one cell sees. marks: drawn traces of a size; outside: texts that leave their figure; over: a title that lies
#: on the legend; cut: what is wider than its box and does not say so by an ellipsis of its own.
_SEEN = """(cell) => {
    const box = (node) => node.getBoundingClientRect();
    const real = (node) => box(node).width + box(node).height > 1;
    const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
    const figures = [...cell.querySelectorAll('.js-plotly-plot')].map((plot) => {
        const frame = box(plot), svg = plot.querySelector('svg.main-svg');
        const texts = [...plot.querySelectorAll('svg text')].filter((t) => t.textContent && real(t));
        const inside = (b) => b.left >= frame.left - 2 && b.right <= frame.right + 2 && b.top >= frame.top - 2 && b.bottom <= frame.bottom + 2;
        const heads = [...plot.querySelectorAll('.gtitle, .annotation-text-g')].filter(real);
        const names = [...plot.querySelectorAll('.legendtext')].filter(real);
        return {
            width: Math.min(frame.width, svg ? box(svg).width : 0), height: Math.min(frame.height, svg ? box(svg).height : 0),
            marks: [...plot.querySelectorAll('.trace path, .trace rect, .trace circle')].filter(real).length,
            outside: texts.filter((t) => !inside(box(t))).map((t) => t.textContent),
            over: heads.filter((h) => names.some((n) => !apart(box(h), box(n)))).map((h) => h.textContent),
        };
    });
    const boxes = '.jp-OutputArea-output, .jp-OutputArea-output table, .lkc figcaption, .lkc-key, .cm-scroller, .jp-RenderedMarkdown';
    const clipped = [...cell.querySelectorAll(boxes)].filter((b) => real(b) && b.scrollWidth > b.clientWidth + 1);
    const right = box(cell).right;
    const past = [...cell.querySelectorAll('.jp-OutputArea-output *')].filter((n) => real(n) && box(n).right > right + 1 && !n.closest('svg'));
    const cut = [...clipped, ...past].map((b) => `${b.className}: ${b.textContent.slice(0, 60)}`);
    const tables = [...cell.querySelectorAll('.labkit-static table')];
    return { figures, cut, tables: tables.filter(real).length, empty: tables.filter((t) => !t.querySelector('tbody tr td')).length };
}"""

#: Names of the boards' charts whose canvas holds no coloured pixel.
_BLANK = """() => [...document.querySelectorAll('.lkc-chart:not([hidden])')].filter((chart) => {
    const canvas = chart.querySelector('canvas');
    if (!canvas.width || !canvas.height) return true;
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < pixels.length; i += 4) {
        if (pixels[i + 3] > 100 && Math.max(...pixels.slice(i, i + 3)) - Math.min(...pixels.slice(i, i + 3)) > 60) return false;
    }
    return true;
}).map((chart) => chart.dataset.panel)"""
