"""Sweeps at several sizes, size by size: what each claim's mean over sizes is made of. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labkit.findings.evidence import Claim
from labkit.findings.finding import measure_finding
from labkit.findings.merge import joined
from labkit.findings.records import Records
from labkit.findings.table import FINDINGS

__all__ = ["sweeps_by_size"]


def sweeps_by_size(records: Records, others: Sequence[Path] = ()) -> list[dict[str, str]]:
    """One row per deciding claim on a sweep: the finding, the claim and its value at each size; none where there is one size.

    others: `findings.json` of other sets, whose seeds count at the size at which they were swept.
    """
    sizes = records.plan.sweep
    if len(sizes) < 2:
        return []
    columns = {size: _claims(records, size, others) for size in sizes}
    return [
        {
            "finding": title,
            "claim": f"{claim.words} (must be {claim.region})",
            **{size: _said(columns[size][title, claim.words]) for size in sizes},
        }
        for (title, _), claim in columns[sizes[0]].items()
    ]


def _claims(records: Records, size: str, others: Sequence[Path]) -> dict[tuple[str, str], Claim]:
    """The deciding claims on sweeps as if they had been made at this size alone."""
    plan = replace(records.plan, sweep=(size,))
    outcomes = [measure_finding(f, Records(records.home, plan)) for f in FINDINGS if not f.beyond]
    for file in others:
        plan, outcomes, _ = joined(plan, outcomes, file)
    return {
        (o.finding.title, c.words): c
        for o in outcomes
        for c in o.claims
        if c.deciding and getattr(c.by_seed, "over", "") == "sweep"
    }


def _said(claim: Claim) -> str:
    return f"{claim.measured} ({claim.measured.seeds} seeds): {claim.verdict}" if claim.measured.seeds else "-"
