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
  return { plot: plot.getBoundingClientRect().width, output: output.getBoundingClientRect().width };
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
