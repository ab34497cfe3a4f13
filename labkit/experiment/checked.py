"""The data of a run, checked before anything is written, so that no stage fails on them after an hour of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.data.splits import SPLITS
from labkit.errors import DataError
from labkit.experiment.own import splits_beside
from labkit.experiment.sources import FolderSource, Source
from labkit.models import CONTEXT, context_of, encode_prompt
from labkit.reward import encode_rankings
from labkit.types import Prompt, Ranking

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["check_given"]

NEEDED = {"train": "all stages learn from these", "valid": "epochs and knobs are chosen on these", "test": "models are judged on these"}
WHAT = {"train": "training", "valid": "held-out"}


def check_given(lab: Experiment, prompts: Sequence[Prompt]) -> None:
    """Raise DataError where prepared prompts leave a split empty, or a folder's other files cannot be used as they are."""
    source, by_split = lab.source, {split: [p for p in prompts if p.split == split] for split in SPLITS}
    for split, rows in by_split.items():
        if not rows:
            raise DataError(_empty(source, split, f"none of the {len(prompts)} prompts that are left"))
    if not isinstance(source, FolderSource):
        return
    for split in ("train", "valid"):
        if not source.demonstrations(by_split[split], lab.seed):
            raise DataError(_empty(source, split, "no demonstration"))
    if source.has_rankings:
        _check_usable(lab, splits_beside(source.rankings(), by_split, lab.seed)[0])
    if source.has_pretraining:
        source.pretraining(1, lab.seed)


def _check_usable(lab: Experiment, rankings: Mapping[str, Sequence[Ranking]]) -> None:
    """Raise the reward model's own error where all rankings of a part are tied or too long for it."""
    settings, context = lab.preset.reward, context_of(lab.reward_base) or CONTEXT
    longest = settings.max_prompt_tokens or context // 2
    for split, rows in rankings.items():
        if not any(r.pairs() and len(encode_prompt(lab.tokenizer, r.prompt.text)) <= longest for r in rows):
            encode_rankings(lab.tokenizer, rows, settings, context, what=f"{WHAT[split]} comparisons in {lab.data}")


def _empty(source: Source, split: str, what: str) -> str:
    return (
        f"In {source.name} {what} is of the split {split!r}, and {NEEDED[split]}. Say of some rows that they are "
        f'("split": "{split}"), or of none and give at least three prompts.'
    )
