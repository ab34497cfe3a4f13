"""Alerts: what a run's numbers say is going wrong, in a sentence, with the usual cause and a knob to turn.

Rules read the steps, and what was measured by hand, and are pure: the same record gives the same alerts, live in the
cockpit and afterwards in a report. A suggestion is a change of knobs that a person may apply with one click; nothing is ever changed by itself.
Thresholds are ordinary experience with PPO on language models, not numbers of the paper; each stands beside its rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from labkit.figures.records import by_prompts
from labkit.types import Step

__all__ = ["RULES", "Alert", "alerts", "failure"]

WINDOW = 5  # steps over which "now" is averaged


@dataclass(frozen=True)
class Alert:
    """One warning: which rule, how bad, the sentence, the usual cause, knobs to try (or None), and where to go back to.

    back: a rule names the step it would go back to; what `alerts` gives names a snapshot that exists, or None.
    """

    rule: str
    level: str  # "warning" or "serious"
    sentence: str
    cause: str
    suggestion: Mapping[str, float] | None = None
    back: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def alerts(
    steps: Sequence[Step], snapshots: Sequence[int] | None = None, evaluations: Sequence[Mapping[str, Any]] = ()
) -> list[Alert]:
    """The alerts that the newest of `steps` raise, serious ones first; steps are in order of their number.

    snapshots: steps that the run can go back to, where they are known. evaluations: what was measured by hand, oldest
    first, as `StageFolder.evaluations` gives it.
    """
    steps = list(steps)
    if not steps:
        return []
    raised = [alert for rule in RULES for alert in rule(steps)]
    if not any(alert.rule == "reward_hacking" for alert in raised):
        raised += win_rate_fall(steps, evaluations)
    found = [_leading_back(alert, steps[-1].number, snapshots) for alert in raised]
    return sorted(found, key=lambda a: a.level != "serious")


def _leading_back(alert: Alert, now: int, snapshots: Sequence[int] | None) -> Alert:
    """The alert with a snapshot that exists in place of the step its rule would go back to; lost weights lead before it only."""
    wanted = alert.back
    if wanted is None:
        return alert
    if snapshots is None:
        return replace(alert, back=None, cause=f"{alert.cause} Go back to a snapshot near step {wanted}.")
    found = [n for n in snapshots if n < now and (n <= wanted or alert.rule != "not_finite")]
    if not found:
        return replace(alert, back=None, cause=f"{alert.cause} There is no snapshot to go back to.")
    nearest = min(found, key=lambda n: abs(n - wanted))
    return replace(alert, back=nearest, cause=f"{alert.cause} The nearest snapshot to go back to is that of step {nearest}.")


def failure(error: str, steps: Sequence[Step], snapshots: Sequence[int] = ()) -> Alert:
    """The alert of a run that ended by an error, which no Step tells: a broken promise is raised before its Step is."""
    sentence, mark, causes = error.partition("Usual causes:")
    knobs = steps[-1].knobs if steps else {}
    rates = {r: knobs[r] / 3 for r in ("policy_lr", "value_lr", "lr_scale") if knobs.get(r)}
    back = "Roll back to a snapshot: the run waits there, paused, and what you turn before is applied at its next step."
    return Alert(
        "failed",
        "serious",
        f"The run ended after step {steps[-1].number if steps else 0}. {sentence.strip()}",
        f"{mark} {causes.strip()} {back}".strip(),
        (rates or None) if "learning rate" in error else None,
        max(snapshots, default=None),
    )


def _series(steps: Sequence[Step], key: str) -> list[float]:
    """The finite values of a metric, in order."""
    values = (s.metrics.get(key) for s in steps)
    return [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)]


def _now(steps: Sequence[Step], key: str) -> float:
    """Mean of a metric over the newest steps; NaN where there is none."""
    values = _series(steps[-WINDOW:], key)
    return fmean(values) if values else math.nan


def _start(steps: Sequence[Step], key: str) -> float:
    """Mean of a metric over the first steps of the run; NaN where the run is too short to tell start from now."""
    values = _series(steps, key)
    return fmean(values[:WINDOW]) if len(values) >= 2 * WINDOW else math.nan


def _turn(
    steps: Sequence[Step], name: str, factor: float, *, low: float = 0.0, high: float = math.inf
) -> dict[str, float] | None:
    """A knob in force times `factor`, rounded to two digits; None where there is no such knob or it would not move."""
    value = steps[-1].knobs.get(name)
    if value is None:
        return None
    asked = float(f"{min(max(value * factor, low), high):.2g}")
    return {name: asked} if asked != value else None


def _more_penalty(steps: Sequence[Step]) -> dict[str, float] | None:
    """Twice the β in force, or 0.02 where it is 0; half the policy's learning rate where β cannot rise or there is none."""
    if steps[-1].knobs.get("kl_coef") == 0:
        return {"kl_coef": 0.02}
    return _turn(steps, "kl_coef", 2, high=10) or _turn(steps, "policy_lr", 0.5)


