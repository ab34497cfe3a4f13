"""Export of rankings: K-wise rows grouped by prompt, TRL's preference pairs, as JSONL and as `datasets.Dataset`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.disk import write_jsonl
from labkit.errors import DataError
from labkit.types import Ranking

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["MARGINS", "kwise_rows", "pair_rows", "to_dataset", "write_rows"]

#: What the margin of a pair may be.
MARGINS = {
    "own": "what the pair came with, as a TRL file's may; the places between the two where it came with none",
    "rank": "how many places lie between the two (1 for neighbours)",
    "likert": "difference of the two Likert ratings; pairs without both ratings get the margin 0",
}


def kwise_rows(rankings: Iterable[Ranking]) -> list[dict[str, Any]]:
    """One row per ranking: the prompt with all K completions, their ranks (1 is best, null is unranked) and ratings.

    Rows of one prompt stand together, in the order in which the prompts first come. Each completion keeps where it came
    from: model, seed, token ids, and its sampling parameters as JSON text, since a data set wants one shape for all; so
    does the prompt's meaning. `shown` are the completion ids in the order in which the labeler saw them, `comment` is the
    labeler's note on the card.
    """
    rows = []
    for ranking in _by_prompt(rankings):
        ranks = ranking.ranks
        ratings = [ranking.ratings.get(c.id) for c in ranking.completions]
        rows.append(
            {
                "prompt_id": ranking.prompt.id,
                "prompt": ranking.prompt.text,
                "use_case": ranking.prompt.use_case,
                "source": ranking.prompt.source,
                "user": ranking.prompt.user,
                "split": ranking.prompt.split,
                "meaning": None if ranking.prompt.meaning is None else json.dumps(ranking.prompt.meaning),
                "labeler": ranking.labeler,
                "completion_ids": [c.id for c in ranking.completions],
                "completions": [c.text for c in ranking.completions],
                "models": [c.model for c in ranking.completions],
                "seeds": [c.seed for c in ranking.completions],
                "sampling": [json.dumps(dict(c.sampling)) for c in ranking.completions],
                "token_ids": [None if c.token_ids is None else list(c.token_ids) for c in ranking.completions],
                "finished": [c.finished for c in ranking.completions],
                "ranks": [ranks.get(c.id) for c in ranking.completions],
                "likert": [r.likert if r else None for r in ratings],
                "flags": [list(r.flags) if r else [] for r in ratings],
                "seconds": ranking.seconds,
                "shown": list(ranking.shown),
                "margin": ranking.margin,
                "comment": ranking.comment,
            }
        )
    return rows


def _by_prompt(rankings: Iterable[Ranking]) -> list[Ranking]:
    groups: dict[str, list[Ranking]] = {}
    for ranking in rankings:
        groups.setdefault(ranking.prompt.id, []).append(ranking)
    return [ranking for group in groups.values() for ranking in group]


def pair_rows(rankings: Iterable[Ranking], *, margin: str | None = "own") -> list[dict[str, Any]]:
    """TRL's explicit-prompt preference rows, one per comparison; ties give none (paper, section 3.5).

    margin: one of MARGINS, or None for no such column, which is the paper's loss. TRL's RewardTrainer subtracts it from
    the difference of the two scores. Pairs of one prompt stand together; do not shuffle them apart before training.
    """
    if margin is not None and margin not in MARGINS:
        raise DataError(f"There is no margin {margin!r}; use {', '.join(map(repr, MARGINS))}, or None for none.")
    rows = []
    for ranking in rankings:
        texts = {c.id: c.text for c in ranking.completions}
        for chosen, rejected in ranking.pairs():
            row = {"prompt": ranking.prompt.text, "chosen": texts[chosen], "rejected": texts[rejected]}
            if margin is not None:
                row["margin"] = _margin(ranking, chosen, rejected, margin)
            asked = ranking.prompt
            rows.append({**row, "prompt_id": asked.id, "labeler": ranking.labeler, "user": asked.user, "split": asked.split})
    return rows


def to_dataset(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """The rows as a `datasets.Dataset`; no rows at all is an error, because the columns would be unknown."""
    if not rows:
        raise DataError("There are no rows to make a data set of; every ranking may be tied or unranked.")
    from datasets import Dataset

    return Dataset.from_list([dict(row) for row in rows])


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """The rows as JSONL, replaced atomically."""
    write_jsonl(Path(path), rows)


def _margin(ranking: Ranking, chosen: str, rejected: str, kind: str) -> float:
    if kind == "own" and ranking.margin is not None:
        return ranking.margin
    if kind in ("own", "rank"):
        return float(ranking.ranks[rejected] - ranking.ranks[chosen])
    values = [ranking.ratings[i].likert if i in ranking.ratings else None for i in (chosen, rejected)]
    return float(values[0] - values[1]) if None not in values else 0.0
