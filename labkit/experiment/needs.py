"""What each stage of a run needs, which of it is missing, and which is stale: made from something that has changed since.

`ensure` makes what is missing. It trains nothing anew that is there: where its parents have changed it says so, since
whoever trained a new reward model may still want to look at the old policy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.disk import file_hash
from labkit.errors import SettingsError
from labkit.experiment.origins import ORIGINS, origin_hash
from labkit.runs import Run

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["NEEDS", "answered_by", "ensure", "fingerprints", "is_there", "parents_that_changed", "ppo_stages"]

#: What preparing and ranking leave, the last file last.
DATA = {
    "prompts": ("prompts/train.jsonl", "prompts/valid.jsonl", "prompts/test.jsonl", "demonstrations/train.jsonl", "demonstrations/valid.jsonl"),
    "rankings": ("rankings/train.jsonl", "rankings/valid.jsonl"),
}  # fmt: skip
FOLDERS = ("prompts", "demonstrations", "rankings")  # parents that are data; all others are models, or origins
NEEDS = {
    "sft": ("prompts",),
    "ppo_init": ("prompts",),
    "rankings": ("sft",),
    "reward": ("rankings",),
    "ppo": ("ppo_init", "reward"),
    "ppo_ptx": ("ppo_init", "reward"),
}
MADE_IN = {"ppo_init": "02_sft", "sft": "02_sft", "reward": "04_reward", "ppo": "05_ppo_ptx", "ppo_ptx": "05_ppo_ptx"}


def ensure(lab: Experiment, *wanted: str, say: Callable[[str], None] = print, looked_at: set[str] | None = None) -> None:
    """Make what is missing of these and of what they need; say of what is there whether it still fits together.

    wanted: prompts, sft, ppo_init, rankings, reward, ppo, ppo_ptx. looked_at: stages of which it was said already.
    """
    looked_at = set() if looked_at is None else looked_at
    make: dict[str, Callable[[], object]] = {
        "prompts": lab.prepare,
        "sft": lambda: lab.sft_job().start().result(block=True),
        "ppo_init": lambda: lab.sft_job(init=True).start().result(block=True),
        "rankings": lab.rank,
        "reward": lambda: lab.reward_job().start().result(block=True),
        "ppo": lambda: lab.ppo_job(ptx=False).start().result(block=True),
        "ppo_ptx": lambda: lab.ppo_job().start().result(block=True),
    }
    for name in wanted:
        if name not in make:
            raise SettingsError(f"There is nothing called {name!r} to be made; there are {', '.join(make)}.")
        if not is_there(lab.run, name):
            ensure(lab, *NEEDS.get(name, ()), say=say, looked_at=looked_at)
            say(f"{lab.run.path / name} is not there yet: making it first, at scale {lab.scale}.")
            make[name]()
        else:
            for line in _that_changed(lab.run, name, looked_at):
                say(line)
        if name == "reward" and _epoch_is_open(lab.run):  # also where a process ended between the two
            say(f"Choosing the epoch of {lab.run.path / 'sft'} by the score of that reward model.")
            lab.choose_sft_epoch()


def ppo_stages(lab: Experiment) -> list[str]:
    """The PPO stages that an evaluation of the run is about: both, unless γ = 0 was chosen or there is no pretraining text."""
    mixed = lab.data == "world" or lab.source.has_pretraining
    alone = is_there(lab.run, "ppo") or not mixed
    return ["ppo"] if alone and not is_there(lab.run, "ppo_ptx") else ["ppo", "ppo_ptx"]


def is_there(run: Run, name: str) -> bool:
    """Whether a stage left a model, or data are whole: a killed process may have left some of the files."""
    if name in DATA:
        return all((run.path / file).exists() for file in DATA[name])
    return run.stage(name).has_model


def fingerprints(run: Run, *names: str) -> dict[str, str]:
    """Content hashes of what a stage is made from, for its manifest: data and stages of the run, and its origins.

    Origins (labels, base, reward_base, pretraining) that cannot be told are left out.
    """
    found = {name: origin_hash(run, name) if name in ORIGINS else file_hash(_place(run, name)) for name in names}
    return {name: told for name, told in found.items() if told is not None}


def answered_by(models: Sequence[str], prompts: bool = True) -> list[str]:
    """The parents of answers of these models, named as `labkit.experiment.answers` takes them; each once.

    prompts: whether the run's own prompts were asked.
    """
    found = ["prompts"] if prompts else []
    for model in models:
        if model.startswith("best-of-"):
            found += ["sft", "reward"]
        else:
            found += {"base": ["base"], "few-shot": ["base", "demonstrations"]}.get(model, [model])
    return list(dict.fromkeys(found))


def parents_that_changed(run: Run, stage: str) -> list[str]:
    """Names of what a trained stage was made from, by its run.json, that has another content in the run by now.

    Left out: what is gone, prompts that a sweep brought from a run with another seed, names that an older run.json lacks.
    """
    recorded = run.stage(stage).manifest.get("parents") or {}
    brought = "data_seed" in run.facts
    there = [name for name in recorded if not (name == "prompts" and brought) and _is_still_there(run, name)]
    now = fingerprints(run, *there)
    return [name for name in there if name in now and recorded[name] != now[name]]


def _is_still_there(run: Run, name: str) -> bool:
    return name in ORIGINS and name != "labels" or _place(run, name).is_dir()


def _place(run: Run, name: str) -> Path:
    """Where data of the run lie, or the model of one of its stages."""
    return run.path / name if name in (*FOLDERS, "labels") else run.stage(name).model


def _that_changed(run: Run, name: str, looked_at: set[str]) -> list[str]:
    """A sentence for the stage and for each that it needs, where its parents have changed; the first ones first, each once."""
    if name in looked_at:
        return []
    looked_at.add(name)
    before = [n for n in NEEDS.get(name, ()) if is_there(run, n)]
    told = [line for n in before for line in _that_changed(run, n, looked_at)]
    if name not in MADE_IN or not (changed := parents_that_changed(run, name)):
        return told
    others = " and ".join(changed)
    return [
        *told,
        f"{run.path / name} was made from other {others} than lie there now; it stays as it is. "
        f"{MADE_IN[name]} trains it again.",
    ]


def _epoch_is_open(run: Run) -> bool:
    """Whether the SFT epochs were kept to be chosen from by a reward model, and none has chosen yet."""
    told = run.stage("sft").path / "epochs.json"
    kept = any((run.stage("sft").path / "epochs").glob("[0-9]*"))
    if not (kept and told.is_file() and run.stage("sft").status in ("done", "stopped")):
        return False
    return (json.loads(told.read_text(encoding="utf-8"))["chosen"] or {}).get("by") != "rm_score"
