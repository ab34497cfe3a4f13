"""Train, validation and test prompts: apart by user as in the paper (section 3.2), or by prompt where users are too few."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from labkit.errors import DataError
from labkit.seeds import derive_seed
from labkit.types import Prompt

__all__ = ["SPLITS", "split_by_user", "split_prompts"]

SPLITS = ("train", "valid", "test")
MOST_HELD = 1.5  # times the shares asked for: whole users that hold out more than this leave too little to learn from
TOO_FEW = "The prompts come from too few users ({}) to keep some of them whole for validation and the test; they are split by prompt."


def split_by_user(
    prompts: Sequence[Prompt], *, valid_share: float = 0.1, test_share: float = 0.1, seed: int = 0
) -> list[Prompt]:
    """Give each prompt a split so that no user is in two of them (paper, section 3.2).

    Prompts that bring a split keep it. The others follow their user (or, without a user, their own id) by a hash,
    so a prompt that arrives later does not move anyone else. Raises DataError when a user straddles two splits.
    """
    where = _told(prompts)

    def split_of(prompt: Prompt) -> str:
        key = prompt.user or prompt.id
        if key not in where:
            draw = _draw(seed, key)
            where[key] = "test" if draw < test_share else "valid" if draw < test_share + valid_share else "train"
        return where[key]

    return [p if p.split else replace(p, split=split_of(p)) for p in prompts]


def split_prompts(
    prompts: Sequence[Prompt], *, valid_share: float = 0.1, test_share: float = 0.1, seed: int = 0
) -> tuple[list[Prompt], str]:
    """`split_by_user`, and where that leaves a split empty, one with a floor; returns also what is to be said of it.

    The floor is a user each, or, where whole users would hold out half as much again as the shares ask for, a prompt each.
    A split may stay empty: where fewer than three prompts are free, or all rows say themselves where they belong.
    """
    shares = {"valid": valid_share, "test": test_share}
    made = split_by_user(prompts, **{f"{name}_share": share for name, share in shares.items()}, seed=seed)
    wanted = [name for name in SPLITS if shares.get(name, 1.0)]
    told = _told(prompts)
    free = [p for p in prompts if not p.split and p.user not in told]
    if not free or {p.split for p in made} >= set(wanted):
        return made, ""
    needed, users = set(wanted) - {p.split for p in prompts}, {p.user for p in free if p.user}

    def of(keys: list[str]) -> dict[str, str]:
        """The split of each free prompt by id, where those of one key stay together."""
        where = _with_floor(sorted(set(keys), key=lambda k: _draw(seed, k)), shares, needed, seed)
        return {p.id: where[k] for p, k in zip(free, keys, strict=True)}

    by_user = of([p.user or p.id for p in free])
    held = sum(split != "train" for split in by_user.values()) / len(free)
    whole = not users or (set(by_user.values()) >= needed and held <= MOST_HELD * sum(shares.values()))
    where = by_user if whole else of([p.id for p in free])
    made = [p if p.split else replace(p, split=told.get(p.user) or where[p.id]) for p in prompts]
    return made, "" if whole else TOO_FEW.format(len(users))


def _with_floor(order: Sequence[str], shares: dict[str, float], needed: set[str], seed: int) -> dict[str, str]:
    """The split of each key, in the order of their draws, as their hash has it, with at least one in each split that needs it."""
    draws = [_draw(seed, key) for key in order]
    test = sum(d < shares["test"] for d in draws)
    valid = sum(d < sum(shares.values()) for d in draws) - test
    room = max(0, len(order) - ("train" in needed))
    test = min(max(test, "test" in needed), max(0, room - ("valid" in needed)))
    valid = min(max(valid, "valid" in needed), room - test)
    return {key: "test" if i < test else "valid" if i < test + valid else "train" for i, key in enumerate(order)}


def _told(prompts: Sequence[Prompt]) -> dict[str, str]:
    """The split of each user whose prompts bring one; DataError where they bring two."""
    where: dict[str, str] = {}
    for prompt in prompts:
        if prompt.split and prompt.user and where.setdefault(prompt.user, prompt.split) != prompt.split:
            raise DataError(
                f"User {prompt.user!r} has prompts in {where[prompt.user]!r} and in {prompt.split!r}; "
                "splits are made by user: clear `split` to let the lab assign it."
            )
    return where


def _draw(seed: int, key: str) -> float:
    return random.Random(derive_seed(seed, key, "split")).random()
