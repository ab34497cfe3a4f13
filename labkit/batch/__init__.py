"""Batch: run notebooks without a person, check their parameters, and say truthfully how they ended.

A notebook uses two calls: `session = batch.begin(globals(), notebook="05_ppo_ptx")` right after its parameters cell and
`session.finish(stages=["ppo_ptx"], summary={...})` in its last cell. The command line uses the rest: `pipeline`
(`labkit run`), `sweep` (`labkit sweep`) and `report`. Importing this package loads neither papermill nor torch.
"""

from labkit.batch.parameters import Parameter, check_parameters, read_parameters
from labkit.batch.session import Session, begin

__all__ = ["Parameter", "Session", "begin", "check_parameters", "read_parameters"]
