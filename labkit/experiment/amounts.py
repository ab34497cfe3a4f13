"""How much of everything a scale takes: prompts, demonstrations, rankings, evaluation; beside the paper's sizes (Table 6)."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.errors import SettingsError
from labkit.settings import Settings, setting

__all__ = ["Amounts", "amounts"]


@dataclass(frozen=True)
class Amounts(Settings):
    """Sizes of one run at one scale."""

    raw_prompts: int = setting(30000, "Prompts drawn before the preparation (the paper prepares about 100k).", low=50)
    demonstrations: int = setting(6000, "Demonstrations for SFT (paper: 12,725).", low=2)
    rankings: int = setting(2400, "Rankings for the reward model, one prompt each (paper: 33,207).", low=2)
    valid_rankings: int = setting(240, "Rankings of validation prompts (paper: 17,887).", low=2)
    k_low: int = setting(4, "Fewest completions per ranking (paper: 4).", low=2, high=9)
    k_high: int = setting(9, "Most completions per ranking (paper: 9).", low=2, high=9)
    pretraining_rows: int = setting(4096, "Packed pretraining rows held ready for PPO-ptx.", low=1)
    pretraining_texts: int = setting(2000, "Pretraining documents held ready for the PPO init mix.", low=1)
    valid_prompts: int = setting(200, "Validation prompts on which knobs and epochs are chosen.", low=1)
    test_prompts: int = setting(300, "Test prompts of the evaluation, from held-out customers.", low=1)
    snapshot_every: int = setting(2, "PPO iterations between resumable snapshots; 0 for none.", low=0)


_SCALES = {
    "smoke": Amounts(
        raw_prompts=600, demonstrations=96, rankings=24, valid_rankings=8, k_low=4, k_high=5, pretraining_rows=64,
        pretraining_texts=40, valid_prompts=16, test_prompts=16, snapshot_every=1,
    ),
    "tour": Amounts(),
    "full": Amounts(
        raw_prompts=100000, demonstrations=12725, rankings=12000, valid_rankings=1000, test_prompts=1000, snapshot_every=10,
    ),
}  # fmt: skip


def amounts(scale: str) -> Amounts:
    """Sizes at one scale: smoke, tour or full."""
    if scale not in _SCALES:
        raise SettingsError(f"There is no scale {scale!r}; the scales are {', '.join(_SCALES)}.")
    return _SCALES[scale]
