"""Which runs the findings need: cells (a size and a seed), the variants that branch from them, and their order.

    runs/<name>/plan.json              scale, sizes, seeds, judge
    runs/<name>/<size>-s<seed>/        one Experiment: prompts, SFT, PPO init, reward model; a variant is a stage of it
    runs/<name>/across-s<seed>/        comparisons of models of different sizes

As in the paper, one reward model serves policies of every size: it learns from rankings of what the SFT model of the
judge's size wrote, by default the middle one (there 6B of 1.3B, 6B and 175B). Sweeps are made at one size by default,
the judge's, as in the paper (1.3B: figures 33 to 37, appendix E.9), because all three would make the whole cost twice as much;
what goes beyond the paper is measured at one size in any case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from labkit.disk import write_json
from labkit.errors import SettingsError
from labkit.findings.scales import SCALES, amounts_of, preset_of
from labkit.presets import STAGES
from labkit.runs import Run, check_name

__all__ = [
    "DEVELOPMENT_SEEDS",
    "METHODS",
    "MODELS",
    "NEW_RANKINGS",
    "ROUNDS",
    "SIZES",
    "Plan",
    "Task",
    "Variant",
    "load_plan",
    "plan_of",
    "variants",
    "whole_numbers",
]

SIZES = ("small", "medium", "large")
DEVELOPMENT_SEEDS = range(12)  # used while the lab was built; a report uses others
ACROSS = "across"
#: Of the main evaluation: those of figures 1 and 3, and the model that RL starts from, so that what RL gains is not
#: taken for what a better supervised start gives.
MODELS = ("base", "few-shot", "sft", "ppo_init", "ppo", "ppo_ptx")
METHODS = ("dpo", "kto", "rloo", "grpo")  # of TRL, on the same prompts and rankings
#: Pieces that no row of the paper waits for: made after those of every seed, so that a report is early, then fuller.
BEYOND = ("members", "best-of-n", "rounds", "method", "evaluate-methods", "sheet")
ROUNDS = 3  # of iterated RLHF
NEW_RANKINGS = 0.25  # of each further round, as a share of the first round's: its reward models cost most of it

#: The sweeps. β as in the paper's figures 34 and 36, where 0.01 to 0.02 is best and 0 and 2 are poor; γ and learning
#: rate as multiples of the preset, because their scale depends on reductions that the paper does not state.
#: Only points that a claim decides by, and those that a figure needs to have three.
BETAS = {"ppo": (0.0, 0.5, 2.0), "ppo_ptx": (0.0, 2.0)}
GAMMA_FACTORS = (0.01, 3.0)
LR_FACTORS = {"ppo": (8.0,), "ppo_ptx": (8.0,)}  # where PPO and PPO-ptx part, on development seeds
LONGER = 2  # times the iterations
MEMBERS = 3  # reward models of the ensemble
ENSEMBLE = "ppo-ensemble"
ENSEMBLE_BETA = 0.0  # no KL penalty: nothing but the judges keeps the policy honest


@dataclass(frozen=True)
class Variant:
    """One PPO run that differs from the preset: `knobs` replace single knobs, the rest says where it starts."""

    name: str  # its stage folder
    ptx: bool
    knobs: Mapping[str, float] = field(default_factory=dict)
    longer: int = 1
    init: str = "ppo_init"
    ensemble: bool = False


@dataclass(frozen=True)
class Task:
    """One piece of work: what (a function of `labkit.findings.pieces`), in which run folder, after which others."""

    piece: str
    run: str
    size: str
    seed: int
    argument: str = ""
    needs: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.run}/{self.piece}{'.' + self.argument if self.argument else ''}"


@dataclass(frozen=True)
class Plan:
    """Scale, sizes, seeds; judge: whose answers the reward model learns from; sweep: sizes at which sweeps are made."""

    scale: str
    sizes: tuple[str, ...]
    seeds: tuple[int, ...]
    judge: str
    sweep: tuple[str, ...]
    made_with: str = ""  # hash of the settings that its records were made with, where it is not today's

    @property
    def further(self) -> str:
        """The one size at which it is measured what goes beyond the paper: the judge's where it is swept."""
        return self.judge if self.judge in self.sweep else self.sweep[0]

    @property
    def settings(self) -> str:
        """Short hash of all that the scale, the sweeps, the contest of prompts and the world set: what was made with others is another set."""
        if self.made_with:
            return self.made_with
        from labkit.experiment.prompted import RULES

        stages = {stage: preset_of(self.scale).stage(stage) for stage in STAGES}  # not the reasons given for them
        told = [stages, amounts_of(self.scale), variants(self.scale), NEW_RANKINGS, MEMBERS, ROUNDS, RULES, *_world()]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:12]

    def cell(self, size: str, seed: int, home: Path) -> Run:
        """The run folder of a size and a seed."""
        return Run(f"{size}-s{seed}", home)

    def across(self, seed: int, home: Path) -> Run:
        """The folder of comparisons between sizes."""
        return Run(f"{ACROSS}-s{seed}", home)

    def tasks(self) -> list[Task]:
        """Everything that must be done, each after what it needs; seed by seed, and first what the paper's rows wait for."""
        found: list[Task] = []
        for seed in self.seeds:
            for size in sorted(self.sizes, key=lambda s: s != self.judge):  # the judge first: the others need its RM
                found += self._cell_tasks(size, seed)
            run, needs = f"{ACROSS}-s{seed}", tuple(f"{size}-s{seed}/evaluate" for size in self.sizes)
            ends = f"{self.sizes[0]}-{self.sizes[-1]}"  # with other sizes it is another comparison
            found.append(Task("across", run, ACROSS, seed, ends, needs))
        return sorted(found, key=_is_beyond)  # the order of the rest stays

    def _cell_tasks(self, size: str, seed: int) -> list[Task]:
        run = f"{size}-s{seed}"

        def task(piece: str, *needs: str, argument: str = "") -> Task:
            local = tuple(n if "/" in n else f"{run}/{n}" for n in needs)
            return Task(piece, run, size, seed, argument, local)

        foreign = () if size == self.judge else (f"{self.judge}-s{seed}/judge",)
        found = [task("base"), task("judge", "base", *foreign), task("measure", "judge")]
        chosen = variants(self.scale) if size in self.sweep else variants(self.scale)[:2]
        for variant in chosen:
            if variant.ensemble and size != self.further:
                continue
            extra = ["init-nomix"] if variant.init != "ppo_init" else []
            extra += ["members"] if variant.ensemble else []
            found.append(task("variant", "judge", *extra, argument=variant.name))
        found += [task("evaluate", "variant.ppo", "variant.ppo_ptx"), task("cost", "variant.ppo_ptx")]
        if size in self.sweep:
            found += [task("init-nomix", "base"), task("sft-long", "judge")]
        if size == self.further:
            found += [task("members", "judge"), task("best-of-n", "judge"), task("rounds", "judge", "variant.ppo_ptx")]
            found += [task("method", "judge", argument=name) for name in METHODS]
            found.append(task("evaluate-methods", "variant.ppo_ptx", *(f"method.{name}" for name in METHODS)))
        if size == self.judge:
            found += [task("folds", "judge"), task("batching", "judge")]
        return [*found, task("sheet", *(t.key for t in found))]

    def to_json(self) -> dict[str, object]:
        told = {name: value for name, value in asdict(self).items() if name != "made_with"}
        return {**told, "settings": self.settings}


