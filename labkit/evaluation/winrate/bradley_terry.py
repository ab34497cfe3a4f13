"""Bradley-Terry scores: P(i beats j) = sigmoid(score_i - score_j), fitted to who beat whom; a tie is half a win each.

Two things can go wrong with such data, and both are treated in the open:
- *Disconnected*: models that were never compared, directly or by way of others, share no scale. Each connected group
  has its own scores, mean 0 in the group, and its own order.
- *Perfect separation*: where some models of a group never lose a point to the others, the best score is infinite.
  Then, and only then, each compared pair of that group is given one more judgment, half a win to each side, which makes
  the scores finite; `separated` says so. The order stands, the distances are stand-ins, and no interval is given.
  Nor is it where the data are not separated but more than one in forty resamples of them are: there the interval
  has no end on at least one side, and the stand-ins would cap it.
Where every resample gives the same score, as with nothing but ties, there is no interval either, and a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from labkit.errors import DataError
from labkit.evaluation.winrate.judgments import Judgment
from labkit.labels.intervals import FEW, NO_WIDTH, REPLICATES, percentiles, resamples

__all__ = ["Score", "Scores", "bradley_terry", "fit"]


MOST_SEPARATED = 0.025  # share of resamples whose best score is infinite: beyond it an end of the 95 % interval is


@dataclass(frozen=True)
class Score:
    """One model: its score in log-odds, its place in the group (1 is best), both with intervals."""

    model: str
    group: int  # connected group, 1 holds the most judgments
    score: float
    low: float | None
    high: float | None
    rank: int
    rank_low: int | None
    rank_high: int | None
    judgments: int
    separated: bool


@dataclass(frozen=True)
class Scores:
    """All models, by group and then best first, with sentences on what had to be treated."""

    models: tuple[Score, ...]
    notes: tuple[str, ...]

    @property
    def order(self) -> list[list[str]]:
        """Model names best first, one list per connected group."""
        groups = sorted({s.group for s in self.models})
        return [[s.model for s in self.models if s.group == g] for g in groups]

    def to_json(self) -> dict[str, Any]:
        return {"models": [asdict(s) for s in self.models], "order": self.order, "notes": list(self.notes)}


def bradley_terry(judgments: Iterable[Judgment], *, seed: int = 0, replicates: int = REPLICATES) -> Scores:
    """Scores and order of all models in `judgments`; intervals from resampling prompts."""
    judgments = list(judgments)
    if not judgments:
        raise DataError("There are no judgments to fit Bradley-Terry scores to.")
    names = sorted({m for j in judgments for m in (j.a, j.b)})
    by_prompt = _wins_by_prompt(judgments, names)
    clusters, m = by_prompt.shape[0], len(names)
    wins = by_prompt.sum(axis=0).reshape(1, m, m)
    groups = _groups(wins[0])
    score, separated = fit(wins, groups, wins[0] + wins[0].T > 0)
    draws, open_draws = [np.full((1, m), np.nan)], [np.zeros((0, m), dtype=bool)]
    if clusters > 1:
        compared = wins[0] + wins[0].T > 0
        for weights in resamples(clusters, replicates=replicates, seed=seed):
            drawn = np.asarray(weights @ by_prompt).reshape(-1, m, m)
            scores, apart = fit(drawn, groups, compared)
            draws.append(scores)
            open_draws.append(apart)
    played = np.bincount([names.index(x) for j in judgments for x in (j.a, j.b)], minlength=m)
    share = np.concatenate(open_draws).mean(axis=0) if clusters > 1 else np.zeros(m)
    endless = separated[0] | (share > MOST_SEPARATED)
    rows = _rows(names, groups, score[0], separated[0], endless, np.concatenate(draws), played)
    return Scores(rows, _notes(rows, clusters, dict(zip(names, share, strict=True))))


def fit(wins: np.ndarray, groups: np.ndarray, compared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood scores of R data sets at once, by Newton's method.

    wins: (R, M, M), wins[r, i, j] = points of i against j. groups: (M,) connected group of each model.
    compared: (M, M), pairs that may be given the extra judgment. Returns scores (R, M), separated (R, M).
    """
    separated = np.stack([_separated(w, groups) for w in wins])  # (R, M)
    wins = wins + 0.5 * (separated[:, :, None] & separated[:, None, :] & compared[None])
    games = wins + wins.transpose(0, 2, 1)
    same = (groups[:, None] == groups[None, :]).astype(float)
    scores = np.zeros(wins.shape[:2])
    for _ in range(100):
        expected = games / (1 + np.exp(-(scores[:, :, None] - scores[:, None, :])))
        slope = (wins - expected).sum(axis=2)  # (R, M)
        weight = expected * (1 - expected / np.where(games > 0, games, 1))
        curve = np.eye(len(groups)) * weight.sum(axis=2)[:, None, :] - weight + same  # `same` fixes the mean of a group
        step = np.linalg.solve(curve, slope[..., None])[..., 0]
        step /= np.maximum(1, np.abs(step).max(axis=1, keepdims=True))  # at most 1 in log-odds, or Newton may leap
        scores += step
        if np.abs(step).max() < 1e-10:
            break
    return scores, separated


