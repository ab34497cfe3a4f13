"""What a point of a sweep starts from: the stages and data that the notebooks before it made in a base run.

Weights are only ever replaced whole, so they are hard-linked where the disk allows it and cost nothing; all other files,
to which lines may be appended (a resume or a rollback of an ended stage does), are copied.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from labkit.batch.records import content_of, is_whole, makes, pipeline_notebooks, record_of
from labkit.disk import file_hash, let_write, may_not_read, put_aside, what_to_do, write_json
from labkit.errors import RunError
from labkit.runs import FACTS, Run, StageFolder

__all__ = ["bring", "bring_parents", "changed_since"]

NOTE = ".brought.json"  # in a point's folder: what it was brought, and in which state
#: Records and reports of the base, rounds that went on from it, and what was measured, or people said, of its own models.
_NOT_BROUGHT = {"notebooks", "report", "replay.json", "rounds", "labels-evaluation", "benchmarks", "evaluate-methods"}
_WEIGHTS = {"model", "epochs", "adapters"}  # folders of a stage


def bring_parents(base: Run, run: Run, notebook: Path, *, seed: int | None = None) -> None:
    """Make the base run's results before `notebook` part of `run`; again where the base has changed since.

    `seed` is the seed of `run` where it is not the base's: what is brought stays as it is, what comes after is drawn
    from `seed`. Raises RunError where the base run does not exist.
    """
    if not base.path.is_dir():
        raise RunError(f"{base.path} does not exist; run it first (labkit run {base.name}), or name another base run.")
    steps = pipeline_notebooks(notebook.parent)
    place = steps.index(notebook) if notebook in steps else len(steps)
    later = [notebook, *steps[place:]]
    own = {s for where in (base, run) for step in later for s in _made_by(where, step.stem)}
    own |= {name for step in later for name in makes(step)}  # also where a base's own notebooks made it otherwise (the tour)
    names = [p.name for p in sorted(base.path.iterdir()) if not {p.name, p.name.split("@")[0]} & (_NOT_BROUGHT | own)]
    wanted = [n for n in names if not n.endswith(".old") and not n.startswith(".") and _is_finished(base.path / n)]
    wanted += [f"notebooks/{step.stem}" for step in steps[:place] if record_of(base, step.stem).path.exists()]
    brought = _brought(run)
    for name in wanted:
        state = _state(base.path / name)
        if brought.get(name) != state:
            bring(base.path / name, run.path / name)
            brought[name] = state
    write_json(run.path / NOTE, brought)
    _restate_seed(run, seed)


def changed_since(base: Run, run: Run) -> list[str]:
    """What was brought from `base` to `run` and is another there by now; what the base has lost says nothing."""
    brought = _brought(run)
    return [name for name, state in brought.items() if (base.path / name).exists() and _state(base.path / name) != state]


def _brought(run: Run) -> dict[str, str]:
    note = run.path / NOTE
    return json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}


def _made_by(run: Run, notebook: str) -> set[str]:
    """Names of the stages and files that a notebook made in `run`, as far as it said so."""
    record = record_of(run, notebook)
    if record.status == "missing":
        return set()
    return {*record.manifest.get("stages", ()), *record.manifest.get("files", ())}


def _state(path: Path) -> str:
    """What tells two versions of a folder or file apart; run.json names the moment its stage was started."""
    if not _is_stage(path):
        return content_of(path)
    chosen = path / "epochs.json"  # another epoch may be chosen after the end
    return file_hash(path / "run.json") + (file_hash(chosen) if chosen.exists() else "")


def bring(source: Path, target: Path) -> None:
    """Put `source` at `target`; what stood there is moved aside."""
    scratch = target.with_name(f".{target.name}.{os.getpid()}.brought")  # a killed process leaves no half at `target`
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
        if source.is_file():
            shutil.copy2(source, scratch)
        else:
            _copy_folder(source, scratch)
        let_write(scratch)
        if target.exists():
            put_aside(target)
        scratch.rename(target)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error  # it lists (source, target, why)
        raise RunError(
            f"{source} could not be brought to {target}: {reason}. {may_not_read(source) or what_to_do(error)}; what stood there is as it was."
        ) from error


def _restate_seed(run: Run, seed: int | None) -> None:
    """Let the run's statement of what it was prepared with name its own seed, so that nothing looks mixed."""
    facts = run.facts
    if seed is not None and facts and facts.get("seed") != seed:
        write_json(run.path / FACTS, {**facts, "seed": seed, "data_seed": facts.get("data_seed", facts.get("seed"))})


def _is_finished(path: Path) -> bool:
    """Data, or a stage that is not under way."""
    return not _is_stage(path) or is_whole(StageFolder(path))


def _is_stage(path: Path) -> bool:
    return (path / "run.json").is_file()


def _copy_folder(source: Path, target: Path) -> None:
    """A folder of data whole; of a stage all but its snapshots, weights as links."""
    if not _is_stage(source):
        shutil.copytree(source, target)
        return

    def put(file: str, to: str) -> str:
        return (_link if Path(file).relative_to(source).parts[0] in _WEIGHTS else shutil.copy2)(file, to)

    shutil.copytree(source, target, copy_function=put, ignore=shutil.ignore_patterns("state"))


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        return shutil.copy2(source, target)
    return target
