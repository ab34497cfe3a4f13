"""A figure for each finding, from the records: means over seeds with their intervals."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from labkit.errors import DataError
from labkit.findings.drawing import HEAD, NAMES, bars, checked, dots, level, mean_line, new_figure, upright
from labkit.findings.evidence import interval
from labkit.findings.plan import MODELS
from labkit.findings.records import CLOSED_DOMAIN, HELD_OUT, TRAINING, Missing, Record, Records
from labkit.world.benchmarks import TAX_BENCHMARKS

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from labkit.findings.finding import Outcome

__all__ = ["claims_figure", "cost_rows", "figure_of"]

LINES = {"ppo_init": "dash", "base": "dot", "ppo_ptx": "dashdot"}  # what a sweep is seen against
DRAWN = {"dash": "dashed", "dot": "dotted", "dashdot": "dash-dotted"}
LABELS = {
    "tax": "benchmarks, mean of four",
    "lm_loss": "language loss, nats per token",
    "score": "validation reward (RM)",
    "gold": "gold utility",
}


def figure_of(outcome: Outcome, records: Records) -> go.Figure:
    """The finding's own figure, or where it has none (or no data for it) its claims with their regions."""
    if outcome.finding.figure is not None:
        try:
            return outcome.finding.figure(records)
        except (DataError, Missing):
            pass  # not recorded yet
    return claims_figure(outcome)


