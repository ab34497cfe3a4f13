"""Records of executed notebooks, and whether they still hold.

runs/<name>/notebooks/<notebook>/run.json says how a notebook ended and what went in: its code, its parameters, and what
the notebooks before it had made. Where any of these is different now, the record is stale, and `stale` says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.disk import file_hash
from labkit.labels.store import labels_hash
from labkit.runs import Run, StageFolder

__all__ = ["code_hash", "content_of", "inputs_of", "is_whole", "makes", "outputs_of", "pipeline_notebooks", "record_of", "stale"]

LARGE = 1 << 22  # bytes


def record_of(run: Run, notebook: str) -> StageFolder:
    """Where the outcome of `notebook` (its bare name) in `run` is written."""
    return StageFolder(run.path / "notebooks" / notebook)


def pipeline_notebooks(folder: Path) -> list[Path]:
    """The steps of the method in `folder`, in order: 01 to 06; the tour (00) and the findings (07) stand apart."""
    return sorted(p for p in folder.glob("0[1-6]_*.ipynb"))


def makes(notebook: Path) -> list[str]:
    """Names of the stages and files that a notebook says it makes, in its metadata: {"labkit": {"makes": [...]}}."""
    return json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("labkit", {}).get("makes", [])


def code_hash(notebook: Path) -> str:
    """Short hash of the code cells; prose and outputs do not count, nor do the defaults of the parameters."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [
        "".join(c["source"])
        for c in cells
        if c["cell_type"] == "code" and not {"parameters", "injected-parameters"} & set(c["metadata"].get("tags", []))
    ]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:12]


def inputs_of(run: Run, notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a notebook's result depends on: code, parameters and the outputs of each step before it in this run."""
    steps = pipeline_notebooks(notebook.parent)
    before = steps[: steps.index(notebook)] if notebook in steps else []
    return {
        "code": code_hash(notebook),
        "parameters": dict(parameters),
        "own files": _own_files(run, parameters),
        "before": {p.stem: outputs_of(run, p.stem) for p in before},
    }


def outputs_of(run: Run, notebook: str) -> str | None:
    """Short hash of what a notebook left on the disk, as it stands now; None where it has not finished.

    A stage counts by when it was started and how it ended, so that training it again is always noticed;
    data files (prompts, labels) count by content, so that one more label by hand is noticed as well.
    """
    record = record_of(run, notebook)
    if record.status != "done":
        return None
    made = record.manifest
    parts: list[Any] = []
    for name in made.get("stages", []):
        stage = run.stage(name)
        parts.append([name, stage.status, stage.manifest["started"] if stage.status != "missing" else None])
    for name in made.get("files", []):
        path = run.path / name
        parts.append([name, content_of(path) if path.exists() else None])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def content_of(path: Path) -> str:
    """Short hash of data; of label logs what they order, so that looking at the board changes nothing."""
    return labels_hash(path) if path.name == "labels" and path.is_dir() else file_hash(path)


def _own_files(run: Run, parameters: Mapping[str, Any]) -> str | None:
    """Short hash of the data and the model of one's own that a run is made from, as they lie there now; None without any.

    Files of more than a few megabytes count by size and time.
    """
    from labkit.world.pretrain import NOT_FOLDERS, own_folder

    given = {name: own_folder(name, str(parameters.get(name) or run.facts.get(name) or "")) for name in ("data", "model", "reward_base")}
    folders = [Path(f) for f in dict.fromkeys(f for n, f in given.items() if f and f not in NOT_FOLDERS[n]) if Path(f).is_dir()]
    files = [f for folder in folders for f in sorted(folder.iterdir()) if f.is_file()]
    parts = [[f.name, f.stat().st_size, f.stat().st_mtime_ns if f.stat().st_size > LARGE else file_hash(f)] for f in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12] if parts else None


def stale(run: Run, notebook: Path, parameters: Mapping[str, Any]) -> str:
    """Why `notebook` must run (again) in `run` with these parameters; empty where its result still holds."""
    record = record_of(run, notebook.stem)
    status = record.status
    if status != "done":
        return {"missing": "not run yet", "dead": "its last run was killed", "failed": "its last run failed"}.get(
            status, f"its last run is {status}"
        )
    manifest = record.manifest
    for name in manifest.get("stages", []):
        if not is_whole(run.stage(name)):
            return f"its stage {name} is {run.stage(name).status}"
    return _difference(manifest.get("inputs") or {}, inputs_of(run, notebook, parameters))


def is_whole(stage: StageFolder) -> bool:
    """Whether a stage left what later ones need: it is done, or a person ended it early and its model was kept."""
    return stage.status == "done" or (stage.status == "stopped" and stage.model.is_dir())


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    from labkit.world.pretrain import own_folder

    if old.get("code") != new["code"]:
        return "its code changed"
    was, now = old.get("parameters", {}), {k: v for k, v in new["parameters"].items() if k != "run"}  # a copy of a run holds by any name
    turned = [f"{k} was {was.get(k)!r}, is {v!r}" for k, v in now.items() if k not in was or own_folder(k, was[k]) != own_folder(k, v)]
    if turned:
        return "; ".join(turned)
    if old.get("own files") != new["own files"]:
        return "the files of its data or its model changed"
    changed = [k for k, v in new["before"].items() if old.get("before", {}).get(k) != v]
    return f"{' and '.join(changed)} changed" if changed else ""
