"""Replay of a whole recorded run, from the prompts to PPO-ptx; says of each stage whether its numbers and weights are the same.

What is taken over is what people did and chose: the run's facts (scale, seed, models, data), its labels and cards, each
stage's settings and ledger, and where a stage was stopped. All else is made anew in a run of its own; the old run is
only read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.disk import file_hash, let_write, read_jsonl, write_json, write_jsonl
from labkit.errors import LabError, RunError
from labkit.experiment.needs import is_there, parents_that_changed
from labkit.experiment.replay_stage import KNOBS, kind_of, replay_job
from labkit.experiment.sources import FolderSource
from labkit.jobs.threads import sharing
from labkit.models import load_policy, model_hash
from labkit.runs import FACTS, Run, StageFolder
from labkit.types import Step

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.experiment.lab import Experiment

__all__ = ["Replayed", "compare_stages", "facts_of", "replay_run"]

EQUAL, DIFFERENT, NOT_MADE = "equal", "differ", "not replayed"
RESULT = "replay.json"  # in the new run: what it was made from, and the rows


@dataclass(frozen=True)
class Replayed:
    """What became of one part of the record: numbers and weights are "equal", "differ" or empty where there are none."""

    part: str
    steps: int | None = None
    numbers: str = NOT_MADE
    weights: str = ""
    note: str = ""

    @property
    def same(self) -> bool:
        return self.numbers == EQUAL and self.weights in (EQUAL, "")


def facts_of(run: Run) -> dict[str, Any]:
    """What a run was prepared with (scale, seed, model, reward_base, data); RunError where it cannot be prepared again."""
    facts = run.facts
    if not facts:
        raise RunError(f"{run.path} was not prepared: {run.path / FACTS} is missing, so there is nothing to replay. Check the name.")
    if "data_seed" in facts:
        raise RunError(
            f"{run.path} is a point of a sweep: its prompts came from a run with seed {facts['data_seed']}, so it cannot be "
            "replayed from its own record. Replay the run that the sweep started from."
        )
    return facts


def replay_run(old: Run, lab: Experiment, *, say: Callable[[str], None] = print) -> list[Replayed]:
    """Make `old` again in the run of `lab`, an Experiment with the facts of `old` in an empty folder; a row per part.

    In order: prompts, sft, ppo_init, the rankings with the labels by hand, reward, the choice of SFT's epoch, PPO and
    PPO-ptx, branches and variants too, as far as `old` holds them. A part that cannot be replayed says why.
    """
    if lab.run.path.exists() and any(lab.run.path.iterdir()):
        raise RunError(f"{lab.run.path} is not empty; give the replay a name of its own. Nothing was changed.")
    rows = []
    for part, carry_out in _parts(old, lab, say):
        say(f"{part}: replaying")
        try:
            row = carry_out()
        except LabError as error:
            row = Replayed(part, note=str(error))
        weights = f", weights {row.weights}" if row.weights else ""
        say(f"{part}: {row.numbers}{weights}{'. ' + row.note if row.note else ''}")
        rows.append(row)
        write_json(lab.run.path / RESULT, {"of": str(old.path), "parts": [asdict(r) for r in rows]})
    return rows


def compare_stages(recorded: StageFolder, made: StageFolder) -> Replayed:
    """Two records of one stage: every number of every step (but seconds), every knob, and the hash of what was saved."""
    now, found = made.steps(), _first_difference(recorded.steps(), made.steps())
    weights = EQUAL if all(_hash(made.path / p.name) == _hash(p) for p in _saved(recorded)) else DIFFERENT
    row = Replayed(recorded.path.name, len(now), DIFFERENT if found else EQUAL, weights)
    return row if row.same else replace(row, note=f"{found} {_circumstances(recorded, made)}".strip())


# -- the parts --------------------------------------------------------------------------------------------------------


def _parts(old: Run, lab: Experiment, say: Callable[[str], None]) -> Iterator[tuple[str, Callable[[], Replayed]]]:
    stages, others = _stages(old)
    if others:
        say(f"Left out, as no stage that a ledger steers: {', '.join(others)}.")
    yield "prompts", partial(_prompts, old, lab)
    yield from ((name, partial(_stage, old, lab, name)) for name in stages["sft"] + stages["ppo_init"])
    if is_there(old, "rankings"):
        yield "rankings", partial(redrawn, old, lab)
    yield from ((name, partial(_stage, old, lab, name)) for name in stages["reward"])
    if _chosen_by_score(old.stage("sft")):
        yield "epoch of sft", partial(_epoch, old, lab)
    yield from ((name, partial(_stage, old, lab, name)) for name in stages["ppo"])
    _bring_labels(old, lab.run)  # whole: the new run stands where the old one does


def _stages(old: Run) -> tuple[dict[str, list[str]], list[str]]:
    """Names of the stages by kind, those that others are made from before their variants; and of all other records."""
    found: dict[str, list[str]] = {kind: [] for kind in KNOBS}
    others = []
    for stage in old.stages():
        try:
            found[kind_of(stage.path)].append(stage.path.name)
        except LabError:
            others.append(stage.path.name)
    return {kind: sorted(names, key=lambda n: (n not in KNOBS, n)) for kind, names in found.items()}, sorted(others)


def _prompts(old: Run, lab: Experiment) -> Replayed:
    lab.prepare()
    other = [name for name in ("prompts", "demonstrations") if file_hash(old.path / name) != file_hash(lab.run.path / name)]
    note = f"{' and '.join(other)} came out otherwise: another version of the world or of the preparation, or other files in {lab.data}."
    return Replayed("prompts", numbers=DIFFERENT, note=note) if other else Replayed("prompts", numbers=EQUAL)


def _stage(old: Run, lab: Experiment, name: str) -> Replayed:
    """One stage trained again under its own name."""
    recorded = old.stage(name)
    if not is_there(old, name):
        raise RunError(f"{recorded.path} is {recorded.status} and left no model, so there is nothing to compare with.")
    if changed := [parent for parent in parents_that_changed(old, name) if parent != "labels"]:  # their logs tell the time
        raise RunError(
            f"{recorded.path} was made from other {' and '.join(changed)} than {old.path} holds now, so its record does not say how."
        )
    if kind_of(recorded.path) == "reward":
        _bring_labels(old, lab.run, before=recorded)
    job, _ = replay_job(lab, recorded.path, name=name)
    job.start().result(block=True)
    row = compare_stages(recorded, job.folder)
    if row.same or "@" not in name or kind_of(recorded.path) != "reward":
        return row
    forked = "A branch of a reward model goes on from one that was centred where it branched off, which moves last digits."
    return replace(row, note=f"{row.note} {forked}")


def redrawn(old: Run, lab: Experiment) -> Replayed:
    """The completions drawn and ranked again, by the weights that the record names."""
    if isinstance(lab.source, FolderSource) and not lab.source.has_rankings:  # people made them, and nobody wrote down when they were split
        shutil.copytree(old.path / "rankings", lab.run.path / "rankings")
        let_write(lab.run.path / "rankings")
        return Replayed("rankings", numbers=EQUAL, note="Taken over: they were ranked by hand.")
    _bring_labels(old, lab.run, before=old.stage("reward"))
    with sharing(_threads(old)):
        lab.rank(_policies(old, lab))
    same = file_hash(old.path / "rankings") == file_hash(lab.run.path / "rankings")
    note = "" if same else "Other completions were drawn, or they were ranked otherwise: see whether sft is equal."
    return Replayed("rankings", numbers=EQUAL if same else DIFFERENT, note=note)


def _policies(old: Run, lab: Experiment) -> dict[str, PreTrainedModel] | None:
    """The base and that epoch of SFT whose weights drew the recorded completions: rankings may be made after its choice."""
    if isinstance(lab.source, FolderSource):
        return None
    drawn = {
        completion["sampling"].get("weights")
        for row in read_jsonl(old.path / "rankings" / "train.jsonl")
        for completion in row["completions"]
        if completion["model"].startswith("sft-")
    } - {None}  # older records do not say
    home = lab.run.stage("sft")
    for folder in [home.model, *sorted((home.path / "epochs").glob("[0-9]*"))]:
        model = load_policy(folder)
        if drawn <= {model_hash(model)}:
            return {"base": load_policy(lab.model), "sft": model}
    raise RunError(
        f"The completions in {old.path / 'rankings'} were drawn from an SFT model that is none of the epochs of "
        f"{home.path}: of a training before the recorded one, or of one that came out otherwise here."
    )


def _epoch(old: Run, lab: Experiment) -> Replayed:
    """The choice of SFT's epoch by the reward model, as 04_reward makes it."""
    if not is_there(lab.run, "reward"):
        raise RunError(f"{lab.run.stage('reward').path} was not replayed, so there is nothing to choose by.")
    was = _epochs(old.stage("sft"))
    with sharing(_threads(old)):
        lab.choose_sft_epoch()
    now = _epochs(lab.run.stage("sft"))
    same = _scores(was) == _scores(now)
    weights = file_hash(old.stage("sft").model) == file_hash(lab.run.stage("sft").model)
    note = "" if same else f"Epoch {was['chosen']['epoch']} was chosen, here it is {now['chosen']['epoch']}."
    return Replayed("epoch of sft", None, EQUAL if same else DIFFERENT, EQUAL if weights else DIFFERENT, note)


