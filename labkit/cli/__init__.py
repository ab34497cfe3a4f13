"""The command line.

execute.py   run, notebook, demo, sweep, report, close, tidy, compare, replay
judge.py     agreement, screening, winrate, labels, benchmarks
studies.py   findings, folds, iterate, methods
world.py     world pretrain, world reader
common.py    what they share

Thin on purpose: each command imports what it needs when it is called, so that `labkit --help` starts at once.
A LabError ends in its one sentence on stderr, with exit code 2 for bad input and 1 for a run that failed.
"""

from __future__ import annotations

import sys

from labkit.cli import execute, judge, studies, world  # noqa: F401  (each hangs its commands on the application)
from labkit.cli.common import app
from labkit.errors import InvariantError, LabError, RunError

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except LabError as error:
        if "--debug" in sys.argv:
            raise
        print(str(error), file=sys.stderr)
        sys.exit(1 if isinstance(error, (RunError, InvariantError)) else 2)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        print(f"{error.filename or 'A file'}: {error.strerror}. Check the path and the free space.", file=sys.stderr)
        sys.exit(1)
