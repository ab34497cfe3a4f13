"""Tiny notebooks for the tests of the batch floor: a parameters cell, the session, any cells in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nbformat

PARAMETERS = """\
run = "tiny"  # name of the folder under runs/
seed = 0  # every random draw comes from it [0, 1000000]
kl_coef = 0.02  # β: weight of the KL penalty
scale = "small"  # how much of everything {small, full}
quick = True  # leave the long part out
pairs = 200  # comparisons to show [10, 5000]"""

FINISH = "session.finish(summary={'reward': 2.0 * kl_coef + seed})"


def write_notebook(
    path: Path,
    cells: Sequence[str] = (),
    *,
    parameters: str = PARAMETERS,
    finish: str = FINISH,
    makes: Sequence[str] = (),
) -> Path:
    """Write a notebook whose cells lie between `begin` and `finish`; an empty `finish` leaves the last cell out.

    makes: what its metadata say that it makes.
    """
    tagged = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    begin = f"from labkit import batch\nsession = batch.begin(globals(), notebook={str(path)!r})"
    code = [begin, *cells, *([finish] if finish else [])]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell(f"# {path.stem}"), tagged, *map(nbformat.v4.new_code_cell, code)],
        metadata={"kernelspec": kernel, **({"labkit": {"makes": list(makes)}} if makes else {})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def train(stage: str, status: str = "done") -> str:
    """A cell that runs a stage of its own, which ends in `status`."""
    return (
        f"stage = session.run.stage({stage!r})\n"
        "stage.begin(settings={'kl_coef': kl_coef}, seed=seed)\n"
        f"stage.finish({status!r}, error={'out of luck' if status == 'failed' else None!r})"
    )
