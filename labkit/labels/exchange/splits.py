"""Splits of rankings that never cut a prompt apart.

Two rankings stay together if they share the prompt's id, the prompt's text or (by default) a named user: the paper
splits by user, and the same text under two ids would leak from training into validation all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from labkit.errors import DataError
from labkit.seeds import derive_seed
from labkit.types import Ranking

__all__ = ["split_rankings"]


def split_rankings(
    rankings: Sequence[Ranking], shares: Mapping[str, float], *, seed: int = 0, by_user: bool = True
) -> dict[str, list[Ranking]]:
    """Deal the rankings into named parts of about the given shares, whole groups at a time, the same for one seed.

    A part with a share above 0 that would stay empty is an error. Order within a part is that of `rankings`.
    """
    if not shares or any(s < 0 for s in shares.values()) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise DataError(f"The shares are {dict(shares)}; give each part a share of 0 or more, 1 in all.")
    groups = _linked(rankings, by_user)
    wanted = [name for name, share in shares.items() if share > 0]
    if len(groups) < len(wanted):
        why = "same prompt or user" if by_user else "same prompt"
        raise DataError(
            f"{len(rankings)} rankings fall into {len(groups)} group(s) that must stay together ({why}), "
            f"too few for {len(wanted)} parts; label more prompts or make fewer parts."
        )
    by_lot = sorted(groups, key=lambda g: derive_seed(seed, min(rankings[i].prompt.id for i in g), "split"))
    place: dict[int, str] = {}
    for group in _deal(by_lot, {name: shares[name] for name in wanted}, len(rankings)):
        place.update(group)
    return {name: [r for i, r in enumerate(rankings) if place[i] == name] for name in shares}


def _deal(groups: list[list[int]], shares: Mapping[str, float], total: int) -> Iterator[dict[int, str]]:
    """Yield {ranking index: part}: a group goes to the part furthest below its share, the last ones to empty parts."""
    missing = {name: share * total for name, share in shares.items()}
    empty = set(shares)
    for left, group in zip(range(len(groups), 0, -1), groups, strict=True):
        pool = empty if left <= len(empty) else shares
        name = max(sorted(pool), key=lambda n: missing[n])
        missing[name] -= len(group)
        empty.discard(name)
        yield dict.fromkeys(group, name)


def _linked(rankings: Sequence[Ranking], by_user: bool) -> list[list[int]]:
    """Indices of rankings that share a prompt id, a prompt text or a user, directly or by way of others."""
    parent = list(range(len(rankings)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, ranking in enumerate(rankings):
        keys = [("id", ranking.prompt.id), ("text", ranking.prompt.text)]
        keys += [("user", ranking.prompt.user)] if by_user and ranking.prompt.user else []
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    groups: dict[int, list[int]] = {}
    for i in range(len(rankings)):
        groups.setdefault(root(i), []).append(i)
    return list(groups.values())