def not_finite(steps: Sequence[Step]) -> Iterator[Alert]:
    """NaN or infinity in any metric of the newest step, but for those that have no meaning at zero variance."""
    bad = [k for k, v in steps[-1].metrics.items() if isinstance(v, float) and not math.isfinite(v)]
    bad = [k for k in bad if k not in {"explained_variance", "grad_cosine"}]
    if bad:
        rates = [r for r in ("policy_lr", "value_lr", "lr_scale") if r in steps[-1].knobs]
        sound = [s.number for s in steps if all(math.isfinite(s.metrics.get(k, 0.0)) for k in bad)]
        yield Alert(
            "not_finite",
            "serious",
            f"Step {steps[-1].number} has no finite {', '.join(sorted(bad)[:4])}.",
            "Usually a learning rate that is too high, or half precision overflowing; the weights are lost too: "
            "go back to before it, then lower the rate.",
            {r: steps[-1].knobs[r] / 3 for r in rates} or None,
            max(sound, default=0),
        )


def kl_runaway(steps: Sequence[Step]) -> Iterator[Alert]:
    """KL beyond three times its target, or 1.5 times while it grows, or doubled within ten steps above 10 nats."""
    kl, target = _now(steps, "kl_k1"), steps[-1].knobs.get("kl_target", math.nan)
    before = _now(steps[: -2 * WINDOW], "kl_k1") if len(steps) > 2 * WINDOW else math.nan
    growing = kl > 1.1 * _now(steps[:-WINDOW], "kl_k1") if len(steps) > WINDOW else True
    if kl > 3 * target or (kl > 1.5 * target and growing) or (kl > 10 and kl > 2 * before):
        yield Alert(
            "kl_runaway",
            "serious" if kl > 3 * target else "warning",
            f"KL to the PPO init is {kl:.1f} nats per episode{' and growing' * growing}; the target is {target:g}.",
            "The policy leaves the text that the reward model was trained on, and its scores stop meaning anything: "
            "β is too small for this reward's scale, or the learning rate is too high.",
            _more_penalty(steps),
        )


def negative_kl(steps: Sequence[Step]) -> Iterator[Alert]:
    """A mean k1 below zero: impossible in expectation for tokens drawn from the policy itself."""
    kl = _now(steps, "kl_k1")
    if kl < -0.05 and len(_series(steps[-WINDOW:], "kl_k1")) >= min(3, len(steps)):
        yield Alert(
            "negative_kl",
            "serious",
            f"The mean KL is negative ({kl:.2f} nats per episode), which sampling from the policy cannot give.",
            "Usual causes: tokens were not drawn from the policy that is measured (top-k, top-p, another temperature), "
            "dropout in one of the two passes, or masks that count padding or miss the end token. No knob mends that; "
            "a lower rate keeps the policy from running after a reward that is not there while you look.",
            {"temperature": 1.0} if steps[-1].knobs.get("temperature", 1.0) != 1.0 else _turn(steps, "policy_lr", 0.5),
        )