def _wins_by_prompt(judgments: list[Judgment], names: list[str]):
    from scipy.sparse import csr_array

    place, prompts, m = {name: n for n, name in enumerate(names)}, {}, len(names)
    rows, cells, points = [], [], []
    for j in judgments:
        row = prompts.setdefault(j.prompt, len(prompts))
        a, b = place[j.a], place[j.b]
        rows += [row, row]
        cells += [a * m + b, b * m + a]
        points += [j.preference, 1 - j.preference]
    return csr_array((points, (rows, cells)), shape=(len(prompts), m * m))


def _groups(wins: np.ndarray) -> np.ndarray:
    """Connected group of each model, 1 for the group with the most judgments."""
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(wins + wins.T > 0, directed=False)
    sizes = [wins[label == g].sum() for g in range(count)]
    place = np.argsort(np.argsort([-s for s in sizes], kind="stable"), kind="stable") + 1
    return place[label]


def _separated(wins: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(M,) whether the model's group is perfectly separated: not every model beats every other by some path."""
    from scipy.sparse.csgraph import connected_components

    strong = connected_components(wins > 0, directed=True, connection="strong")[1]
    return np.isin(groups, [g for g in np.unique(groups) if len(set(strong[groups == g])) > 1])


def _rows(
    names: list[str],
    groups: np.ndarray,
    score: np.ndarray,
    separated: np.ndarray,
    endless: np.ndarray,
    draws: np.ndarray,
    played: np.ndarray,
) -> tuple[Score, ...]:
    rows = []
    for n, name in enumerate(names):
        rivals = np.flatnonzero(groups == groups[n])
        better = lambda s, n=n, rivals=rivals: 1 + (s[:, rivals] > s[:, [n]] + 1e-9).sum(axis=1)  # noqa: E731
        valid = draws[np.isfinite(draws).all(axis=1)]
        flat = len(valid) > 1 and np.ptp(valid[:, n]) < 1e-9  # as where all judgments are ties: no certainty
        places = np.quantile(better(valid), [0.025, 0.975], method="nearest") if len(valid) and not flat else [None, None]
        low, high = (None, None) if endless[n] or flat else percentiles(draws[:, n])
        ends = [None if p is None else int(p) for p in places]
        rank = int(better(score[None])[0])
        group, apart = int(groups[n]), bool(separated[n])
        rows.append(Score(name, group, float(score[n]), low, high, rank, *ends, int(played[n]), apart))
    return tuple(sorted(rows, key=lambda r: (r.group, r.rank, r.model)))


def _notes(rows: tuple[Score, ...], clusters: int, share: dict[str, float]) -> tuple[str, ...]:
    notes, groups = [], sorted({r.group for r in rows})
    if len(groups) > 1:
        notes.append(
            f"The models fall into {len(groups)} groups that were never compared; scores hold within a group only."
        )
    for group in groups:
        members = [r.model for r in rows if r.group == group]
        often = max(share[name] for name in members)
        if often > MOST_SEPARATED and not any(r.separated for r in rows if r.group == group):
            notes.append(
                f"In {100 * often:.0f} % of the resamples of group {group} ({', '.join(members)}) some models never lose to the "
                "others, so that scores have no interval; the win rates' intervals do not need one. More judgments would help."
            )
        if any(r.separated for r in rows if r.group == group):
            notes.append(
                f"Group {group} ({', '.join(members)}) is perfectly separated: some models never lost to the others. "
                "One extra judgment, half a win to each side, was added to each compared pair: the order stands, "
                "the true distances may be larger, and there is no interval for them."
            )
        if clusters > 1 and any(r.low is None and r.rank_low is None for r in rows if r.group == group):
            notes.append(f"Group {group} ({', '.join(members)}): {NO_WIDTH[:1].lower()}{NO_WIDTH[1:]}")
    if clusters < FEW:
        notes.append(f"Only {clusters} prompt(s): too few to say how sure the order is.")
    return tuple(notes)