def claims_figure(outcome: Outcome) -> go.Figure:
    """One row per claim: the mean over seeds with its interval, a dot per seed, a line at the border of its region."""
    from labkit.figures.theme import QUIET, colour, plain

    fig = new_figure(outcome.finding.title, height=150 + 46 * len(outcome.claims), left=400)
    for place, claim in enumerate(outcome.claims):
        found = claim.measured
        values = list(claim.by_seed.values())
        fig.add_scatter(
            x=values, y=[place] * len(values), mode="markers", showlegend=False, marker={"size": 5, "color": QUIET}
        )
        if found.seeds:
            hue = colour(("holds", "does not hold", "not decided").index(claim.verdict)) if claim.deciding else QUIET
            dots(fig, [found], [place], hue, claim.verdict if claim.deciding else "shown beside")
        for border in (claim.above, claim.below) if claim.deciding else ():
            if math.isfinite(border):
                line = {"color": QUIET, "dash": "dash", "width": 1.2}
                fig.add_shape(
                    type="line", xref="x", yref="y", x0=border, x1=border, y0=place - 0.4, y1=place + 0.4, line=line
                )
    ticks = [plain("\n".join(wrap(c.words, 64))) for c in outcome.claims]
    seen = [x for c in outcome.claims for x in (*c.by_seed.values(), c.measured.low, c.measured.high)]
    seen += [x for c in outcome.claims if c.deciding for x in (c.above, c.below)]
    seen = [x for x in seen if x is not None and math.isfinite(x)]
    pad = 0.05 * (max(seen) - min(seen)) or 0.1
    fig.update_layout(
        showlegend=False,
        xaxis={"range": [min(seen) - pad, max(seen) + pad]},  # with every border in sight
        yaxis={
            "tickvals": list(range(len(ticks))),
            "ticktext": ticks,
            "range": [len(ticks) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
        },
    )
    return fig


def win_rates_by_size(records: Records) -> go.Figure:
    """Preferred to SFT, by size: each model in the eyes of held-out and training labelers (figures 1 and 3)."""
    from labkit.figures.theme import headed, percents

    fig = new_figure("Preferred to SFT", height=430)
    for place, model in enumerate(m for m in MODELS if m != "sft"):
        for group, dash in ((HELD_OUT, "solid"), (TRAINING, "dot")):
            points = {
                size: records.over_seeds(lambda r, m=model, g=group: r.rate(m, "sft", g).rate, (size,))
                for size in records.plan.sizes
            }
            mean_line(fig, f"{NAMES[model]}, {group}", points, place, dash)
    fig.update_layout(
        xaxis={"type": "category", "title": {"text": "size of the policy"}},
        yaxis={"title": {"text": "preferred to SFT of the same size"}, "range": [0, 1], **percents()},
        **headed("Preferred to SFT", [trace.name for trace in fig.data], 810),
    )
    return checked(fig)


def flags_by_model(records: Records) -> go.Figure:
    """Share of answers with each flag, by model, over sizes and seeds (figure 4)."""
    kinds: dict[str, Callable[[Record, str], float]] = {
        "hallucination (closed domain)": lambda r, m: r.flag(m, "hallucination", CLOSED_DOMAIN),
        "constraint kept": lambda r, m: r.flag(m, "satisfies_constraint", constrained=True),
        "wrong task": lambda r, m: r.flag(m, "fails_instruction"),
        "inappropriate": lambda r, m: r.flag(m, "inappropriate"),
    }
    return bars("How often labelers raised a flag", kinds, records, MODELS, "share of answers")


def benchmark_bars(records: Records, names: Sequence[str], title: str) -> go.Figure:
    """Benchmarks of base, SFT, PPO and PPO-ptx, over sizes and seeds."""
    kinds = {n.replace("_", " "): lambda r, m, n=n: r.benchmark(m, n) for n in names}
    return bars(title, kinds, records, ("base", "sft", "ppo", "ppo_ptx"), "share")


def sweep_figure(
    records: Records,
    *,
    stages: Callable[[str], Mapping[float, str]],
    axis: str,
    title: str,
    values: Sequence[str] = ("tax", "lm_loss", "score", "gold"),
    beside: Sequence[str] = (),
) -> go.Figure:
    """A panel per value over the swept number, at the sizes where sweeps are made.

    Dashed: the PPO init; dotted: GPT, where it is near enough (benchmarks and language loss); beside: further models.
    """
    from plotly.subplots import make_subplots

    from labkit.figures.theme import colour, plain, template

    fig = make_subplots(
        1, len(values), subplot_titles=[LABELS[v] for v in values], horizontal_spacing=0.27 / len(values)
    )
    chosen = stages(records.plan.scale)
    for place, name in enumerate(values, 1):
        seen = {number: interval(list(_swept(records, stage, name).values())) for number, stage in chosen.items()}
        seen = {n: i for n, i in seen.items() if i.seeds}
        ticks = [f"{n:g}" for n in seen]
        upright(fig, ticks, list(seen.values()), colour(place - 1), place)
        for model in ("ppo_init", *beside, *(("base",) if name in ("tax", "lm_loss") else ())):
            level(fig, interval(list(_swept(records, model, name).values())), LINES[model], place)
        fig.layout[f"xaxis{place if place > 1 else ''}"].update(type="category", title={"text": axis})
    title = f"{title} ({', '.join(f'{DRAWN[LINES[m]]}: {NAMES[m]}' for m in ('ppo_init', 'base', *beside))})"
    fig.update_layout(
        template=template(), title=plain(title), width=1180, height=360, margin={"t": 84}, showlegend=False
    )
    fig.update_annotations(font={"size": HEAD})
    return checked(fig)


def folds_figure(records: Records) -> go.Figure:
    """Accuracy of each fold's reward model on its own and on the held-out group."""

    def mean(r: Record, kind: str) -> float:
        return sum(row[kind] for row in r.results("folds")["folds"]) / len(r.results("folds")["folds"])

    kinds = {"own group": lambda r, _: mean(r, "own"), "held-out group": lambda r, _: mean(r, "held_out")}
    return bars(
        "Reward model by labeler group", kinds, records, ("accuracy",), "share of pairs", (records.plan.judge,)
    )


COST_STAGES = {
    "SFT": "sft", "PPO init": "ppo_init", "reward model": "reward", "PPO-ptx": "ppo_ptx",
    "reward base (reader)": "reader", "pretraining": "pretraining",
}  # fmt: skip


def _cost(r: Record, key: str) -> float:
    found = r.results("cost").get(key)
    if found is None:
        raise Missing(f"the cost of {r.run.name} has no {key}.")
    return found


def cost_bars(records: Records) -> go.Figure:
    """Floating-point operations of each stage."""
    kinds = {name: lambda r, _, key=key: _cost(r, key) for name, key in COST_STAGES.items()}
    return bars("Cost of each stage", kinds, records, ("operations",), "floating-point operations")


def cost_rows(records: Records) -> list[dict[str, str]]:
    """The same as a table: operations of each stage by size, means over seeds, and as a share of pretraining."""

    def mean(size: str, key: str) -> float | None:
        found = []
        for seed in records.plan.seeds:
            with contextlib.suppress(Missing):
                found.append(_cost(records.cells[size, seed], key))
        return sum(found) / len(found) if found else None

    def cell(size: str, key: str) -> str:
        own, whole = mean(size, key), mean(size, "pretraining")
        if own is None:
            return "-"
        return f"{own:.3g} ({100 * own / whole:.3g} %)" if whole else f"{own:.3g}"

    return [
        {"stage": name, **{f"{size}: operations (of pretraining)": cell(size, key) for size in records.plan.sizes}}
        for name, key in COST_STAGES.items()
    ]


def epochs_figure(records: Records) -> go.Figure:
    """Validation loss, RM score and gold utility after each epoch of a long SFT."""
    from plotly.subplots import make_subplots

    from labkit.figures.theme import colour, plain, template

    kinds = {"valid_loss": "validation loss", "rm_score": "RM score", "gold": "gold utility"}
    fig = make_subplots(1, 3, subplot_titles=list(kinds.values()), horizontal_spacing=0.09)
    for place, kind in enumerate(kinds, 1):
        by_epoch: dict[int, list[float]] = {}
        for seed in records.plan.seeds:
            for epoch, values in _epochs_of(records, seed, kind).items():
                by_epoch.setdefault(epoch, []).append(sum(values) / len(values))  # sizes of a seed are no repetitions
        upright(fig, list(by_epoch), [interval(v) for v in by_epoch.values()], colour(place - 1), place)
        fig.layout[f"xaxis{place if place > 1 else ''}"].update(title={"text": "epoch"})
    title = plain("A long SFT, epoch by epoch")
    fig.update_layout(template=template(), title=title, width=980, height=360, margin={"t": 84}, showlegend=False)
    fig.update_annotations(font={"size": HEAD})
    return checked(fig)


def _epochs_of(records: Records, seed: int, kind: str) -> dict[int, list[float]]:
    """One value per size at each epoch of a seed's long SFT, where it was measured."""
    found: dict[int, list[float]] = {}
    for size in records.plan.sweep:
        with contextlib.suppress(Missing):
            for row in records.cells[size, seed].results("sft-long")["epochs"]:
                found.setdefault(row["epoch"], []).append(row[kind])
    return found


def _swept(records: Records, stage: str, name: str) -> dict[int, float]:
    def value(r: Record) -> float:
        if name in ("tax", "lm_loss"):
            return r.benchmark(stage, *(TAX_BENCHMARKS if name == "tax" else (name,)))
        return r.value(stage, name)

    return records.swept(value)
