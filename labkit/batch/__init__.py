"""Batch: run notebooks without a person, check their parameters, and say truthfully how they ended.

A notebook uses two calls: `session = batch.begin(globals(), notebook="05_ppo_ptx")` right after its parameters cell and
`session.finish(stages=["ppo_ptx"], summary={...})` in its last cell. The command line uses the rest: `pipeline`
(`labkit run`), `sweep` (`labkit sweep`) and `report`. Importing this package loads neither papermill nor torch.

session.py      what a notebook says to the lab; parameters.py: its parameters, checked
notebooks.py    one notebook, headless; worker.py: the process that runs it; records.py: how it ended, whether it still holds
pipeline.py     01 to 06 in order; closing.py: what a machine that is gone left running; tidying.py: what lies aside
sweep.py        a grid of points; engines.py: where they run; parents.py: what they start from; compare.py: side by side
report.py       the pages of a run; sheet.py: its model sheet; pages.py, formulas.py: their HTML
"""

from labkit.batch.parameters import Parameter, check_parameters, read_parameters
from labkit.batch.session import Session, begin

__all__ = ["Parameter", "Session", "begin", "check_parameters", "read_parameters"]
