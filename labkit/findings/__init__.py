"""The paper's findings, reproduced in the world and decided by a program.

    labkit findings report --sizes small,medium,large --seeds 12,13,14,15,16
    labkit findings --plan

finding.py      one finding; evidence.py: claims over seeds and their verdicts
scales.py       how much of everything: the lab's scales and one of our own (scaled.py)
plan.py         which runs are needed, in which order; price.py: what they cost
pieces.py       how each of them is made; measure.py, curve.py, across.py, cost.py, judges.py, bestof.py: what is measured
execute.py      several at once, resumable
records.py      reading what was recorded; merge.py: seeds measured elsewhere; by_size.py: sweeps, size by size
preference.py, training.py, stages.py, beyond.py      the findings themselves; table.py: all of them
report.py, figures.py, tax_figure.py, drawing.py      the table, the page, a figure per finding; docs.py: docs/findings.md

Importing this package loads no torch; measuring from records needs none either.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "FINDINGS": "table",
    "about": "report",
    "best_of_n_kl": "bestof",
    "carry_out": "execute",
    "claim_rows": "report",
    "cost_rows": "figures",
    "figure_of": "figures",
    "find": "table",
    "load_plan": "plan",
    "measure_all": "report",
    "plan_of": "plan",
    "read_findings": "report",
    "summary_line": "report",
    "table_rows": "report",
    "table_text": "report",
    "whole_numbers": "plan",
    "write_reports": "report",
}

__all__ = [
    "FINDINGS",
    "about",
    "best_of_n_kl",
    "carry_out",
    "claim_rows",
    "cost_rows",
    "figure_of",
    "find",
    "load_plan",
    "measure_all",
    "plan_of",
    "read_findings",
    "summary_line",
    "table_rows",
    "table_text",
    "whole_numbers",
    "write_reports",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"labkit.findings has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"labkit.findings.{_HOMES[name]}"), name)
