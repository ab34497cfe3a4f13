"""Content hashes of what a run is made from besides its own stages: the models it begins with, pretraining text, labels by hand.

Each is computed from the run folder alone, so that it can be compared with the one in a stage's run.json at any time. None
where an older run does not record what it was made from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from labkit.disk import file_hash
from labkit.labels.store import labels_hash
from labkit.runs import Run
from labkit.world.pretrain import model_path

__all__ = ["ORIGINS", "origin_hash"]

LARGE, PIECES, PIECE = 1 << 26, 64, 1 << 16  # of a file over 64 MB so many pieces of 64 kB count, from all over, and its size
PARTS = (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")  # of a model's folder: no READMEs, no pictures
DOCUMENTS = 400  # of the world's: a program writes them, and these show which


def origin_hash(run: Run, name: str) -> str | None:
    """Twelve hex digits: labels, base (what the policy starts from), reward_base (the same of the reward model) or pretraining."""
    return ORIGINS[name](run)


def _model(run: Run, name: str) -> str | None:
    """Of the model that the run was prepared with: its config, weights and tokenizer, whatever else lies beside them."""
    given = run.facts.get(name)
    folder = given and _folder(model_path(given))
    return _short([[f.name, _file(f)] for f in sorted(folder.iterdir()) if f.suffix in PARTS and f.is_file()]) if folder else None


def _pretraining(run: Run) -> str | None:
    """Of the folder's pretraining.txt, or of what the world writes in its place; which part is used, seed and scale say."""
    data = run.facts.get("data")
    if data == "world":
        return _of_the_world()
    file = Path(data or "") / "pretraining.txt"
    return _file(file) if data and file.is_file() else None


@cache
def _of_the_world() -> str:
    from labkit.world.corpus import documents
    from labkit.world.facts import build_world

    return _short(list(documents(build_world(0), 0, DOCUMENTS)))


def _folder(model: str) -> Path | None:
    """Where a model's files lie: a folder, or a hub model as far as it has been loaded."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model, "config.json")
    except HFValidationError:  # the name of a folder that is gone
        return None
    return Path(config).parent if isinstance(config, str) else None


def _file(file: Path) -> str:
    """Of a file's content; of a large one of its size and of pieces, so that billions of weights cost no more than a few."""
    size = file.stat().st_size
    if size <= LARGE:
        return file_hash(file)
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for i in range(PIECES):
            stream.seek((size - PIECE) * i // (PIECES - 1))
            digest.update(stream.read(PIECE))
    return digest.hexdigest()[:12]


def _short(told: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:12]


#: name -> its hash in a run.
ORIGINS: Mapping[str, Callable[[Run], str | None]] = {
    "labels": lambda run: labels_hash(run.path / "labels"),
    "base": lambda run: _model(run, "model"),
    "reward_base": lambda run: _model(run, "reward_base"),
    "pretraining": _pretraining,
}
