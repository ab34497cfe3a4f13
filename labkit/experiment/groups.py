"""Does a reward model serve people whose rankings it never saw? The paper's five folds by labeler group (section 4.1).

    report = labeler_groups(lab)                      # on the run's own rankings
    report = labeler_groups(lab, rankings)            # on any others; the lab says what the reward models start from
    print(report.text()); report.to_json()

Labelers are split into groups; one reward model for each learns from the others, and all are asked for rankings of held-out
prompts, by the group they never saw and by those they learnt from. Nothing is written.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit import reward
from labkit.errors import DataError
from labkit.experiment.sources import FolderSource
from labkit.knobs import RewardKnobs, constant
from labkit.labels.exchange.rows import short_hash
from labkit.labels.intervals import FEW, Figure, bootstrap
from labkit.types import Ranking

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = ["GroupFold", "GroupsReport", "labeler_groups", "reward_model_of"]

PAPER = "In the paper, with its own labelers: 72.4 ± 0.4 % and 69.6 ± 0.9 %."


@dataclass(frozen=True)
class GroupFold:
    """One reward model: whom it never saw, what it learnt from, and how it did; None where no pair was held out."""

    labelers: tuple[str, ...]
    rankings: int
    own: reward.Accuracy | None
    held_out: reward.Accuracy | None


@dataclass(frozen=True)
class GroupsReport:
    """All folds, and all of their pairs together."""

    folds: tuple[GroupFold, ...]
    prompts: int  # held out, with pairs of both kinds or one
    own: reward.Share
    held_out: reward.Share
    difference: Figure  # own less held out, prompts resampled

    @property
    def sentence(self) -> str:
        """What the difference allows to say."""
        d = self.difference
        if d.value is None or d.low is None or d.clusters < FEW:
            counted = f"{self.prompts} held-out prompt{'' if self.prompts == 1 else 's'}"
            return f"{counted}: too few to say whether it serves labelers that it never saw as well as its own."
        told = f"{100 * d.value:+.1f} points [{100 * d.low:.1f}, {100 * d.high:.1f}] more on its own labelers than on those it never saw"
        if d.low > 0:
            return f"{told}: it serves its own better."
        return f"{told}: {'it serves those it never saw better.' if d.high < 0 else 'no difference that could be told.'}"

    def to_json(self) -> dict[str, Any]:
        share = lambda s: None if s is None else asdict(s.overall)  # noqa: E731
        return {
            "folds": [
                {"labelers": list(f.labelers), "rankings": f.rankings, "own": share(f.own), "held_out": share(f.held_out)}
                for f in self.folds
            ],
            "own": asdict(self.own),
            "held_out": asdict(self.held_out),
            "difference": self.difference.to_json(),
            "held_out_prompts": self.prompts,
            "sentence": self.sentence,
        }

    def text(self) -> str:
        """A row per fold, all together, and the sentence."""
        from tabulate import tabulate

        rows = [
            {
                "group held out": _short(f.labelers),
                "rankings learnt from": f.rankings,
                "its own labelers": str(f.own.overall) if f.own else "-",
                "held-out group": str(f.held_out.overall) if f.held_out else "-",
            }
            for f in self.folds
        ]
        rows.append({"group held out": "all together", "its own labelers": str(self.own), "held-out group": str(self.held_out)})
        head = f"Accuracy on {self.prompts} held-out prompts, with 95 % intervals clustered by prompt."
        return f"{head}\n\n{tabulate(rows, 'keys', disable_numparse=True, missingval='')}\n\n{self.sentence} {PAPER}"


def labeler_groups(
    lab: Experiment,
    rankings: Sequence[Ranking] | None = None,
    *,
    groups: int = 5,
    say: Callable[[str], None] = lambda line: None,
) -> GroupsReport:
    """Train a reward model for each group of labelers, blind to that group, and judge all on held-out prompts.

    rankings: by default those of the run, for training and validation. Raises DataError where there are fewer labelers
    than groups.
    """
    given = lab.rankings("train") + lab.rankings("valid") if rankings is None else rankings
    if rankings is not None or isinstance(lab.source, FolderSource):
        given = [replace(r, prompt=replace(r.prompt, id=short_hash(r.prompt.text))) for r in given]  # each file may number its rows
    folds, settings = [], lab.preset.reward.but(seed=lab.seed)
    for number, fold in enumerate(reward.labeler_folds(given, groups=groups, seed=lab.seed), 1):
        say(f"Reward model {number} of {groups}: {len(fold.train)} rankings, none by {_short(fold.labelers)}.")
        state = reward_model_of(lab, fold.train, settings)
        own, held = (_judged(state, part) for part in (fold.own, fold.held_out))
        folds.append(GroupFold(fold.labelers, len(fold.train), own, held))
    return _report(folds, lab.seed)


def reward_model_of(lab: Experiment, rankings: Sequence[Ranking], settings: reward.RewardSettings) -> reward.RewardState:
    """A reward model of the lab's base that has learnt these rankings, in memory only."""
    state = reward.start(lab.reward_base, seed=settings.seed)
    for _ in reward.loop(state, rankings, constant(RewardKnobs()), settings):
        pass
    return state


def _judged(state: reward.RewardState, rankings: Sequence[Ranking]) -> reward.Accuracy | None:
    """None where no pair can be asked for: all tied, or too long."""
    with contextlib.suppress(DataError):
        return reward.accuracy(state.model, state.tokenizer, [r for r in rankings if r.pairs()])
    return None


def _report(folds: Sequence[GroupFold], seed: int) -> GroupsReport:
    outcomes = {kind: [o for f in folds if (found := getattr(f, kind)) for o in found.outcomes] for kind in ("own", "held_out")}
    prompts = sorted({prompt for told in outcomes.values() for prompt, _ in told})
    (right, asked), (right_out, asked_out) = (_by_prompt(outcomes[kind], prompts) for kind in ("own", "held_out"))
    difference = bootstrap(
        lambda w: (w @ right) / (w @ asked) - (w @ right_out) / (w @ asked_out),
        len(prompts), n=sum(map(len, outcomes.values())), used=int((asked_out > 0).sum()), seed=seed,
    )  # fmt: skip
    return GroupsReport(tuple(folds), len(prompts), reward.share(outcomes["own"]), reward.share(outcomes["held_out"]), difference)


def _by_prompt(outcomes: Iterable[tuple[str, float]], prompts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(prompts,) pairs ordered rightly, and pairs asked for."""
    found: dict[str, list[float]] = defaultdict(list)
    for prompt, value in outcomes:
        found[prompt].append(value)
    return np.array([sum(found[p]) for p in prompts], float), np.array([len(found[p]) for p in prompts], float)


def _short(labelers: Sequence[str]) -> str:
    """The first three names, and how many there are."""
    return ", ".join(labelers[:3]) + (f" and {len(labelers) - 3} more" if len(labelers) > 3 else "")