# -- small parts ------------------------------------------------------------------------------------------------------


def _bring_labels(old: Run, new: Run, *, before: StageFolder | None = None) -> None:
    """Copy labels and cards, of the logs what was there when the stage `before` read them; there may be more by now."""
    if not (old.path / "labels").is_dir():
        return
    shutil.copytree(old.path / "labels", new.path / "labels", dirs_exist_ok=True)
    let_write(new.path / "labels")
    if before is None or before.status == "missing":
        return
    read = min([before.manifest["started"], *(row["time"] for row in before.ledger())])  # a rollback starts it anew
    for log in sorted((new.path / "labels").glob("*.jsonl")):
        write_jsonl(log, [event for event in read_jsonl(log) if event.get("time", 0.0) <= read])


def _threads(old: Run) -> int | None:
    """How many threads drew and judged completions: nobody wrote it down, so as many as the stage beside them says."""
    for name in ("reward", "sft"):
        if old.stage(name).status != "missing":
            return old.stage(name).manifest.get("threads")
    return None


def _epochs(stage: StageFolder) -> dict[str, Any]:
    file = stage.path / "epochs.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _chosen_by_score(stage: StageFolder) -> bool:
    return (_epochs(stage).get("chosen") or {}).get("by") == "rm_score"


def _scores(told: Mapping[str, Any]) -> Any:
    """The choice without the places where the models lie."""
    return [{k: v for k, v in row.items() if k != "path"} for row in [*told["epochs"], told["chosen"]]]


