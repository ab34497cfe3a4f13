"""Scales of the findings: those of the lab, and "findings", the tour with less of everything.

The paper's findings need some twenty PPO runs per seed. At the tour's size five seeds and three sizes would take many
hours of two cores, so each run learns from less, the same for every run and chosen for its cost alone:

    demonstrations 2,400 of 6,000, rankings 1,000 of 2,400 with 4 to 6 answers, PPO 16 iterations of 128
    episodes with a warm-up of 4

What it costs: policies end nearer to their start, and effects of RL are smaller beside the spread over seeds. Learning
rates, β and γ are those of the tour; nothing is tuned per finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.errors import SettingsError
from labkit.presets import SCALES as LAB_SCALES
from labkit.presets import STAGES, Preset, preset

if TYPE_CHECKING:
    from labkit.experiment import Amounts, Experiment
    from labkit.runs import Run

__all__ = ["FINDINGS_SCALE", "SCALES", "amounts_of", "departures", "lab_as_prepared", "lab_at", "preset_of"]

FINDINGS_SCALE = "findings"
SCALES = (FINDINGS_SCALE, *LAB_SCALES)
KIN = {FINDINGS_SCALE: "tour"}  # what a scale of ours departs from

TIME = "so that five seeds and three sizes fit into three hours of two cores"
WHY = {("ppo", "steps"): TIME, ("ppo", "warmup"): "a quarter of the iterations"}


def preset_of(scale: str) -> Preset:
    """The settings of all stages at a scale."""
    if scale not in SCALES:
        raise SettingsError(f"There is no scale {scale!r}; the scales are {', '.join(SCALES)}.")
    if scale != FINDINGS_SCALE:
        return preset(scale)
    tour = preset(KIN[scale])
    return Preset(
        scale,
        sft=tour.sft,
        ppo_init=tour.ppo_init,
        reward=tour.reward,
        ppo=tour.ppo.but(steps=16, warmup=4),
        ppo_knobs=tour.ppo_knobs,
        why={**tour.why, **WHY},
    )


def amounts_of(scale: str) -> Amounts:
    """How much of everything a scale takes."""
    from labkit.experiment import amounts

    if scale != FINDINGS_SCALE:
        return amounts(scale)
    return amounts(KIN[scale]).but(
        raw_prompts=18000, demonstrations=2400, rankings=1000, valid_rankings=160, k_high=6, pretraining_rows=1024,
        pretraining_texts=1000, snapshot_every=0,
    )  # fmt: skip


def departures(scale: str) -> dict[str, tuple[Any, Any]]:
    """name -> (here, at the kin's scale) for every setting, knob and amount that a scale of ours changes."""
    if scale not in KIN:
        return {}
    ours, theirs = amounts_of(scale).to_json(), amounts_of(KIN[scale]).to_json()
    for stage in STAGES:
        ours |= {f"{stage} {name}": value for name, value in preset_of(scale).stage(stage).items()}
        theirs |= {f"{stage} {name}": value for name, value in preset_of(KIN[scale]).stage(stage).items()}
    return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}


def lab_as_prepared(run: Run, scale: str | None = None, seed: int | None = None, **facts: Any) -> Experiment:
    """The Experiment of a run at the scale and seed that it was prepared with, where none is asked for; else "tour" and 0."""
    was = run.facts
    seed = was.get("seed", 0) if seed is None else seed
    return lab_at(run, scale or was.get("scale", "tour"), seed=seed, **facts)


def lab_at(run: Run, scale: str, **facts: Any) -> Experiment:
    """The Experiment of a run at any of these scales."""
    if scale not in KIN:
        from labkit.experiment import Experiment

        return Experiment(run, scale=scale, **facts)
    from labkit.findings.scaled import ScaledExperiment

    return ScaledExperiment(run, scale=scale, **facts)
