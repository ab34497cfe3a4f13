"""The win-rate report: every ordered pair of models, Bradley-Terry scores and order, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

from labkit.evaluation.winrate.bradley_terry import Scores, bradley_terry
from labkit.evaluation.winrate.judgments import Judgment, read_counted
from labkit.evaluation.winrate.rates import WinRate, win_rate
from labkit.labels.intervals import LEVEL, REPLICATES

__all__ = ["WinRates", "winrate_of_files", "winrate_report"]


@dataclass(frozen=True)
class WinRates:
    """Win rates by (a, b), the same by judge, and the scores of all models."""

    rates: dict[tuple[str, str], WinRate]
    by_judge: dict[tuple[str, str, str], WinRate]  # (judge, a, b); empty with one judge or none named
    scores: Scores
    counts: dict[str, int]
    seed: int = 0
    replicates: int = REPLICATES
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": self.counts,
            "win_rates": [{"a": a, "b": b, **rate.to_json()} for (a, b), rate in self.rates.items()],
            "by_judge": [{"judge": j, "a": a, "b": b, **rate.to_json()} for (j, a, b), rate in self.by_judge.items()],
            "bradley_terry": self.scores.to_json(),
            "notes": list(self.notes),
            "preference": "1 = a is preferred, 0 = b, 0.5 = tie (half a win)",
            "interval": {
                "level": LEVEL,
                "win_rates": "Wilson with the effective number of judgments, clustered by prompt",
                "bradley_terry": "percentile bootstrap over prompts",
                "replicates": self.replicates,
                "seed": self.seed,
            },
        }

    def text(self) -> str:
        """The report as tables for people; with several judges also by judge, each pair one way round."""
        counts = ", ".join(f"{name} {n}" for name, n in self.counts.items())
        judges = list(dict.fromkeys(judge or "no judge named" for judge, _, _ in self.by_judge))
        pooled = [f"Judges: {', '.join(judges)}. All of them together, then each:"] if judges else []
        head = ["a", "b", "a wins [95 % interval]", "se", "judgments", "prompts", "note"]
        tables = [_table([[a, b, *_cells(rate)] for (a, b), rate in self.rates.items()], head)]
        if judges:
            places = {s.model: place for place, s in enumerate(self.scores.models)}
            once = [row for row in self.by_judge.items() if places[row[0][1]] < places[row[0][2]]]
            once.sort(key=lambda row: row[0][0])
            tables.append(_table([[j or "no judge named", a, b, *_cells(rate)] for (j, a, b), rate in once], ["judge", *head]))
        scores = [
            [s.group, f"{s.rank} ({s.rank_low}-{s.rank_high})" if s.rank_low else s.rank, s.model, _interval(s)]
            for s in self.scores.models
        ]
        tables.append(_table(scores, ["group", "order (95 %)", "model", "Bradley-Terry [95 % interval]"]))
        return "\n\n".join([counts, *self.notes, *pooled, *tables, *self.scores.notes])


def _table(rows: list[list[Any]], head: list[str]) -> str:
    from tabulate import tabulate

    return tabulate(rows, head, tablefmt="simple", disable_numparse=True)


def _cells(rate: WinRate) -> list[Any]:
    return [rate, "-" if rate.se is None else f"{rate.se:.4f}", rate.n, rate.prompts, rate.note]


def winrate_report(judgments: Iterable[Judgment], *, seed: int = 0, replicates: int = REPLICATES) -> WinRates:
    """All figures of `judgments`; seed and replicates are those of the Bradley-Terry bootstrap."""
    judgments = list(judgments)
    pairs: dict[tuple[str, str], list[Judgment]] = {}
    for judgment in judgments:
        pairs.setdefault((min(judgment.a, judgment.b), max(judgment.a, judgment.b)), []).append(judgment)
    scores = bradley_terry(judgments, seed=seed, replicates=replicates)
    models, judges = [s.model for s in scores.models], sorted({j.judge for j in judgments})
    rates, by_judge = {}, {}
    for a, b in permutations(models, 2):
        own = pairs.get((min(a, b), max(a, b)), [])
        if own:
            rates[a, b] = win_rate(own, a, b)
        for judge in judges if len(judges) > 1 else []:
            theirs = [j for j in own if j.judge == judge]
            if theirs:
                by_judge[judge, a, b] = win_rate(theirs, a, b)
    counts = {
        "judgments": len(judgments),
        "ties": sum(j.preference == 0.5 for j in judgments),
        "prompts": len({j.prompt for j in judgments}),
        "models": len(models),
        "judges": len(set(judges) - {""}),
    }
    return WinRates(rates, by_judge, scores, counts, seed, replicates)


def winrate_of_files(paths: Iterable[str | Path], *, seed: int = 0, replicates: int = REPLICATES) -> WinRates:
    """The report on the judgments in JSONL files."""
    judgments, said = read_counted(paths)
    return replace(winrate_report(judgments, seed=seed, replicates=replicates), notes=tuple(said))


def _interval(score: Any) -> str:
    if score.low is None:
        return f"{score.score:+.3f}"
    return f"{score.score:+.3f} [{score.low:+.3f}, {score.high:+.3f}]"
