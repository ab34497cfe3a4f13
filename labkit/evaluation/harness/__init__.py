"""Judging models with EleutherAI's lm-evaluation-harness: the paper's public benchmarks, your own tasks, the world's miniatures.

    found = benchmarks(Run("main"), ["sft", "ppo_ptx"], ["world"])      # or ["paper"], or names of lm-eval's tasks
    print(found.text())                                                  # also in runs/main/benchmarks/results.json

lm-eval does the judging: its tasks, prompts and metrics, and its own `HFLM` around a model that the lab has loaded. It
is an extra (`pip install 'labkit[eval]'`); nothing of it is imported before it is used.

names.py   the paper's benchmarks by lm-eval's names, and what is left out, with the reason
tasks.py   from names to loaded tasks: lm-eval's own, a folder of yours, the lab's two folders below
local/     tasks that lm-eval lacks, on local data: QuAC, WMT15
world/     the world's miniatures as tasks of lm-eval: the examples to write your own by
lm.py      how a model of the lab is asked: `HFLM`, with the lab's way to encode a prompt
models.py  which weights a name means: a stage of the run, "base", a size, a folder, a hub name
judge.py   asks, and writes what was found
"""

from labkit.evaluation.harness.judge import Benchmarks, benchmarks
from labkit.evaluation.harness.names import LEFT_OUT, PAPER, WORLD

__all__ = ["LEFT_OUT", "PAPER", "WORLD", "Benchmarks", "benchmarks"]