def entropy_collapse(steps: Sequence[Step]) -> Iterator[Alert]:
    """Entropy below a quarter of where it began."""
    now, start = _now(steps, "entropy"), _start(steps, "entropy")
    if now < 0.25 * start:
        yield Alert(
            "entropy_collapse",
            "warning",
            f"Entropy fell from {start:.2f} to {now:.2f} nats per token: nearly all samples of a prompt are alike.",
            "The policy found one answer that the reward model likes and stopped looking; "
            "a larger β keeps it closer to the varied PPO init, a lower learning rate slows the fall.",
            _more_penalty(steps),
        )


def length_collapse(steps: Sequence[Step]) -> Iterator[Alert]:
    """Responses under half as long as at the start."""
    now, start = _now(steps, "response_length"), _start(steps, "response_length")
    if now < 0.5 * start:
        yield Alert(
            "length_collapse",
            "warning",
            f"Responses shrank from {start:.0f} to {now:.0f} tokens.",
            "The reward model prefers short texts, or each token's KL penalty outweighs the score: "
            "look at reward against length in the inspector before turning anything.",
            _more_penalty(steps) if _rising(steps, "score") else _turn(steps, "kl_coef", 0.5) or _turn(steps, "policy_lr", 0.5),
        )


def length_growth(steps: Sequence[Step]) -> Iterator[Alert]:
    """Responses over 1.8 times as long as at the start while the score rises: the commonest hack."""
    now, start = _now(steps, "response_length"), _start(steps, "response_length")
    if now > 1.8 * start and _rising(steps, "score"):
        yield Alert(
            "length_growth",
            "warning",
            f"Responses grew from {start:.0f} to {now:.0f} tokens while the score rose.",
            "Length is the commonest way to please a reward model; "
            "compare reward against length for SFT and this policy.",
            _more_penalty(steps),
        )


def value_divergence(steps: Sequence[Step]) -> Iterator[Alert]:
    """Explained variance below -0.2 after the first ten steps: the value model adds noise instead of removing it."""
    explained = _now(steps, "explained_variance")
    if len(steps) > 2 * WINDOW and explained < -0.2:
        yield Alert(
            "value_divergence",
            "warning",
            f"The value model explains {explained:.2f} of the returns' variance: worse than a constant.",
            "Its learning rate is too high, or the rewards change faster than it can follow.",
            _turn(steps, "value_lr", 0.5),
        )


