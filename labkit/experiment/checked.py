"""What a run is prepared from, looked at once before anything is written, so that no stage trains towards an error of its data."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.data.splits import SPLITS
from labkit.errors import DataError
from labkit.experiment.own import splits_beside
from labkit.experiment.sources import FolderSource, Source
from labkit.types import Prompt

__all__ = ["check_given"]

NEEDED = {"train": "all stages learn from these", "valid": "epochs and knobs are chosen on these", "test": "models are judged on these"}


def check_given(source: Source, prompts: Sequence[Prompt], seed: int) -> None:
    """Raise DataError where prepared prompts leave a split empty, or a folder's other files cannot be used as they are."""
    by_split = {split: [p for p in prompts if p.split == split] for split in SPLITS}
    for split, rows in by_split.items():
        if not rows:
            raise DataError(_empty(source, split, f"none of the {len(prompts)} prompts that are left"))
    if not isinstance(source, FolderSource):
        return
    for split in ("train", "valid"):
        if not source.demonstrations(by_split[split], seed):
            raise DataError(_empty(source, split, "no demonstration"))
    if source.has_rankings:
        splits_beside(source.rankings(), by_split, seed)
    if source.has_pretraining:
        source.pretraining(1, seed)


def _empty(source: Source, split: str, what: str) -> str:
    return (
        f"In {source.name} {what} is of the split {split!r}, and {NEEDED[split]}. Say of some rows that they are "
        f'("split": "{split}"), or of none and give at least three prompts.'
    )