def _saved(stage: StageFolder) -> list[Path]:
    """The models that a stage left: SFT's epochs too, and of an SFT from which an epoch was chosen later these alone."""
    paths = [stage.path / "epochs", *([] if _chosen_by_score(stage) else [stage.model])]
    return [path for path in paths if path.is_dir()]


def _hash(folder: Path) -> str:
    return file_hash(folder) if folder.is_dir() else ""


def _first_difference(was: list[Step], now: list[Step]) -> str:
    """The first number that is another, as a sentence; empty where there is none."""
    for one, other in zip(was, now, strict=False):
        mine, theirs = _told(one), _told(other)
        for name in sorted({*mine, *theirs}):
            if mine.get(name) != theirs.get(name):
                return f"Step {one.number}: {name} was {mine.get(name)}, here it is {theirs.get(name)}."
    return "" if len(was) == len(now) else f"It had {len(was)} steps, here it has {len(now)}."


def _told(step: Step) -> dict[str, str]:
    """All numbers of a step but seconds, digit for digit."""
    numbers = {k: v for k, v in step.metrics.items() if not k.startswith("time_")} | dict(step.knobs)
    return {name: repr(value) for name, value in {"number": step.number, **numbers}.items()}


def _circumstances(recorded: StageFolder, made: StageFolder) -> str:
    """What else was another when the record was written: versions, machine, threads."""
    was, now = recorded.manifest, made.manifest
    old, new = was.get("versions", {}), now["versions"]
    pairs = {name: (old.get(name), new.get(name)) for name in {**old, **new}}
    pairs |= {name: (was.get(name), now.get(name)) for name in ("commit", "platform", "threads")}
    told = [f"{name} {a} then and {b} here" for name, (a, b) in pairs.items() if a != b]
    return f"Not the same: {'; '.join(told)}." if told else "Versions, platform and threads are the same."
