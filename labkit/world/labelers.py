"""Forty simulated labelers: tastes, noise, demonstrations of mixed quality and rankings with ties.

    labelers = hire_labelers()                          # 30 whose data train models, 10 held out
    ranking = labelers[0].rank(prompt, completions, seed=0)
    demonstration = labelers[0].demonstrate(prompt, seed=0)

A labeler sees the judge's aspects of a completion, weighs them by taste, adds a taste for length and a noise that is
drawn anew each time. The noise of each group is tuned (`calibrated_noise`) until two labelers order the same pair of
completions alike as often as the paper's did: 72.6 ± 1.5 % among training labelers, 77.3 ± 1.3 % among held-out ones
(pairs that both rank strictly). Whoever trains on their data cannot do better than `ceiling`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import exp
from random import Random

from labkit.errors import DataError
from labkit.seeds import derive_seed
from labkit.types import Completion, Demonstration, Prompt, Ranking, Rating
from labkit.world.judge import ASPECTS, WEIGHTS, Judgment, judge, utility_of
from labkit.world.responses import corrupted, ideal_response

__all__ = [
    "AGREEMENT",
    "NOISE",
    "Labeler",
    "calibrated_noise",
    "ceiling",
    "hire_labelers",
    "pair_agreement",
]

#: The paper's inter-labeler agreement and its half-width, by group (section 3.4).
AGREEMENT: dict[str, tuple[float, float]] = {"train": (0.726, 0.015), "heldout": (0.773, 0.013)}

#: Standard deviation of a labeler's noise, in units of utility, as `calibrated_noise` found it.
NOISE: dict[str, float] = {"train": 0.285, "heldout": 0.227}

GROUP_SIZES = {"train": 30, "heldout": 10}

#: What goes wrong in a demonstration that is not perfect, with shares: carelessness, seldom falsehood. Such faults are plain to
#: see in an answer, so rankings can tell, and RL can mend, what imitation copies. A labeler finishes what they write: no "cut".
SLIPS: dict[str, float] = {
    "rambling": 0.48,
    "ignores_constraint": 0.18,
    "repeating": 0.14,
    "rude": 0.10,
    "broken": 0.05,
    "false": 0.03,
    "off_topic": 0.02,
}


@dataclass(frozen=True)
class Labeler:
    """One simulated labeler. All randomness comes from (seed, labeler, prompt), so an answer can be asked for twice."""

    id: str
    group: str = "train"  # train: their data train models; heldout: they only evaluate
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)  # taste: what each aspect is worth to them
    length_taste: float = 0.0  # utility per doubling of the length, more or less
    noise: float = NOISE["train"]
    tie_width: float = 0.06  # completions closer than this are ranked equal
    perfect_share: float = 0.40  # of their demonstrations
    severity: float = 0.0  # how much their Likert scale is shifted down (up, if negative)
    oversight: float = 0.04  # chance to overlook a flag, and a tenth of the chance to see one that is not there
    careless: float = 0.0  # share of prompts that they answer at random, without reading
    blind_to: frozenset[str] = frozenset()  # flags that they never use: they do not recognise them

    def perceive(self, judgment: Judgment, words: int, rng: Random, respectful: bool = False) -> float:
        """What a completion is worth to this labeler on this occasion: taste and noise around the gold utility."""
        length = self.length_taste * (words - 7) / 7
        return (
            utility_of(judgment.aspects, self.weights, respectful)
            + max(-0.2, min(0.2, length))
            + rng.gauss(0, self.noise)
        )

    def rank(self, prompt: Prompt, completions: Sequence[Completion], seed: int = 0) -> Ranking:
        """Rate each completion by itself, then rank all of them, as on the paper's screens (figure 12)."""
        rng = Random(derive_seed(seed, "rank", self.id, prompt.id))
        guessing = rng.random() < self.careless
        shown = [c.id for c in completions]
        rng.shuffle(shown)
        perceived: dict[str, float] = {}
        ratings: dict[str, Rating] = {}
        impressions: dict[tuple[str, bool], tuple[float, tuple[str, ...]]] = {}  # equal texts make one impression
        for c in sorted(completions, key=lambda c: shown.index(c.id)):
            text = (c.text, c.finished is not False)
            if text not in impressions:
                impressions[text] = self._read(prompt, *text, rng)
            seen, flags = impressions[text]
            perceived[c.id] = rng.random() if guessing else seen
            ratings[c.id] = Rating(self._likert(perceived[c.id]), flags)
        return Ranking(
            prompt=prompt,
            completions=tuple(completions),
            groups=_groups(perceived, self.tie_width),
            labeler=self.id,
            ratings=ratings,
            seconds=round(_seconds(prompt, completions, rng) * (0.3 if guessing else 1.0), 1),
            shown=tuple(shown),
        )

    def demonstrate(self, prompt: Prompt, seed: int = 0) -> Demonstration:
        """Write the answer to a prompt: perfect most of the time, else with one slip."""
        rng = Random(derive_seed(seed, "demonstrate", self.id, prompt.id))
        if rng.random() < self.perfect_share:
            return Demonstration(prompt, ideal_response(prompt, rng), self.id)
        shares = {k: s for k, s in SLIPS.items() if k != "ignores_constraint" or prompt.meaning.get("constraint")}
        slip = rng.choices(list(shares), list(shares.values()))[0]
        return Demonstration(prompt, corrupted(prompt, rng, slip).text, self.id)

    def flag(self, judgment: Judgment, rng: Random) -> tuple[str, ...]:
        """The paper's metadata as this labeler ticks it: some flags are overlooked, a few are ticked by mistake."""
        ticked = [f for f in judgment.flags if f not in self.blind_to and rng.random() >= self.oversight]
        for name in ("fails_instruction", "hallucination", "inappropriate"):
            if name not in judgment.flags and name not in self.blind_to and rng.random() < self.oversight / 10:
                ticked.append(name)
        return tuple(ticked)

    def _read(self, prompt: Prompt, text: str, finished: bool, rng: Random) -> tuple[float, tuple[str, ...]]:
        """The impression that one completion makes: its worth and the flags ticked."""
        judgment = judge(prompt, text, finished)
        respectful = bool(prompt.meaning.get("respectful"))
        return self.perceive(judgment, len(text.split()), rng, respectful), self.flag(judgment, rng)

    def _likert(self, perceived: float) -> int:
        return max(1, min(7, 1 + round(6 * perceived - self.severity)))


