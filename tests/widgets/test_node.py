"""The boards' pure logic, tested by node's own test runner, and the modules that Python joins for the page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from labkit.figures.panels import PANELS
from widgets.assets import esm

HERE = Path(__file__).parent
node = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed; the browser tests still run the modules"
)


@node
@pytest.mark.parametrize("file", sorted(p.name for p in HERE.glob("*.test.mjs")))
def test_pure_logic(file: str) -> None:
    done = subprocess.run(["node", "--test", str(HERE / file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^(# |ℹ )pass [1-9]", done.stdout, re.MULTILINE), done.stdout


@node
@pytest.mark.parametrize("stem", sorted(p.stem for p in (HERE.parents[1] / "widgets").glob("*.js")))
def test_the_joined_module_parses_and_exports_a_renderer(stem: str, tmp_path: Path) -> None:
    file = tmp_path / f"{stem}.mjs"
    file.write_text(esm(stem), encoding="utf-8")
    script = f'const m = await import("file://{file}"); process.exit(typeof m.default.render === "function" ? 0 : 3)'
    done = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 'from "./' not in file.read_text(encoding="utf-8")


def test_nothing_is_fetched_from_elsewhere() -> None:
    for file in (HERE.parents[1] / "widgets").iterdir():
        if file.suffix in {".js", ".mjs", ".css"}:
            text = file.read_text(encoding="utf-8").replace("http://www.w3.org/", "")
            assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write", text), file.name


def test_every_series_of_a_panel_is_named_beside_its_title() -> None:
    named = re.search(r"^const NAMED = (\d+);", (HERE.parents[1] / "widgets" / "chart_view.mjs").read_text(encoding="utf-8"), re.M)
    assert int(named[1]) >= max(len(panel.series) for panels in PANELS.values() for panel in panels)
