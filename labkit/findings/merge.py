"""Seeds that were measured elsewhere: their `findings.json` joins a set of the same plan and settings.

    labkit findings mine --read --with docs/findings.json

Five seeds need hours; they can be measured on several machines, or from one day to the next, and be decided together.
Where the other set made its sweeps at other sizes its seeds count for all claims but those on sweeps, which say so.
Figures show the set's own seeds only: what the others drew lies with them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.errors import DataError, SettingsError
from labkit.findings.evidence import BySeed, Claim
from labkit.findings.finding import Outcome
from labkit.findings.plan import Plan

__all__ = ["joined"]

ALIKE = ("scale", "sizes", "judge", "settings")  # of two plans whose seeds are comparable


def joined(plan: Plan, outcomes: Sequence[Outcome], file: Path) -> tuple[Plan, list[Outcome], str]:
    """The plan and its outcomes with the seeds of another set's `findings.json` beside their own, and a sentence on it."""
    other = _read(file)
    ours, theirs = json.loads(json.dumps(plan.to_json())), other["plan"]
    for name in ALIKE:
        if ours[name] != theirs.get(name):
            raise SettingsError(
                f"{file} was made with {name} {theirs.get(name)}, this set with {ours[name]}: their seeds are not comparable."
            )
    twice = sorted({*plan.seeds} & {*theirs["seeds"]})
    if twice:
        raise SettingsError(f"Seed {twice[0]} is in {file} and in this set; a seed counts once. Leave one of them out.")
    claims = {(f["id"], c["claim"]): c for f in other["findings"] for c in f["claims"]}
    apart = _apart(plan, theirs)
    found = [
        replace(o, claims=tuple(_with(c, claims.get((o.finding.id, c.words)), theirs["seeds"], apart) for c in o.claims))
        for o in outcomes
    ]
    said = f"Seeds {', '.join(map(str, theirs['seeds']))} were measured in another set ({file.name})"
    if "sweep" in apart:
        said += f"; claims on sweeps leave them out ({apart['sweep']})"
    return replace(plan, seeds=tuple(sorted((*plan.seeds, *theirs["seeds"])))), found, f"{said}. "


def _apart(plan: Plan, theirs: dict[str, Any]) -> dict[str, str]:
    """Which claims the other set measured at other sizes ("sweep", "further"), and the reason that its seeds give there."""
    there = replace(plan, judge=theirs["judge"], sweep=tuple(theirs["sweep"]))
    found = {}
    if there.sweep != plan.sweep:
        found["sweep"] = f"swept at {', '.join(there.sweep)} there"
    if there.further != plan.further:
        found["further"] = f"measured at {there.further} there"
    return found


def _with(claim: Claim, row: dict[str, Any] | None, seeds: Sequence[int], apart: dict[str, str]) -> Claim:
    """The claim with the other set's values; a claim that was not made there lacks its seeds, and says so."""
    over = getattr(claim.by_seed, "over", "")
    if over in apart:
        return replace(claim, by_seed=BySeed(claim.by_seed, {**claim.lost, **dict.fromkeys(seeds, apart[over])}, over))
    values = {int(seed): value for seed, value in row["by_seed"].items()} if row else {}
    told = {int(seed): why for seed, why in row["lost"].items()} if row else {}
    lost = {seed: told.get(seed, "not measured in that set") for seed in seeds if seed not in values}
    return replace(claim, by_seed=BySeed({**claim.by_seed, **values}, {**claim.lost, **lost}, over))


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        complete = isinstance(found, dict) and "settings" in found["plan"] and isinstance(found["findings"], list)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is no findings.json of another set: {error!r}. Give one that `labkit findings` wrote.") from None
    if not complete:
        raise DataError(f"{file} is no findings.json of another set, or an older one. Give one that `labkit findings` wrote.")
    return found