def _world() -> list[object]:
    """What judges, labelers and pretrained bases are made of."""
    from labkit.world.judge import WEIGHTS
    from labkit.world.labelers import SLIPS, hire_labelers
    from labkit.world.pretrain import BASES

    recipes = [file.read_text(encoding="utf-8") for file in sorted(BASES.glob("*/recipe.json"))]
    return [dict(WEIGHTS), dict(SLIPS), [asdict(h) for h in hire_labelers()], recipes]


def _is_beyond(task: Task) -> bool:
    return task.piece in BEYOND or task.argument == ENSEMBLE


def variants(scale: str) -> list[Variant]:
    """PPO and PPO-ptx as in the preset, then everything that a sweep changes, one thing at a time."""
    knobs = preset_of(scale).ppo_knobs
    found = [Variant("ppo", False), Variant("ppo_ptx", True)]
    for kind, betas in BETAS.items():
        named = {f"{kind}-beta={b:g}": b for b in betas if b != knobs.kl_coef}
        found += [Variant(name, kind == "ppo_ptx", {"kl_coef": beta}) for name, beta in named.items()]
    for factor in GAMMA_FACTORS:
        found.append(Variant(f"ppo_ptx-gamma=x{factor:g}", True, {"ptx_coef": factor * knobs.ptx_coef}))
    for kind, factors in LR_FACTORS.items():
        rates = {f"{kind}-lr=x{f:g}": min(f * knobs.policy_lr, 0.1) for f in factors}
        found += [Variant(name, kind == "ppo_ptx", {"policy_lr": rate}) for name, rate in rates.items()]
    found.append(Variant("ppo-longer", False, longer=LONGER))
    found.append(Variant("ppo_ptx-nomix", True, init="ppo_init-nomix"))
    found.append(Variant(ENSEMBLE, False, {"kl_coef": ENSEMBLE_BETA}, ensemble=True))
    return found


