"""Figures by hand: drawn by the page at once, no wider than it, and kept as a picture for whoever opens the notebook."""

from __future__ import annotations

from tests.browser.lab import Lab

CELL = """
import plotly.graph_objects as go
from widgets.display import show
show(go.Figure(go.Scatter(x=[1, 2], y=[1, 3]), layout={"width": 1120, "height": 300, "title": {"text": "wide"}}))
"""
ROOM = """() => {
  const output = document.querySelector(".jp-OutputArea-output"), plot = output.querySelector(".plot-container svg");
  const [drawn, room] = [plot, output].map((node) => node.getBoundingClientRect());
  return { plot: drawn.width, output: room.width, height: Math.min(drawn.height, room.height) };
}"""


def test_a_wide_figure_is_drawn_at_once_and_fits(lab: Lab) -> None:
    lab.open([CELL])
    lab.run_all()
    lab.page.wait_for_selector(".jp-OutputArea-output .plot-container svg", timeout=60_000)
    found = lab.page.evaluate(ROOM)
    assert 300 < found["plot"] <= found["output"] < 1120
    lab.page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells[0].outputs[0].data['image/png']"
    )
    assert not lab.complaints()


def test_a_wide_figure_stays_on_the_page_whatever_becomes_of_the_window(lab: Lab) -> None:
    lab.open([CELL])
    lab.run_all()
    lab.page.wait_for_selector(".jp-OutputArea-output .plot-container svg", timeout=60_000)
    for width, height in ((1280, 1300), (1280, 900), (1000, 900), (1280, 1000)):
        lab.page.set_viewport_size({"width": width, "height": height})
        lab.page.wait_for_timeout(700)  # plotly waits for a window that is still being drawn larger
        found = lab.page.evaluate(ROOM)
        assert found["height"] == 300 and 0.9 * found["output"] < found["plot"] <= found["output"], (width, height, found)
    assert not lab.complaints()
