"""Iterated RLHF (paper, section 3.1): each round's rankings come from the newest policy, then a new RM, a new policy.

    runs/<name>/rounds/<k>/                 one run folder per round: rankings, reward, ppo_ptx
    runs/<name>/rounds/control-<rounds>/    the same, but every further ranking is of the SFT model's answers
    runs/<name>/rounds/results.json         a row per round, and the control's; what fewer rounds leave out stays
    runs/<name>/rounds/of.json              content hashes of the run that they go on from

Round 1 is the run itself. From round 2 on the labelers rank answers of the newest policy (with one of the SFT model
among them); the reward model learns from the rankings of all rounds so far, and PPO-ptx starts again from the PPO init
model, so that rounds differ in what the judge knows and in nothing else. The last round's judge has seen more rankings
than the first's; the control has seen as many, none of them of a newer policy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.batch.parents import bring
from labkit.disk import put_aside, write_json, write_jsonl
from labkit.errors import DataError, SettingsError
from labkit.experiment import Experiment, answers, evaluate
from labkit.experiment.needs import fingerprints
from labkit.runs import Run
from labkit.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.types import Ranking

__all__ = ["against_control", "iterate"]

SHARED = ("prompts", "demonstrations", "sft", "ppo_init")  # the same in every round
POLICY, CONTROL = "ppo_ptx", "control"
MARK = "complete.json"  # in rankings/


def iterate(
    lab: Experiment,
    *,
    rounds: int = 3,
    say: Callable[[str], None] = print,
    control: bool = False,
    rankings: int | None = None,
) -> list[dict[str, Any]]:
    """Carry out `rounds` rounds from a run; what is done is skipped. Returns and writes one row per round.

    control: one more policy, from as many rankings as the last round's, drawn from the SFT model only; the last row.
    rankings: new ones of each further round; by default as many as the run itself has.

    Row: round ("control" for it), gold, score (by this round's reward model), win_rate over SFT (held-out labelers),
    rm_accuracy on validation rankings of its own round, rm_accuracy_new on rankings of the policy that this round
    trained (None where all its answers tie).
    """
    if rounds < 1:
        raise SettingsError(f"rounds is {rounds}; iterate at least once.")
    if lab.source.gold is None:
        raise DataError(
            f"{lab.data} has no labelers who could rank the newest policy's answers, nor a judge of the rounds: labkit "
            "iterate needs the world. Rank the new policy's answers by hand (new cards of 03_rank show them), then train the reward "
            "model on them (04_reward) and the next policy (05_ppo_ptx)."
        )
    lab.ensure(POLICY, say=say)
    _claim(lab, say)
    labs = [lab]
    for number in range(2, rounds + 1):
        labs.append(_round(labs, number, rankings, say))
    rows = [_report(now, number) for number, now in enumerate(labs, 1)]
    beside = [_report(_control(lab, rounds, rankings, say), CONTROL)] if control else []
    _record(lab.run.path / "rounds", rows, beside[0] if beside else None)
    return rows + beside


def against_control(rows: Sequence[dict[str, Any]]) -> str:
    """One sentence: what the last round gained over the first, and over as many rankings of the SFT model only."""
    rounds, control = [r for r in rows if r["round"] != CONTROL], [r for r in rows if r["round"] == CONTROL]
    last, said = rounds[-1], []
    if len(rounds) > 1:
        said.append(f"less round 1: {last['gold'] - rounds[0]['gold']:+.3f}")
    for row in control:
        said.append(f"less as many rankings of the SFT model alone: {last['gold'] - row['gold']:+.3f}")
    if not said:
        return "One round without control: nothing to compare it with."
    return f"Gold utility after round {last['round']}, {'; '.join(said)}. One seed, so no interval."


def _record(home: Path, rows: list[dict[str, Any]], control: dict[str, Any] | None) -> None:
    """Write results.json; further rounds and controls of earlier commands stay in it where their policies are still there.

    `controls` holds each by the number of rounds whose rankings it matches; `control` is that of the last round.
    """
    file = home / "results.json"
    old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    before = old.get("rounds", [])
    controls = old.get("controls") or ({str(len(before)): old["control"]} if old.get("control") else {})
    kept = list(rows)
    for row in before[len(rows) :]:
        if Run(str(row["round"]), home).stage(POLICY).status != "done":
            break
        kept.append(row)
    controls = {n: row for n, row in controls.items() if Run(f"{CONTROL}-{n}", home).stage(POLICY).status == "done"}
    if control is not None:
        controls[str(len(rows))] = control
    write_json(file, {"rounds": kept, "control": controls.get(str(len(kept))), "controls": controls})


def _claim(first: Experiment, say: Callable[[str], None]) -> None:
    """Move rounds aside that went on from something else than what the run holds now: one round would mix two runs."""
    home = first.run.path / "rounds"
    now = fingerprints(first.run, *SHARED, "rankings", "reward", POLICY)
    told = json.loads((home / "of.json").read_text(encoding="utf-8")) if (home / "of.json").is_file() else now
    if told != now:
        aside = put_aside(home)
        changed = ", ".join(name for name in now if told.get(name) != now[name])
        say(f"{home} went on from other {changed} than the run holds now; it lies in {aside.name}, and rounds begin anew.")
    write_json(home / "of.json", now)


def _round(labs: list[Experiment], number: int, new: int | None, say: Callable[[str], None]) -> Experiment:
    """Rank answers of the newest policy, train a reward model on all rankings so far, and a policy against it."""
    before, lab = labs[-1], _beside(labs[0], str(number), new)
    if not _is_ranked(lab):
        say(f"Round {number}: rankings of round {number - 1}'s policy.")
        _rank(lab, before.rankings("train"), [{"sft": lab.policy("sft"), POLICY: before.policy(POLICY)}])
    _train(lab, f"Round {number}", say)
    return lab


def _control(first: Experiment, rounds: int, new: int | None, say: Callable[[str], None]) -> Experiment:
    """As many rankings as after `rounds` rounds, on the same prompts, but all of them of the SFT model's answers."""
    lab = _beside(first, f"{CONTROL}-{rounds}", new)
    if not _is_ranked(lab):
        say(f"Control: {f'{rounds - 1} times ' if rounds != 2 else ''}as many new rankings of the SFT model.")
        sft = lab.policy("sft")
        anew = [{"sft": sft, f"sft-{number}": sft} for number in range(2, rounds + 1)]  # draws depend on the name
        _rank(lab, first.rankings("train"), anew)
    _train(lab, "Control", say)
    return lab


def _beside(first: Experiment, name: str, new: int | None) -> Experiment:
    """An experiment in rounds/<name>/ that shares prompts, demonstrations, SFT and PPO init with the first.

    new: how many rankings it adds, if not as many as the first has.
    """
    run = Run(name, first.run.path / "rounds")
    for shared in SHARED:
        if not (run.path / shared).exists():  # resumed: what the round was made with stays
            bring(first.run.path / shared, run.path / shared)
    facts = {name: first.facts[name] for name in ("model", "reward_base", "data")}
    lab = type(first)(run, scale=first.scale, seed=first.seed, **facts)  # of the same kind: a scale may be its own
    if new is not None:
        lab.amounts = lab.amounts.but(rankings=new)
    return lab


def _train(lab: Experiment, title: str, say: Callable[[str], None]) -> None:
    """A reward model from all rankings of the folder, and a policy against it, where they are not there yet."""
    for stage, job in (("reward", lab.reward_job), (POLICY, lab.ppo_job)):
        if lab.run.stage(stage).status != "done":
            say(f"{title}: {stage}.")
            job().start().result(block=True)


def _is_ranked(lab: Experiment) -> bool:
    """True where all rankings of the folder are there; a mark says so, because `rank` writes the new ones first."""
    return (lab.run.path / "rankings" / MARK).exists()


def _rank(lab: Experiment, known: list[Ranking], policies: list[dict[str, PreTrainedModel]]) -> None:
    """New rankings of the answers of each of these sets of models; those known before join the training set."""
    made = [*known, *(ranking for each in policies for ranking in lab.rank(each)["train"])]
    write_jsonl(lab.run.path / "rankings" / "train.jsonl", (r.to_json() for r in made))
    write_json(lab.run.path / "rankings" / MARK, {"known": len(known), "all": len(made)})


def _report(lab: Experiment, number: int | str) -> dict[str, Any]:
    """One row: how good the round's policy is, in truth and to labelers, and how well the round's judge knows it."""
    from labkit import reward
    from labkit.models import encode_prompt, load_reward_model, score

    prompts = lab.prompts("valid")[: lab.amounts.valid_prompts]
    drawn = answers(lab, POLICY, prompts)
    judge = load_reward_model(lab.run.stage("reward").model)
    scores = score(judge, [encode_prompt(lab.tokenizer, p.text) for p in prompts], [list(c.token_ids) for c in drawn])
    gold = lab.source.gold(prompts, [c.text for c in drawn], [bool(c.finished) for c in drawn])
    own = _of_policy(lab)
    sheet = evaluate(lab, ["sft", POLICY], benchmarks=False, stage="evaluate-round")
    return {
        "round": number,
        "gold": sum(gold) / len(gold),
        "score": float(scores.mean()),
        "win_rate": sheet.rate(POLICY),
        "rm_accuracy": reward.accuracy(judge, lab.tokenizer, lab.rankings("valid")).overall.value,
        "rm_accuracy_new": reward.accuracy(judge, lab.tokenizer, own).overall.value if own else None,
    }


def _of_policy(lab: Experiment) -> list[Ranking]:
    """Validation prompts with several answers of the round's own policy, ranked by the training labelers."""
    from labkit.sampling import complete

    prompts = lab.prompts("valid")[: lab.amounts.valid_rankings]
    seed = derive_seed(lab.seed, "rounds", "valid")
    options = {"n": 4, "max_new_tokens": lab.max_new_tokens, "seed": seed, "name": POLICY}
    shown = complete(lab.policy(POLICY), lab.tokenizer, prompts, **options)
    ranked = [lab.source.rank(p, group, lab.seed) for p, group in zip(prompts, shown, strict=True)]
    return [r for r in ranked if r.pairs()]
