"""The paper's benchmarks by the names of lm-eval's tasks, and which of them are left out and why. No lm-eval is needed to read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["LEFT_OUT", "NEEDS_FILE", "PAPER", "WORLD", "asked_for"]

#: The paper's public benchmarks (appendix D) and the tasks of lm-eval 0.4.13 that ask their questions. Prompts and metrics
#: are lm-eval's, not the paper's: on Winogender, say, it counts right answers where the paper measures entropy.
PAPER: dict[str, tuple[str, ...]] = {
    "TruthfulQA": ("truthfulqa_mc1", "truthfulqa_mc2", "truthfulqa_gen"),
    "Winogender": ("winogender_all",),
    "CrowS-Pairs": ("crows_pairs_english",),
    "SQuAD v2": ("squadv2",),
    "DROP": ("drop",),
    "HellaSwag": ("hellaswag",),
    "RTE": ("rte",),
    "SST": ("sst2",),
    "WSC": ("wsc",),
    "QuAC": ("quac",),
    "WMT15": ("wmt15-fr-en",),
}
#: What lm-eval cannot measure so that the number would mean something.
LEFT_OUT = {
    "RealToxicityPrompts": "lm-eval has its toxicity scored by the Perspective service, over the network and with a key, and "
    "counts a request that failed as not toxic",
}
#: Tasks of the lab's own, for benchmarks that lm-eval lacks, and the file in the folder of local data that each reads.
NEEDS_FILE = {
    "quac": ("QuAC", "quac.jsonl", "rows with context, answer and aliases"),
    "wmt15-fr-en": ("WMT15", "wmt15-fr-en.jsonl", "rows with fr and en"),
}
#: The world's miniatures, asked by lm-eval; toxicity is judged from many samples by the world's judge, and stays with the lab (06_evaluate).
WORLD = (
    "world_truthfulness",
    "world_bias",
    "world_continuation",
    "world_reading",
    "world_counting",
    "world_translation",
)


def asked_for(names: Sequence[str], data: Path | None = None) -> tuple[list[str], list[str]]:
    """The tasks that these names mean ("paper" and "world" stand for several), and a sentence on each that is left out.

    data: the folder of local data. A task that reads a file of it is part of "paper" only where that file lies there.
    """
    tasks, told = [], []
    for name in names:
        if name == "world":
            tasks += WORLD
        elif name == "paper":
            tasks += [task for own in PAPER.values() for task in own if has_data(task, data)]
            told += [f"{benchmark} is left out: {reason}." for benchmark, reason in LEFT_OUT.items()]
            told += [_lacking(task) for task in NEEDS_FILE if not has_data(task, data)]
        else:
            tasks.append(name)
    return list(dict.fromkeys(tasks)), list(dict.fromkeys(told))


def has_data(task: str, data: Path | None) -> bool:
    """Whether the file that a task of the lab's own reads lies in the folder, plain or as .gz; true for all other tasks."""
    if task not in NEEDS_FILE:
        return True
    return data is not None and any(data.glob(f"{NEEDS_FILE[task][1]}*"))


def _lacking(task: str) -> str:
    benchmark, file, fields = NEEDS_FILE[task]
    return f"{benchmark} is left out: lm-eval has no such task, and the lab's own reads {file} ({fields}) from the folder given with --data."
