"""What is drawn of a stage: one `Panel` per chart, shared by the live board and the static figures.

A panel lists series keys. A key is a metric of the Step, `knob:<name>` for a knob in force, or one of the derived
quantities in `DERIVED`. Panels without any data are left out by those who draw. A loop of one's own gets panels by its
stage's name: `PANELS["bandit"] = (Panel("regret", "Regret", (("regret", "regret"),), "What the best arm would have paid."),)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from labkit.types import Step

__all__ = ["DERIVED", "PANELS", "WIN_RATE", "Panel", "panels_for", "value_of", "with_data"]


@dataclass(frozen=True)
class Panel:
    """One chart: title, series as (key, label), how to read it, and what to draw besides the series."""

    key: str
    title: str
    series: tuple[tuple[str, str], ...]
    reading: str
    log: bool = False
    target: str = ""  # key of a dashed target line, such as knob:kl_target
    level: float | None = None  # a fixed reference line, such as chance = 0.5
    span: tuple[float | None, float | None] = (None, None)  # fixed axis limits

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _norm_ratio(metrics: dict[str, float]) -> float:
    ppo, ptx = metrics.get("grad_norm_ppo"), metrics.get("grad_norm_ptx")
    return ptx / ppo if ppo and ptx else math.nan


DERIVED: dict[str, Callable[[Any], float]] = {"grad_norm_ratio": _norm_ratio}

_PPO = (
    Panel(
        "reward",
        "Reward",
        (("score", "RM score"), ("objective", "score − βKL")),
        "The RM's score of the sampled responses, and what PPO maximises. "
        "A rising score alone proves nothing: read it with gold and KL.",
    ),
    Panel(
        "gold",
        "Gold reward",
        (("gold", "gold"),),
        "What the judge of the world really thinks. Falling while the score rises is over-optimisation.",
    ),
    Panel(
        "kl",
        "KL to the PPO init",
        (("kl_k1", "k1"), ("kl_k3", "k3")),
        "Nats per episode between the policy and the model it started from; k1 is unbiased, k3 never negative. "
        "A dashed line is the target of the KL controller, which steers only while β is on auto.",
        target="knob:kl_target",
    ),
    Panel(
        "beta",
        "β in force",
        (("knob:kl_coef", "β"),),
        "The KL coefficient that each step used, moved by hand or by the controller.",
        log=True,
    ),
    Panel(
        "entropy",
        "Entropy",
        (("entropy", "nats per token"),),
        "How undecided the policy is. A dive towards zero means it has stopped exploring.",
    ),
    Panel(
        "clip",
        "Clip fraction",
        (("clip_fraction", "share of tokens"),),
        "Tokens whose probability ratio left the clip range. Above 0.3 the steps are too large.",
    ),
    Panel(
        "ratio",
        "Probability ratio",
        (("ratio_mean", "mean"), ("ratio_max", "max")),
        "New over old probability of the sampled tokens; the mean stays near 1.",
        log=True,
        level=1.0,
    ),
    Panel(
        "value_loss",
        "Value loss",
        (("value_loss", "value loss"),),
        "Squared error of the value model; it may rise when rewards grow.",
    ),
    Panel(
        "explained",
        "Explained variance",
        (("explained_variance", "share"),),
        "1 is a perfect value model, 0 no better than the mean, below 0 harmful.",
        level=0.0,
        span=(None, 1.05),
    ),
    Panel(
        "ptx",
        "Pretraining loss (ptx)",
        (("ptx_loss", "nats per token"),),
        "Language modelling on pretraining text: its rise is the alignment tax.",
    ),
    Panel(
        "norms",
        "Gradient norm, ptx / PPO",
        (("grad_norm_ratio", "ratio"),),
        "How strongly pretraining pulls compared with the reward; γ moves it.",
        log=True,
        level=1.0,
    ),
    Panel(
        "cosine",
        "Gradient cosine",
        (("grad_cosine", "cosine"),),
        "Do the two gradients agree (1), ignore each other (0) or fight (−1)?",
        level=0.0,
    ),
    Panel(
        "length",
        "Response length",
        (("response_length", "tokens"),),
        "Mean tokens per response. Length is the commonest way to please a reward model.",
    ),
    Panel(
        "ends",
        "End-token rate",
        (("end_token_rate", "share"),),
        "Responses that ended by themselves; the rest were cut and get no honest score.",
        span=(0.0, 1.05),
    ),
    Panel(
        "time",
        "Seconds",
        (("time_generation", "draw"), ("time_scoring", "score"), ("time_update", "PPO"), ("time_ptx", "ptx")),
        "Where the time of an iteration goes: drawing answers, scoring them, the PPO and the ptx gradient. The profile has the rest.",
        span=(0.0, None),
    ),
)
_OPTIMIZER = (
    Panel("lr", "Learning rate", (("lr", "lr"),), "The rate in force, with the factor from the knob."),
    Panel("norm", "Gradient norm", (("grad_norm", "norm"),), "Spikes mean that a batch surprised the model.", log=True),
)
_SFT = (
    Panel(
        "loss",
        "Loss",
        (("loss", "train"), ("valid_loss", "validation")),
        "Cross-entropy of the demonstrations. The paper overfits on it knowingly: the RM score goes on rising.",
    ),
    Panel(
        "rm",
        "RM score of samples",
        (("rm_score", "RM score"),),
        "The paper chooses the SFT checkpoint by this, not by validation loss.",
    ),
    *_OPTIMIZER,
    Panel("tokens", "Tokens per step", (("tokens", "tokens"),), "Real tokens in the batch."),
)
_INIT = (
    Panel(
        "loss",
        "Loss",
        (("loss", "train + pretraining"), ("valid_loss", "validation")),
        "Cross-entropy: in training of the demonstrations and of the pretraining text mixed in, which the model knows already; in validation "
        "of demonstrations alone. Only the latter can be compared with SFT's.",
    ),
    *_SFT[1:],
)
_REWARD = (
    Panel(
        "loss",
        "Ranking loss",
        (("loss", "train"), ("valid_loss", "validation")),
        "−log σ of the preferred score minus the other; ln 2 is a coin.",
        level=math.log(2),
    ),
    Panel(
        "accuracy",
        "Pair accuracy",
        (("accuracy", "train"), ("valid_accuracy", "validation")),
        "Pairs ordered as the labelers did; the paper reports 72 % on held-out labels.",
        level=0.5,
        span=(None, 1.02),
    ),
    *_OPTIMIZER,
)
PANELS: dict[str, tuple[Panel, ...]] = {"ppo": _PPO, "ppo_ptx": _PPO, "sft": _SFT, "ppo_init": _INIT, "reward": _REWARD}

#: Drawn of any stage that was evaluated by hand. Its points come from the record's evaluations, and not from the Steps.
WIN_RATE = Panel(
    "win_rate",
    "Win rate",
    (),
    "Measured by \"Evaluate now\": share of comparisons won, with its interval. Only evaluations of the same prompts are joined by a line; "
    "the dotted one is a tie.",
    level=0.5,
)


def panels_for(stage: str) -> tuple[Panel, ...]:
    """The panels of a stage by its name (`ppo_ptx@branch` is a ppo); of an unknown one, all panels."""
    known = next((PANELS[name] for name in PANELS if stage == name or stage.startswith((f"{name}@", f"{name}-"))), None)
    return known or (*_PPO, *(p for p in (*_SFT, *_REWARD) if p.key in {"loss", "accuracy", "rm", "norm"}))


def value_of(step: Step, key: str) -> float:
    """The number behind a series key at a step; NaN where the step does not have it."""
    if key.startswith("knob:"):
        found = step.knobs.get(key[5:])
    elif key in DERIVED and key not in step.metrics:
        found = DERIVED[key](dict(step.metrics))
    else:
        found = step.metrics.get(key)
    try:
        return float(found) if found is not None else math.nan
    except (TypeError, ValueError):
        return math.nan


def with_data(panels: Iterable[Panel], runs: Sequence[Sequence[Step]]) -> list[Panel]:
    """The panels that at least one step has a finite number for; a pretraining gradient of zero counts as none."""

    def has(key: str) -> bool:
        return any(math.isfinite(value_of(step, key)) for steps in runs for step in steps)

    return [p for p in panels if any(has(key) for key, _ in p.series)]