def plan_of(
    scale: str, sizes: Sequence[str], seeds: Sequence[int], *, judge: str = "", sweep: Sequence[str] = ()
) -> Plan:
    """A checked plan. judge: by default the middle size, as the paper's 6B RM; sweep: the judge's size."""
    if scale not in SCALES:
        raise SettingsError(f"There is no scale {scale!r}; the scales are {', '.join(SCALES)}.")
    for size in [*sizes, *sweep, *([judge] if judge else [])]:
        if size not in SIZES:
            raise SettingsError(f"There is no size {size!r}; the sizes are {', '.join(SIZES)}.")
    if not sizes or not seeds or len(set(seeds)) < len(seeds):
        raise SettingsError("Give at least one size and one seed, and no seed twice.")
    ordered = tuple(s for s in SIZES if s in sizes)
    judge = judge or ordered[(len(ordered) - 1) // 2]
    if judge not in ordered:
        raise SettingsError(f"The judge {judge!r} is none of the sizes {', '.join(ordered)}; add it to --sizes.")
    chosen = tuple(s for s in ordered if s in (sweep or [judge]))
    return Plan(scale, ordered, tuple(sorted(seeds)), judge, chosen)


def whole_numbers(text: str) -> list[int]:
    """ "11,12,13" -> [11, 12, 13]."""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise SettingsError(f"{text!r} is no list of whole numbers; write them with commas: 11,12,13.") from None


def load_plan(home: Path, wanted: Plan | None = None) -> Plan:
    """The plan of `home`; with `wanted`, that one is written there; it may add sizes and seeds to an earlier one."""
    check_name(home.name)
    file = home / "plan.json"
    row = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    found = row and Plan(row["scale"], tuple(row["sizes"]), tuple(row["seeds"]), row["judge"], tuple(row["sweep"]))
    if wanted is None:
        if found is None:
            raise SettingsError(f"{home} holds no findings; make them first: labkit findings {home.name}.")
        told = row.get("settings", found.settings)  # older plans did not say
        return found if told == found.settings else replace(found, made_with=told)
    if found and (found.scale, found.judge) != (wanted.scale, wanted.judge):
        raise SettingsError(
            f"{home} was made at scale {found.scale} with a {found.judge} judge, now it is {wanted.scale} with "
            f"{wanted.judge}; use another name, or the same values."
        )
    if row and row.get("settings", wanted.settings) != wanted.settings:  # older plans did not say
        raise SettingsError(
            f"{home} was made with other settings of scale {found.scale} (a preset, an amount or a sweep has changed since); "
            "its records would not be comparable with new ones. Use another name."
        )
    if found:
        wanted = plan_of(
            wanted.scale,
            {*found.sizes, *wanted.sizes},
            sorted({*found.seeds, *wanted.seeds}),
            judge=found.judge,
            sweep={*found.sweep, *wanted.sweep},
        )
    write_json(file, wanted.to_json())
    return wanted
