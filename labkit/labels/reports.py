"""What a labeling session tells about itself: echo, contradictions, progress, position bias, self-consistency.

Plain functions of rankings and state, so that a widget, an executed notebook and a test show the same sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING

from labkit.labels.store import LabelState
from labkit.types import FLAGS, Ranking

if TYPE_CHECKING:
    from labkit.labels.intervals import Figure
    from labkit.labels.session import Task

__all__ = [
    "Consistency",
    "HistoryRow",
    "PositionBias",
    "Progress",
    "against_scores",
    "contradictions",
    "echo",
    "history",
    "position_bias",
    "progress",
    "self_consistency",
]

#: Flags that speak against a completion; the other two kinds (a constraint kept, opinions) say nothing about its rank.
SERIOUS = frozenset(FLAGS) - {"satisfies_constraint", "opinion", "moral_judgment"}
#: Characters of a prompt that stand in a sentence about its card.
LONGEST_PROMPT = 60
#: Pace is the median over this many newest cards.
RECENT = 10


def labels_of(ranking: Ranking) -> dict[str, str]:
    """Letter by completion id, in the order in which the completions were shown."""
    order = ranking.shown or tuple(c.id for c in ranking.completions)
    return {i: chr(ord("A") + n) for n, i in enumerate(order)}


def echo(ranking: Ranking) -> str:
    """One line that says what was stored, in the letters the labeler saw."""
    name = labels_of(ranking)
    groups = ["=".join(sorted(name[i] for i in group)) for group in ranking.groups]
    unranked = sorted(name[i] for i in name if i not in ranking.ranks)
    parts = [" > ".join(groups) if groups else "nothing ranked"]
    if unranked and groups:
        parts.append(f"unranked {', '.join(unranked)}")
    rated = sorted((name[i], r) for i, r in ranking.ratings.items())
    likert = [f"{label} {r.likert}" for label, r in rated if r.likert is not None]
    flags = [f"{label} {', '.join(r.flags)}" for label, r in rated if r.flags]
    parts += [f"Likert {', '.join(likert)}"] if likert else []
    parts += [f"flags {'; '.join(flags)}"] if flags else []
    parts += [f"{ranking.seconds:.0f} s"] if ranking.seconds is not None else []
    return f"Stored for prompt {ranking.prompt.id}: " + " | ".join(parts)


def against_scores(ranking: Ranking, scores: Mapping[str, float]) -> str:
    """The labeler's order beside the order of `scores` (by completion id), in the letters the labeler saw."""
    name = labels_of(ranking)
    yours = " > ".join("=".join(sorted(name[i] for i in group)) for group in ranking.groups)
    theirs = " > ".join(name[i] for i in sorted(ranking.ranks, key=lambda i: -scores[i]))
    prompt = " ".join(ranking.prompt.text.split())
    prompt = prompt if len(prompt) <= LONGEST_PROMPT else prompt[: LONGEST_PROMPT - 1] + "…"
    return f"{prompt}: you {yours}, the RM {theirs}"


def contradictions(ranking: Ranking) -> list[str]:
    """Soft warnings where Likert, flags and rank of one card say different things; the ranking stands as it is."""
    name, ranks = labels_of(ranking), ranking.ranks
    found = []
    for i, rating in ranking.ratings.items():
        found += _within_rating(name[i], rating.likert, set(rating.flags))
    for a, b in combinations(sorted(ranks, key=lambda i: (ranks[i], name[i])), 2):
        found += _between(ranking, a, b, name)
    return found


def _within_rating(label: str, likert: int | None, flags: set[str]) -> list[str]:
    if likert is None or likert < 6:
        return []
    worst = sorted(flags & SERIOUS)
    return [f"{label} has Likert {likert} of 7 and the flag '{FLAGS[worst[0]]}'."] if worst else []


def _between(ranking: Ranking, a: str, b: str, name: Mapping[str, str]) -> list[str]:
    """Contradictions of the pair a, b where a is ranked above b or tied with it."""
    ranks, found = ranking.ranks, []
    above = ranks[a] < ranks[b]
    one, other = ranking.ratings.get(a), ranking.ratings.get(b)
    likert_a, likert_b = (one.likert if one else None), (other.likert if other else None)
    if likert_a is not None and likert_b is not None:
        if above and likert_a < likert_b:
            likert = f"({likert_a} against {likert_b})"
            found.append(f"{name[a]} is ranked above {name[b]} but has the lower Likert {likert}.")
        if not above and abs(likert_a - likert_b) >= 2:
            found.append(f"{name[a]} and {name[b]} are tied but their Likert ratings are {likert_a} and {likert_b}.")
    flags_a = set(one.flags) & SERIOUS if one else set()
    flags_b = set(other.flags) & SERIOUS if other else set()
    rated_better = likert_a is not None and likert_b is not None and likert_a > likert_b
    if above and flags_a and not flags_b and other and not rated_better:
        flag = FLAGS[sorted(flags_a)[0]]
        found.append(f"{name[a]} is flagged '{flag}' and ranked above {name[b]}, which has no such flag.")
    return found


@dataclass(frozen=True)
class Progress:
    """Where a session stands. `eta_seconds` is None until there is a pace to go by."""

    ranked: int
    skipped: int
    not_judged: int
    left: int
    total: int
    seconds_per_card: float | None
    eta_seconds: float | None

    @property
    def sentence(self) -> str:
        text = f"{self.total - self.left} of {self.total} cards done"
        aside = [f"{n} {word}" for n, word in ((self.skipped, "skipped"), (self.not_judged, "not judgeable")) if n]
        text += f" ({', '.join(aside)})" if aside else ""
        if self.left and self.eta_seconds is not None:
            text += f", {self.seconds_per_card:.0f} s a card, about {max(1, round(self.eta_seconds / 60))} min left"
        return text + "."


