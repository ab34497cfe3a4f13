"""The run that this folder's files share: trained once per session, by whichever worker comes first; each file has a copy."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from labkit.experiment import Experiment
from labkit.runs import Run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; only to be copied."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"  # what all workers see
    home.mkdir(exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait until it is whole
        if not (home / "whole").exists():
            making = Experiment(Run("making", home), scale="smoke", model="small")
            making.ensure("sft", "ppo_init", "reward", "ppo", "ppo_ptx", say=lambda line: None)
            making.run.path.rename(home / "whole")
    return home / "whole"


@pytest.fixture(scope="module")
def lab(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The file's own copy of the run: its tests may add stages and labels."""
    run = Run("whole", tmp_path_factory.mktemp("runs"))
    shutil.copytree(trained, run.path)
    return Experiment(run, scale="smoke", model="small")
