"""Which weights a name means: a stage of the run, "base", a size of the world's bases, a folder, a hub name."""

from __future__ import annotations

import json
from pathlib import Path

from labkit.errors import ModelError, RunError
from labkit.runs import Run

__all__ = ["JUDGED", "models_of", "path_of"]

#: The models of a run that are judged where none is named, in the order in which they come to be.
JUDGED = ("base", "sft", "ppo_init", "ppo", "ppo_ptx")


def models_of(run: Run) -> list[str]:
    """Those of `JUDGED` that the run has; RunError where it has none."""
    found = [name for name in JUDGED if (_base(run) if name == "base" else run.stage(name).has_model)]
    if not found:
        raise RunError(f"{run.path} has no model to judge; train one first, or name a folder or a hub name with --models.")
    return found


def path_of(run: Run, name: str) -> str:
    """Where the weights of a model lie: an absolute path, or a hub name.

    A stage of the run comes before a folder of that name. Raises RunError where the stage has no finished model, and
    ModelError where it holds a reward model, which writes no text.
    """
    base = _base(run) if name == "base" else name
    if base is None:
        raise RunError(f"{run.path} does not say what its policy starts from; run 01_prompts first, or name a folder.")
    if name in JUDGED[1:] or (run.path / name / "run.json").is_file():
        if not run.stage(name).has_model:
            raise RunError(f"{run.path / name} has no finished model; run that stage first.")
        base = str(run.stage(name).model)
    return _written_by_a_language_model(_on_disk(base))


def _base(run: Run) -> str | None:
    """What the policy of a prepared run starts from."""
    return run.facts.get("model")


def _on_disk(name: str) -> str:
    """A size of the world -> its folder; a folder -> its absolute path; a hub name stays."""
    from labkit.world.pretrain import RECIPES, base_path

    if name in RECIPES:
        return str(base_path(name))
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _written_by_a_language_model(path: str) -> str:
    file = Path(path) / "config.json"
    kinds = json.loads(file.read_text(encoding="utf-8")).get("architectures") if file.is_file() else None
    if kinds and all(kind.endswith("ForTokenClassification") for kind in kinds):
        raise ModelError(f"{path} holds a reward model, which writes no text; benchmarks judge language models.")
    return path
