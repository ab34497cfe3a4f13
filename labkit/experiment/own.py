"""Rankings that a run did not make itself: a folder's own comparisons and labels by hand. What is held out stays out."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labkit.data.splits import SPLITS
from labkit.errors import DataError
from labkit.labels.exchange import split_rankings
from labkit.labels.store import read_rankings
from labkit.types import Prompt, Ranking

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = [
    "join_by_hand",
    "own_rankings",
    "own_splits",
    "prepared",
    "ranked_by_hand",
    "splits_beside",
]

SHARES = {"train": 0.9, "valid": 0.1}
MOST_HELD = 0.3  # holding more than this out leaves too little to learn from


def ranked_by_hand(lab: Experiment) -> list[Ranking]:
    """The rankings in force in the run's label logs that say anything, of everybody who ranked."""
    logs = sorted((lab.run.path / "labels").glob("*.jsonl"))
    return [r for r in read_rankings(*logs) if r.pairs()]


def own_rankings(lab: Experiment) -> list[Ranking]:
    """The folder's comparisons; where it has none, what was ranked by hand in the run so far."""
    if lab.source.has_rankings:
        return lab.source.rankings()
    found = ranked_by_hand(lab)
    if not found:
        raise DataError(
            f"{lab.source.folder} has no comparisons.jsonl, and nothing was ranked by hand in {lab.run.path} yet: "
            "rank some prompts on the board of 03_rank, then run this again."
        )
    return found


def users_apart(prompts: Mapping[str, Sequence[Prompt]]) -> bool:
    """Whether the splits of the prompts share no user, so that a user may stand for what is held out."""
    users = [{p.user for p in rows} - {""} for rows in prompts.values()]
    return sum(map(len, users)) == len(set().union(*users))


def without_test(
    rankings: Sequence[Ranking], test: Sequence[Prompt], *, by_user: bool
) -> tuple[list[Ranking], int]:
    """The rankings that share no text or (by_user) user with the test prompts, nor are said to be of that split; and how many do or are.

    Raises DataError where nothing is left.
    """
    taken = {key for p in test for key in _keys(p, by_user) if key[0] != "id"}  # each file may number its rows
    kept = [r for r in rankings if r.prompt.split != "test" and not taken & _keys(r.prompt, by_user)]
    if rankings and not kept:
        raise DataError(
            f"All {len(rankings)} comparisons are on prompts of the test split, so none is left to learn from; "
            "give some on other prompts, or say in prompts.jsonl which prompts are the test's (\"split\": \"test\")."
        )
    return kept, len(rankings) - len(kept)


def prepared(lab: Experiment, split: str) -> list[Prompt]:
    """The run's prompts of a split, as far as there are any yet."""
    return lab.prompts(split) if (lab.run.path / "prompts" / f"{split}.jsonl").exists() else []


def own_splits(lab: Experiment) -> tuple[dict[str, list[Ranking]], list[str]]:
    """The own rankings without those of test prompts, split; and what is to be said of that."""
    return splits_beside(own_rankings(lab), {split: prepared(lab, split) for split in SPLITS}, lab.seed)


def splits_beside(given: Sequence[Ranking], prompts: Mapping[str, Sequence[Prompt]], seed: int) -> tuple[dict[str, list[Ranking]], list[str]]:
    """These rankings without those of the test prompts, split; and what is to be said of that."""
    found, test = without_test(given, prompts["test"], by_user=users_apart(prompts))
    made = split_own(found, seed)
    told = []
    if test:
        told.append(f"{test} of the {len(given)} comparisons are on prompts of the test split, and train nothing.")
    same = sum(_prefers_itself(r) for r in given)
    if same:
        told.append(f"{same} of the {len(given)} comparisons prefer an answer to the very same one, which teaches nothing; look at where they come from.")
    if users_cross(made):
        told.append("The comparisons come from too few users to hold some out whole; they are split by prompt.")
    return made, told


def _prefers_itself(ranking: Ranking) -> bool:
    texts = {c.id: c.text for c in ranking.completions}
    return any(texts[better] == texts[worse] for better, worse in ranking.pairs())


def split_own(rankings: Sequence[Ranking], seed: int) -> dict[str, list[Ranking]]:
    """Hold about a tenth out: whole users, as the paper does, or whole prompts where there are too few users for that.

    Where rows say themselves that they are for validation, these and no others are. DataError where all these are tied.
    """
    told = [r for r in rankings if r.prompt.split == "valid"]
    taken = {key for r in told for key in _keys(r.prompt, by_user=False)}
    rest = [r for r in rankings if r.prompt.split != "valid" and not taken & _keys(r.prompt, by_user=False)]
    if told and rest:
        if not any(r.pairs() for r in told):
            raise DataError(
                f'None of the {len(told)} comparisons for validation ("split": "valid") prefers one answer to another, so they measure '
                "nothing; give some that do, or let none say \"valid\": a tenth is held out then."
            )
        return {"train": rest, "valid": told}
    made = _by_users_or_prompts(rankings, seed)
    strict = [r for r in rankings if r.pairs()]
    if strict and not any(r.pairs() for r in made["valid"]):  # chance held out what is all tied
        made = _by_users_or_prompts(strict, seed)
        made["train"] += [r for r in rankings if not r.pairs()]
    return made


def _by_users_or_prompts(rankings: Sequence[Ranking], seed: int) -> dict[str, list[Ranking]]:
    with contextlib.suppress(DataError):  # one user, or prompts that all hang together by their users
        made = split_rankings(rankings, SHARES, seed=seed)
        if len(made["valid"]) <= MOST_HELD * len(rankings):
            return made
    return split_rankings(rankings, SHARES, seed=seed, by_user=False)


def users_cross(made: Mapping[str, Sequence[Ranking]]) -> bool:
    """Whether one user's prompts are in both parts."""
    return bool(_users(made["train"]) & _users(made["valid"]))


def join_by_hand(
    made: Sequence[Ranking], by_hand: Sequence[Ranking], held: Sequence[Prompt]
) -> tuple[list[Ranking], int]:
    """`made` with the rankings by hand that share no prompt, text or user with `held` ones; and how many of them do.

    A user counts only where users were kept apart. A ranking by hand that is in `made` already takes that one's place.
    """
    by_user = not _users(made) & ({p.user for p in held} - {""})
    taken = {key for p in held for key in _keys(p, by_user)}
    joining = [r for r in by_hand if not taken & _keys(r.prompt, by_user)]
    newest = {_card(r) for r in joining}
    return [r for r in made if _card(r) not in newest] + joining, len(by_hand) - len(joining)


def _users(rankings: Sequence[Ranking]) -> set[str]:
    return {r.prompt.user for r in rankings} - {""}


def _keys(prompt: Prompt, by_user: bool) -> set[tuple[str, str]]:
    """What two prompts may share, as `split_rankings` has it."""
    user = {("user", prompt.user)} if by_user and prompt.user else set()
    return {("id", prompt.id), ("text", prompt.text), *user}


def _card(ranking: Ranking) -> tuple[str, str, frozenset[tuple[str, str]]]:
    return ranking.labeler, ranking.prompt.id, frozenset((c.id, c.text) for c in ranking.completions)