def progress(state: LabelState, tasks: Sequence[str]) -> Progress:
    """Count what is decided among `tasks`; pace is the median of the newest cards, pauses left out."""
    kinds = [state.aside[t][0] for t in tasks if t in state.aside]
    ranked = sum(t in state.submitted for t in tasks)
    recent = [t for t in reversed(state.submitted) if t in state.spent][:RECENT]
    pace = median(state.spent[t] for t in recent) if recent else None
    left = len(tasks) - ranked - len(kinds)
    eta = None if pace is None else pace * left
    return Progress(ranked, kinds.count("skip"), kinds.count("cannot_judge"), left, len(tasks), pace, eta)


@dataclass(frozen=True)
class HistoryRow:
    """One decided card: `task` can be given to `LabelSession.show`."""

    task: str
    prompt_id: str
    what: str  # ranked, skip, cannot_judge
    text: str  # echo of the ranking, or the reason


def history(state: LabelState, tasks: Mapping[str, Task]) -> list[HistoryRow]:
    """Decided cards of `tasks`, newest decision first, each once."""
    order = dict.fromkeys(e["task"] for e in reversed(state.done) if e["event"] not in ("draft", "leave") and e["task"] in tasks)
    rows = []
    for task in order:
        if task in state.submitted:
            rows.append(HistoryRow(task, tasks[task].prompt.id, "ranked", echo(state.submitted[task])))
        elif task in state.aside:
            rows.append(HistoryRow(task, tasks[task].prompt.id, *state.aside[task]))
    return rows


@dataclass(frozen=True)
class PositionBias:
    """How often the completion shown earlier wins a strict pair (0.5 without bias), and who wins by position."""

    earlier_wins: Figure
    first_place: tuple[float, ...]  # share of cards on which position 1, 2, ... took the first place (ties share it)
    sentence: str


def position_bias(rankings: Sequence[Ranking], *, seed: int = 0) -> PositionBias:
    """Position bias of rankings that know their shown order; the interval resamples cards."""
    import numpy as np

    from labkit.labels.intervals import bootstrap

    shown = [r for r in rankings if r.shown and r.pairs()]
    wins = np.array([sum(r.shown.index(a) < r.shown.index(b) for a, b in r.pairs()) for r in shown], float)
    pairs = np.array([len(r.pairs()) for r in shown], float)
    figure = bootstrap(lambda w: (w @ wins) / (w @ pairs), len(shown), n=int(pairs.sum()), unit="card", seed=seed)
    width = max((len(r.shown) for r in shown), default=0)
    first = np.zeros(width)
    for ranking in shown:
        for i in ranking.groups[0]:
            first[ranking.shown.index(i)] += 1 / len(ranking.groups[0])
    first = tuple(first / max(len(shown), 1))
    places = ", ".join(f"{place}: {100 * share:.0f} %" for place, share in enumerate(first, 1))
    told = f" First places by position: {places} of {_cards(len(shown))}." if shown else ""
    return PositionBias(figure, first, _bias_sentence(figure) + told)


def _bias_sentence(figure: Figure) -> str:
    if figure.value is None:
        return "Position bias: nothing to say yet, no strict pair with a known shown order."
    head = f"The completion shown earlier won {100 * figure.value:.0f} % of {figure.n} strict pairs"
    if figure.note or figure.low is None:
        return f"{head}{_between_bounds(figure)}. {figure.note}".strip()
    fair = figure.low <= 0.5 <= figure.high
    verdict = "no sign of position bias" if fair else "a position bias; look at the order of reading"
    return f"{head}{_between_bounds(figure)}: {verdict}."


@dataclass(frozen=True)
class Consistency:
    """How far a labeler's second ranking of a card agrees with the first, over pairs strict in both."""

    strict: Figure
    cards: int
    sentence: str


def self_consistency(repeated: Sequence[tuple[Ranking, Ranking]], *, seed: int = 0) -> Consistency:
    """Agreement of (first, second) rankings of the same completions; pairs tied in either are left out."""
    import numpy as np

    from labkit.labels.intervals import bootstrap

    same, both = [], []
    for first, second in repeated:
        kept = set(first.pairs())
        strict = [(a, b) in kept for a, b in second.pairs() if (a, b) in kept or (b, a) in kept]
        same.append(sum(strict))
        both.append(len(strict))
    agree, total = np.array(same, float), np.array(both, float)
    figure = bootstrap(lambda w: (w @ agree) / (w @ total), len(total), n=int(sum(both)), unit="card", seed=seed)
    if figure.value is None:
        return Consistency(figure, len(both), "Self-consistency: no card has been shown twice yet.")
    text = f"Shown a card again, the labeler kept {100 * figure.value:.0f} % of {figure.n} strict pairs on {_cards(len(both))}"
    return Consistency(figure, len(both), f"{text}{_between_bounds(figure)}. {figure.note}".strip())


def _between_bounds(figure: Figure) -> str:
    return "" if figure.low is None else f" (95 % interval {100 * figure.low:.0f} % to {100 * figure.high:.0f} %)"


def _cards(count: int) -> str:
    return f"{count} card{'' if count == 1 else 's'}"
