"""Findings beyond the paper: over-optimisation, ensembles of judges, iterated RLHF, other methods on the same data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from labkit.baselines import EVALUATION as EVALUATION_OF_METHODS
from labkit.errors import DataError
from labkit.findings.evidence import Claim
from labkit.findings.finding import Finding
from labkit.findings.plan import METHODS, ROUNDS
from labkit.findings.records import Missing, Record, Records

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["BEYOND"]

UNPENALISED = "ppo-beta=0"


def _overoptimised(records: Records) -> list[Claim]:
    def late_less_early(what: str) -> Callable[[Record], float]:
        """Mean of the last quarter of the run, less that of its second quarter."""

        def value(r: Record) -> float:
            values = [s.metrics[what] for s in r.steps(UNPENALISED)]
            quarter = max(1, len(values) // 4)
            early, late = values[quarter : 2 * quarter] or values[:1], values[-quarter:]
            return sum(late) / len(late) - sum(early) / len(early)

        return value

    return [
        Claim("proxy reward, last quarter less second (β = 0)", records.further(late_less_early("score")), above=0.0),
        Claim("gold reward over the same stretch", records.further(late_less_early("gold")), below=0.0),
    ]


def _overoptimisation_figure(records: Records) -> go.Figure:
    """Proxy and gold against √KL: PPO without penalty and best-of-n (dashed) of one cell, with Gao et al.'s fits."""
    from labkit.figures import proxy_and_gold
    from labkit.figures.theme import colour, headed
    from labkit.types import Step

    cell = next((c for (size, _), c in records.cells.items() if size == records.plan.further and _has(c)), None)
    if cell is None:
        raise DataError("No run without KL penalty was recorded yet.")
    rows = cell.results("best-of-n")["rows"]
    drawn = [
        Step("ppo", i, {"score": row["proxy"], "gold": row["gold"], "kl_k1": row["kl"]})
        for i, row in enumerate(rows, 1)
    ]
    fig = proxy_and_gold({"PPO, β = 0": cell.steps(UNPENALISED)})
    for trace in proxy_and_gold({"best of n": drawn}, kind="bon").data:
        hue = colour(2 + ("gold" in (trace.name or "") or trace.line.color == colour(1)))
        trace.update(line={"color": hue, "dash": "dash"}, marker={"color": hue})
        fig.add_trace(trace)
    title = f"Proxy and gold against √KL: {cell.size}, seed {cell.seed} alone (dashed: best of n)"
    return fig.update_layout(**headed(title, [trace.name for trace in fig.data if trace.name], 640))


def _has(cell: Record) -> bool:
    try:
        return bool(cell.steps(UNPENALISED)) and bool(cell.results("best-of-n"))
    except Missing:
        return False


def _ensemble(records: Records) -> list[Claim]:
    def gain(r: Record) -> float:
        return r.value("ppo-ensemble", "gold") - r.value(UNPENALISED, "gold")

    return [
        Claim("gold utility with three judges (worst case), less with one (both β = 0)", records.further(gain), above=0.0)
    ]


def _rounds(records: Records) -> list[Claim]:
    def last_less_first(what: str) -> Callable[[Record], float]:
        def value(r: Record) -> float:
            first, *_, last = [row[what] for row in r.results("rounds")["rounds"]]
            if first is None or last is None:
                raise Missing(f"{what} of a round could not be measured: all its answers tie.")
            return last - first

        return value

    def beside_control(r: Record) -> float:
        found = r.results("rounds")
        if not found.get("control"):
            raise Missing(f"the rounds of {r.run.name} have no control (labkit iterate makes one).")
        return found["rounds"][-1]["gold"] - found["control"]["gold"]

    return [
        Claim(
            f"gold utility after round {ROUNDS}, less after round 1", records.further(last_less_first("gold")), above=0.0
        ),
        Claim(
            f"gold utility after round {ROUNDS}, less with as many rankings of the SFT model only",
            records.further(beside_control),
            above=0.0,
        ),
        Claim(
            f"RM accuracy on rankings of the round's own policy, round {ROUNDS} less round 1",
            records.further(last_less_first("rm_accuracy_new")),
            above=0.0,
            deciding=False,
        ),
    ]


def _methods(records: Records) -> list[Claim]:
    claims = []
    for name in METHODS:

        def gain(r: Record, name: str = name, other: str = "sft") -> float:
            return r.value(name, "gold") - r.value(other, "gold")

        def preferred(r: Record, name: str = name, other: str = "sft") -> float:
            return r.rate(name, other, stage=EVALUATION_OF_METHODS).rate

        claims.append(Claim(f"gold utility of {name.upper()}, less of SFT", records.further(gain), above=0.0))
        claims.append(Claim(f"{name.upper()} preferred to SFT", records.further(preferred), above=0.5))
        beside = records.further(lambda r, name=name: r.value(name, "gold") - r.value("ppo_ptx", "gold"))
        claims.append(Claim(f"gold utility of {name.upper()}, less of PPO-ptx", beside, above=0.0, deciding=False))
        rates = records.further(lambda r, name=name: r.rate(name, "ppo_ptx", stage=EVALUATION_OF_METHODS).rate)
        claims.append(Claim(f"{name.upper()} preferred to PPO-ptx", rates, above=0.5, deciding=False))
    return claims


BEYOND = (
    Finding(
        "over-optimisation",
        "The proxy goes on rising while the truth falls",
        "Gao et al. 2023",
        "the RM's score rises with √KL while gold reward peaks and falls; best-of-n and RL each have their own form",
        "a reward model so good that its score and the truth never part",
        _overoptimised,
        _overoptimisation_figure,
        beyond=True,
        tried=(
            "nothing on these seeds: neither longer runs nor a weaker reward model. With an earlier reward model, on "
            "development runs, gold reward did fall (EXPERIMENTS.md)"
        ),
    ),
    Finding(
        "rm-ensemble",
        "Several reward models are harder to fool than one",
        "Coste et al. 2023",
        "the worst case of an ensemble delays over-optimisation",
        "members that make the same mistakes, because they learnt from draws of the same rankings",
        _ensemble,
        beyond=True,
        tried=(
            "members that differed in the order of prompts alone, which were nearly one model (not counted); then members "
            "that learnt from other draws of the rankings. Larger ensembles, or other ways to join their scores, were not "
            "tried"
        ),
    ),
    Finding(
        "iterated",
        "Rankings of the newest policy make the next one better",
        "§3.1 (steps 2 and 3 can be iterated)",
        "comparisons are collected from the newest policy, a new RM is trained, then a new policy",
        "a first reward model that already knows all that labelers can tell; or gains that come from having more rankings, "
        "whoever wrote the answers",
        _rounds,
        beyond=True,
        tried="nothing: three rounds, each with a quarter as many new rankings as the first, are all there is",
    ),
    Finding(
        "other-methods",
        "DPO, KTO, RLOO and GRPO on the same prompts and rankings",
        "TRL",
        "each is said to improve on SFT with less machinery than PPO",
        "a method that exploits the reward model, or learns too little from so few rankings",
        _methods,
        beyond=True,
        tried="nothing: none of the methods was tuned",
    ),
)
