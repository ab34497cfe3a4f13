"""Findings on the reward model, on supervised training and on cost: sections 3.5, 4.1 and 5 of the paper."""

from __future__ import annotations

from collections.abc import Callable

from labkit.findings.evidence import BySeed, Claim
from labkit.findings.figures import cost_bars, epochs_figure, folds_figure
from labkit.findings.finding import Finding
from labkit.findings.records import Missing, Record, Records

__all__ = ["STAGE_FINDINGS"]

GENERALISES = 0.05  # own and held-out labelers' accuracies closer than this


def _folds(records: Records) -> list[Claim]:
    def mean(r: Record, kind: str) -> float:
        rows = r.results("folds")["folds"]
        return sum(row[kind] for row in rows) / len(rows)

    return [
        Claim("accuracy on the held-out group", records.judged(lambda r: mean(r, "held_out")), above=0.5),
        Claim(
            "accuracy on its own group, less on the held-out one",
            records.judged(lambda r: mean(r, "own") - mean(r, "held_out")),
            above=-GENERALISES,
            below=GENERALISES,
        ),
        Claim(
            "the same: in the paper its own group's was higher",
            records.judged(lambda r: mean(r, "own") - mean(r, "held_out")),
            above=0.0,
            deciding=False,
        ),
    ]


def _cost(records: Records) -> list[Claim]:
    def ratio(to: str, *of: str) -> Callable[[Record], float]:
        def value(r: Record) -> float:
            found = r.results("cost")
            for name in (to, *of):
                if found.get(name) is None:
                    raise Missing(f"the cost of {r.run.name} has no {name}.")
            return sum(found[name] for name in of) / found[to]

        return value

    def share(words: str, of: str, to: str = "pretraining", *, deciding: bool = True) -> Claim:
        return Claim(words, records.over_seeds(ratio(to, *of.split())), below=1.0, deciding=deciding)

    return [
        share("SFT and PPO-ptx together, as a share of pretraining", "sft ppo_ptx"),
        share("SFT as a share of PPO-ptx (how much of either is our choice)", "sft", "ppo_ptx", deciding=False),
        share("PPO init and reward model, as a share of pretraining", "ppo_init reward", deciding=False),
        share(
            "all of these and the training of the reward model's base (the reader), as a share of pretraining",
            "sft ppo_init reward ppo_ptx reader",
            deciding=False,
        ),
    ]


def _batching(records: Records) -> list[Claim]:
    def worse(way: str, what: str = "valid_loss") -> BySeed:
        return records.judged(lambda r: r.results("batching")[way][what] - r.results("batching")["prompts"][what])

    return [
        Claim("validation loss with pairs shuffled apart, less with whole prompts", worse("pairs"), above=0.0),
        Claim("validation loss after more epochs, less after one", worse("more epochs"), above=0.0),
        Claim("validation accuracy, the same (pairs)", worse("pairs", "valid_accuracy"), below=0.0, deciding=False),
    ]


def _epochs(records: Records) -> list[Claim]:
    def rise(what: str) -> BySeed:
        """Last epoch less the one of least validation loss."""

        def value(r: Record) -> float:
            rows = r.results("sft-long")["epochs"]
            return rows[-1][what] - min(rows, key=lambda row: row["valid_loss"])[what]

        return records.swept(value)

    def chosen(r: Record) -> float:
        rows = r.results("sft-long")["epochs"]
        by_score = max(rows, key=lambda row: row["rm_score"])
        return by_score["gold"] - min(rows, key=lambda row: row["valid_loss"])["gold"]

    return [
        Claim("validation loss of the last epoch, less the least", rise("valid_loss"), above=0.0),
        Claim("RM score of the last epoch, less at the least validation loss", rise("rm_score"), above=0.0),
        Claim(
            "gold utility of the epoch chosen by RM score, less by validation loss", records.swept(chosen), above=0.0
        ),
    ]


STAGE_FINDINGS = (
    Finding(
        "rm-held-out-labelers",
        "The reward model serves labelers whom it never saw",
        "§4.1",
        "five-fold by labeler group: 69.6 ± 0.9 % accuracy on the held-out group, 72.4 ± 0.4 % on its own",
        "labelers whose tastes differ so much that a group's model is of no use to another",
        _folds,
        folds_figure,
        tried="nothing",
    ),
    Finding(
        "cost",
        "SFT and PPO-ptx cost little beside pretraining",
        "§5",
        "SFT 4.9 and PPO-ptx 60 petaflop/s-days for 175B, pretraining 3,640",
        "a base as small as this world's, which is pretrained on few tokens, while PPO needs its episodes. How many "
        "demonstrations and episodes there are is the scale's choice, so their order decides nothing here",
        _cost,
        cost_bars,
        tried="nothing",
    ),
    Finding(
        "rm-batching",
        "All pairs of a prompt in one batch element, one epoch",
        "§3.5",
        "shuffling the pairs into one data set overfits in a single pass; so does more than one epoch",
        "so little capacity, or so many rankings, that a completion seen several times is not remembered",
        _batching,
        tried="the preset's rate, and 1,000 rankings; fewer, which a model could learn by heart, were not tried",
    ),
    Finding(
        "sft-checkpoint",
        "The SFT epoch is best chosen by RM score",
        "§3.5",
        "validation loss overfits after one epoch, yet more epochs raise both RM score and human preference",
        "demonstrations so plain that validation loss never rises, or an RM score that rises while quality falls",
        _epochs,
        epochs_figure,
        tried="six epochs of 2,400 demonstrations at the preset's rate; more of either was not tried",
        note=(
            "the first claim is the last value less the least of all, so that it is never below 0: it can hold or stay "
            "open, and cannot fail. The other two can"
        ),
    ),
)