def hire_labelers(seed: int = 0) -> list[Labeler]:
    """The lab's forty labelers: 30 of group "train" and 10 of group "heldout", each with tastes of their own."""
    return [
        draw_labeler(f"labeler_{group[0]}{i:02d}", group, seed)
        for group, size in GROUP_SIZES.items()
        for i in range(size)
    ]


def draw_labeler(id: str, group: str, seed: int = 0) -> Labeler:
    """Draw the tastes of one labeler around the gold weights."""
    rng = Random(derive_seed(seed, "labeler", id))
    raw = {name: WEIGHTS[name] * exp(rng.gauss(0, 0.25)) for name in ASPECTS}
    total = sum(raw.values())
    return Labeler(
        id=id,
        group=group,
        weights={name: value / total for name, value in raw.items()},
        length_taste=rng.gauss(0, 0.03),
        noise=NOISE[group] * rng.uniform(0.85, 1.15),
        tie_width=rng.uniform(0.03, 0.09),
        perfect_share=rng.uniform(0.35, 0.45),
        severity=rng.gauss(0.2, 0.3),
        oversight=rng.uniform(0.02, 0.08),
    )


def pair_agreement(rankings: Iterable[Ranking]) -> float:
    """Share of pairs that two labelers, both ranking strictly, order alike; every two labelers of a prompt count.

    The lab's agreement report calls the same figure `agreement_strict`.
    """
    orders: dict[tuple[str, str, str], list[bool]] = {}
    for ranking in rankings:
        for better, worse in ranking.pairs():
            first, second = sorted((better, worse))
            orders.setdefault((ranking.prompt.id, first, second), []).append(better == first)
    same = both = 0
    for votes in orders.values():
        for a, b in combinations(votes, 2):
            both += 1
            same += a == b
    if not both:
        raise DataError("No two labelers ranked the same pair strictly; agreement needs shared prompts.")
    return same / both


def ceiling(rankings: Iterable[Ranking]) -> float:
    """Accuracy of the gold utility's order on the labelers' own pairs; equal utilities count one half.

    No reward model can be expected to do better: what is left is the labelers' taste and noise.
    """
    right = pairs = 0.0
    for ranking in rankings:
        gold = {c.id: judge(ranking.prompt, c.text, c.finished is not False).utility for c in ranking.completions}
        for better, worse in ranking.pairs():
            pairs += 1
            right += 1.0 if gold[better] > gold[worse] else 0.5 if gold[better] == gold[worse] else 0.0
    if not pairs:
        raise DataError("There are no strictly ranked pairs; a ceiling needs at least one.")
    return right / pairs


def calibrated_noise(
    shown: Sequence[tuple[Prompt, Sequence[Completion]]], group: str, *, labelers_each: int = 4, seed: int = 0
) -> float:
    """The group's mean noise at which its agreement on `shown` (prompts with their completions) meets the paper's.

    Bisection; every prompt is ranked by `labelers_each` labelers of the group. This is how `NOISE` was found, on the
    completions of `labkit.world.shown.sample_completions`.
    """
    target, _ = AGREEMENT[group]
    hired = [labeler for labeler in hire_labelers(seed) if labeler.group == group]
    low, high = 0.02, 0.8
    for _ in range(9):
        middle = (low + high) / 2
        turned = [replace(labeler, noise=labeler.noise * middle / NOISE[group]) for labeler in hired]
        if pair_agreement(rank_all(shown, turned, labelers_each, seed)) > target:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def rank_all(
    shown: Sequence[tuple[Prompt, Sequence[Completion]]], labelers: Sequence[Labeler], each: int = 1, seed: int = 0
) -> list[Ranking]:
    """Let `each` labelers, drawn for every prompt, rank its completions."""
    rankings = []
    for prompt, completions in shown:
        rng = Random(derive_seed(seed, "assign", prompt.id))
        rankings += [labeler.rank(prompt, completions, seed) for labeler in rng.sample(list(labelers), each)]
    return rankings


def _groups(perceived: Mapping[str, float], tie_width: float) -> tuple[tuple[str, ...], ...]:
    """Best first; a completion joins the group above it when it is within `tie_width` of that group's best."""
    groups: list[list[str]] = []
    for i in sorted(perceived, key=lambda i: -perceived[i]):
        if groups and perceived[groups[-1][0]] - perceived[i] < tie_width:
            groups[-1].append(i)
        else:
            groups.append([i])
    return tuple(map(tuple, groups))


def _seconds(prompt: Prompt, completions: Sequence[Completion], rng: Random) -> float:
    """Reading time, a little judging time per completion, and moods."""
    read = len(prompt.text.split()) + sum(len(c.text.split()) for c in completions)
    return (0.35 * read + 6.0 * len(completions)) * exp(rng.gauss(0, 0.3))
