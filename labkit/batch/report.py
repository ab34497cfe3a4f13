"""The HTML report of a run: an index with its numbers, each executed notebook as a page, and the model sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labkit.batch import pages
from labkit.batch.pages import caution, duration, made_with, short, write_page
from labkit.batch.sheet import write_sheet
from labkit.errors import RunError
from labkit.runs import Run, StageFolder, stages_in

__all__ = ["notebook_page", "summary_table", "write_report"]

#: Static twins first: a page must show its figures without a kernel, a network or scripts.
PRIORITY = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/latex", "text/plain"]


def write_report(run: Run) -> Path:
    """Write runs/<name>/report/ and return its index.html; raises RunError where nothing was executed in `run`."""
    folder = run.path / "report"
    found = stages_in(run.path / "notebooks")
    if not found:
        raise RunError(f"{run.path} holds no executed notebook; run one first: labkit run {run.name}.")
    rows = []
    for record in found:
        executed = run.path / "notebooks" / f"{record.path.name}.ipynb"
        page, damaged = folder / f"{record.path.name}.html", ""
        if executed.is_file():
            try:
                notebook_page(executed, page)
            except RunError as error:  # the record tells how it ended, and the other pages are whole
                damaged = str(error)
        rows.append(_row(record, page.name if executed.is_file() and not damaged else "", damaged))
    sheet = write_sheet(run, folder / "sheet.html") if run.stages() else None
    return write_page(
        folder / "index.html",
        "report.html",
        title=f"Run {run.name}",
        made=made_with(run),
        caution=caution(run),
        folder=str(run.path),
        rows=rows,
        sheet=sheet,
    )


def notebook_page(executed: Path, page: Path) -> Path:
    """Turn an executed notebook into one HTML file that needs neither network nor scripts of others; formulas are MathML.

    Raises RunError where the notebook is no notebook, as one whose writer was killed.
    """
    import nbformat
    from traitlets.config import Config

    from labkit.batch.formulas import OfflineHTML

    try:
        notebook = nbformat.read(executed, as_version=4)
    except (ValueError, AttributeError, KeyError) as error:  # cut off, or JSON of another kind
        raise RunError(f"{executed} cannot be read as a notebook; run it again, or remove it.") from error
    exporter = OfflineHTML(config=Config({"NbConvertBase": {"display_data_priority": PRIORITY}}))
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": executed.stem}})
    return pages.write_text(page, body)


def summary_table(run: Run, notebook: str) -> str:
    """The numbers that `notebook` stated at its end, as a text table of two columns."""
    from tabulate import tabulate

    from labkit.batch.records import record_of

    summary = record_of(run, notebook).manifest.get("summary") or {}
    return tabulate([(k, short(v)) for k, v in summary.items()], (notebook, run.name), disable_numparse=True)


def _row(record: StageFolder, page: str, damaged: str) -> dict[str, Any]:
    manifest = record.manifest
    return {
        "notebook": record.path.name,
        "page": page,
        "status": record.status,
        "error": " ".join(filter(None, (manifest.get("error"), damaged))),
        "minutes": duration(manifest),
        "summary": [(k, short(v)) for k, v in (manifest.get("summary") or {}).items()],
    }
