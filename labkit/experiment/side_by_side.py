"""Several runs side by side, wherever they lie: a row per policy that PPO trained, as the runs' own records tell it.

A row says what the policy was given, whether a hand steered it, how it ended, and whether it still fits what lies beside it. Nothing is
written, nothing is trained: whether the recorded numbers come out again is for `labkit replay` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.errors import LabError
from labkit.experiment.evaluation import load_evaluation
from labkit.experiment.needs import parents_that_changed
from labkit.runs import Run, StageFolder, run_at

__all__ = ["policies", "shown"]

#: Metrics of the last step, and what their columns are called.
LAST = {"score": "score", "gold": "gold", "kl_k1": "KL"}
_ALWAYS = ("kl_coef", "ptx_coef")  # columns also where all runs have the same


def policies(runs: Iterable[str | Path], root: str | Path = "runs") -> list[dict[str, Any]]:
    """A row per PPO stage of each run, named or given by its folder; a run without one, or one that cannot be read, has a row that says so."""
    return [{"run": str(name), **row} for name in runs for row in _of_run(name, root)]


def shown(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows as a table's: of what the policies were given only what differs, and β and γ."""
    names = dict.fromkeys(name for row in rows for name in row.get("given", ()))
    told = [row["given"] for row in rows if row.get("given")]
    kept = [n for n in names if n in _ALWAYS or len({repr(given.get(n)) for given in told}) > 1]
    table = []
    for row in rows:
        cells = {"run": row["run"], "policy": row.get("policy"), **{n: row.get("given", {}).get(n) for n in kept}}
        table.append({**cells, **{k: row.get(k) for k in _columns(rows)}, "note": row["note"]})
    return table


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    known = ("run", "policy", "given", "note")
    return list(dict.fromkeys(name for row in rows for name in row if name not in known))


def _of_run(name: str | Path, root: str | Path) -> list[dict[str, Any]]:
    try:
        run = run_at(name, root)
        if not run.path.is_dir():
            return [{"note": f"There is no folder {run.path}."}]
        stages = run.stages()
        found = [stage for stage in stages if "kl_coef" in (stage.manifest["settings"].get("knobs") or {})]
        if not found:
            there = ", ".join(f"{s.path.name} {s.status}" for s in stages)
            return [{"note": f"No policy yet; there is {there or 'nothing'}."}]
        return [_row(run, stage) for stage in found]
    except LabError as error:
        return [{"note": str(error)}]
    except OSError as error:  # as of a home that others may not look into
        return [{"note": f"{error.filename}: {error.strerror}."}]


def _row(run: Run, stage: StageFolder) -> dict[str, Any]:
    steps, manifest = stage.steps(), stage.manifest
    facts = {k: run.facts.get(k) for k in ("scale", "seed", "model", "data")}
    last = steps[-1].metrics if steps else {}
    measured, doubts = _evaluated(run, stage)
    return {
        "policy": stage.path.name,
        "given": {**facts, "seed": manifest["seed"], **manifest["settings"]["knobs"], "of steps": manifest["settings"].get("steps")},
        "steps": steps[-1].number if steps else 0,
        "by hand": _by_hand(stage),
        **{called: last.get(name) for name, called in LAST.items()},
        **measured,
        "note": " ".join([*_doubts(run, stage), *doubts]),
    }


def _by_hand(stage: StageFolder) -> str:
    """How often a person turned a knob or rolled back; what was refused changed nothing."""
    rows = [row for row in stage.ledger() if row.get("by") == "hand" and row.get("outcome") != "refused"]
    backs = sum(row["knob"] == "rollback" for row in rows)
    counts = ((len(rows) - backs, "turn"), (backs, "rollback"))
    return ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts if n)


def _doubts(run: Run, stage: StageFolder) -> list[str]:
    """Why a policy's numbers are not those of a whole run on what lies beside it."""
    told, status = [], stage.status
    if status != "done":
        told.append(f"It is {status}{': ' + stage.manifest['error'] if stage.manifest.get('error') else ''}.")
    if stage.has_model and (changed := parents_that_changed(run, stage.path.name)):
        told.append(f"It was made from other {' and '.join(changed)} than lie there now.")
    return told


def _evaluated(run: Run, stage: StageFolder) -> tuple[dict[str, Any], list[str]]:
    """What 06_evaluate measured of this policy on test prompts, in the eyes of its first group of judges; and a doubt."""
    name, columns = stage.path.name, {"gold, test": None, "preferred to sft": None}
    if run.stage("evaluate").status != "done":
        return columns, []
    result = load_evaluation(run)
    if name not in result.models:
        return columns, []
    columns["gold, test"] = next((q.get("gold") for q in result.quality if q["model"] == name), None)
    columns["preferred to sft"] = result.rate(name)
    changed = [parent for parent in parents_that_changed(run, "evaluate") if parent == name]
    return columns, ["It was trained again since it was evaluated."] if changed else []