def reward_hacking(steps: Sequence[Step]) -> Iterator[Alert]:
    """The RM's score rises while gold reward, logged at every step in the world, has fallen from its best by a tenth of its spread or more."""
    values = _series(steps, "gold")
    if len(steps) < 3 * WINDOW or len(values) < 3 or not _rising(steps, "score"):
        return
    width = min(WINDOW, max(1, len(values) // 3))
    smooth = [fmean(values[i : i + width]) for i in range(len(values) - width + 1)]
    best, now = max(smooth), smooth[-1]
    noise = _noise(values) / math.sqrt(width)
    if best - now > max(0.1 * (best - min(smooth)), 3 * noise) and best > now:
        at = _series_steps(steps, "gold")[smooth.index(best) + width // 2]
        yield Alert(
            "reward_hacking",
            "serious",
            f"The score still rises, but the gold reward fell from {best:.3g} around step {at} to {now:.3g}.",
            OVER_OPTIMISED,
            _more_penalty(steps),
            at,
        )


def win_rate_fall(steps: Sequence[Step], evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Alert]:
    """The newest win rate on some prompts lies below an earlier one on the same prompts, and their intervals do not meet.

    Intervals that do not meet ask for more than one test of two means would: a run is evaluated many times, and the best
    of all earlier ones is chance's favourite. The prompts evaluated last go first.
    """
    for rows in reversed(list(by_prompts(evaluations).values())):
        now = rows[-1]
        better = [row for row in rows if row["step"] < now["step"] and row["values"]["low"] > now["values"]["high"]]
        if not better:
            continue
        best = max(better, key=lambda row: (row["values"]["win_rate"], row["step"]))
        count, rises = len(now["prompts"]), _rising(steps, "score")
        yield Alert(
            "reward_hacking" if rises else "win_rate_fell",
            "serious",
            f"{'The score still rises, but the' if rises else 'The'} win rate on {'a prompt' if count == 1 else f'the same {count} prompts'} fell "
            f"from {_interval(best)} at step {best['step']} to {_interval(now)} at step {now['step']}, which chance does not explain.",
            OVER_OPTIMISED if rises else NOT_BY_SCORE,
            _more_penalty(steps),
            best["step"],
        )
        return


OVER_OPTIMISED = (
    "Over-optimisation: the policy has learned the reward model's mistakes. Go back, "
    "raise β, or retrain the reward model on the newest policy's samples."
)
NOT_BY_SCORE = (
    "The score does not rise either, so the reward model is not what was pleased: the policy got worse. "
    "Look at KL, entropy and the newest samples; go back, and keep it closer to its init or let it learn more slowly."
)


def _interval(row: Mapping[str, Any]) -> str:
    values = row["values"]
    return f"{100 * values['win_rate']:.0f} % [{100 * values['low']:.0f} % to {100 * values['high']:.0f} %]"


def low_end_rate(steps: Sequence[Step]) -> Iterator[Alert]:
    """Under 70 % of responses end by themselves."""
    now = _now(steps, "end_token_rate")
    if now < 0.7:
        yield Alert(
            "low_end_rate",
            "warning",
            f"Only {100 * now:.0f} % of the responses end by themselves; the others are cut at the length limit.",
            "The policy never learned to stop (train SFT with the end token in the loss), the limit is too short, "
            "or a high temperature wanders off.",
            {"temperature": 1.0} if steps[-1].knobs.get("temperature", 1.0) > 1.0 else None,
        )


def clipping(steps: Sequence[Step]) -> Iterator[Alert]:
    """Over 40 % of tokens clipped: most of the batch teaches nothing."""
    now = _now(steps, "clip_fraction")
    if now > 0.4:
        yield Alert(
            "clipping",
            "warning",
            f"{100 * now:.0f} % of the tokens leave the clip range, so their gradient is cut.",
            "The policy moves too far on one batch: lower its learning rate.",
            _turn(steps, "policy_lr", 0.5),
        )


def overfitting(steps: Sequence[Step]) -> Iterator[Alert]:
    """Reward model: validation loss 15 % above its best while the training loss falls."""
    valid = _series(steps, "valid_loss")
    if steps[-1].stage == "reward" and len(valid) >= 3 and valid[-1] > 1.15 * min(valid) and not _rising(steps, "loss"):
        yield Alert(
            "overfitting",
            "warning",
            f"The validation loss is {valid[-1]:.3f}, up from {min(valid):.3f}, while the training loss falls.",
            "Reward models overfit within an epoch (the paper trains for one): stop here, or get more rankings.",
            _turn(steps, "lr_scale", 0.5),
        )


RULES: tuple[Callable[[Sequence[Step]], Iterator[Alert]], ...] = (
    not_finite,
    kl_runaway,
    negative_kl,
    reward_hacking,
    entropy_collapse,
    length_collapse,
    length_growth,
    value_divergence,
    low_end_rate,
    clipping,
    overfitting,
)


def _rising(steps: Sequence[Step], key: str) -> bool:
    """True when the newest third of a metric lies above the third before it."""
    values = _series(steps, key)
    third = len(values) // 3
    return third > 0 and fmean(values[-third:]) > fmean(values[-2 * third : -third])


def _noise(values: Sequence[float]) -> float:
    """Standard deviation of the noise on a slowly moving curve, from the differences of neighbours."""
    squares = [(b - a) ** 2 / 2 for a, b in zip(values, values[1:], strict=False)]
    return math.sqrt(fmean(squares)) if squares else 0.0


def _series_steps(steps: Sequence[Step], key: str) -> list[int]:
    return [s.number for s in steps if isinstance(v := s.metrics.get(key), (int, float)) and math.isfinite(v)]
