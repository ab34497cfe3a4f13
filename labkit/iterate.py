"""Iterated RLHF (paper, section 3.1): each round's rankings come from the newest policy, then a new RM, a new policy.

    runs/<name>/rounds/<k>/        one run folder per round: rankings, reward, ppo_ptx
    runs/<name>/rounds/results.json

Round 1 is the run itself. From round 2 on the labelers rank answers of the newest policy (with one of the SFT model
among them); the reward model learns from the rankings of all rounds so far, and PPO-ptx starts again from the PPO init
model, so that rounds differ in what the judge knows and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.batch.parents import bring
from labkit.errors import SettingsError
from labkit.experiment import Experiment, answers, evaluate
from labkit.runs import Run, write_json, write_jsonl
from labkit.seeds import derive_seed

if TYPE_CHECKING:
    from labkit.types import Ranking

__all__ = ["iterate"]

SHARED = ("prompts", "demonstrations", "sft", "ppo_init")  # the same in every round
POLICY = "ppo_ptx"


def iterate(lab: Experiment, *, rounds: int = 3, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Carry out `rounds` rounds from a run; what is done is skipped. Returns and writes one row per round.

    Row: round, gold, score (by this round's reward model), win_rate over SFT (held-out labelers), rm_accuracy on
    validation rankings of its own round, rm_accuracy_new on rankings of the policy that this round trained (None where
    all its answers tie).
    """
    if rounds < 1:
        raise SettingsError(f"rounds is {rounds}; iterate at least once.")
    lab.ensure(POLICY, say=say)
    labs = [lab]
    for number in range(2, rounds + 1):
        labs.append(_round(labs, number, say))
    rows = [_report(now, number) for number, now in enumerate(labs, 1)]
    write_json(lab.run.path / "rounds" / "results.json", {"rounds": rows})
    return rows


def _round(labs: list[Experiment], number: int, say: Callable[[str], None]) -> Experiment:
    """Rank answers of the newest policy, train a reward model on all rankings so far, and a policy against it."""
    first, before = labs[0], labs[-1]
    run = Run(str(number), first.run.path / "rounds")
    for name in SHARED:
        bring(first.run.path / name, run.path / name)
    facts = {name: first.facts[name] for name in ("model", "reward_base", "data")}
    lab = Experiment(run, scale=first.scale, seed=first.seed, **facts)
    if not (run.path / "rankings" / "train.jsonl").exists():
        say(f"Round {number}: rankings of round {number - 1}'s policy.")
        _rank(lab, before)
    for stage, job in (("reward", lab.reward_job), (POLICY, lab.ppo_job)):
        if run.stage(stage).status != "done":
            say(f"Round {number}: {stage}.")
            job().start().result(block=True)
    return lab


def _rank(lab: Experiment, before: Experiment) -> None:
    """New rankings of the newest policy; those of earlier rounds join the training set."""
    known = before.rankings("train")
    new = lab.rank({"sft": lab.policy("sft"), POLICY: before.policy(POLICY)})["train"]
    write_jsonl(lab.run.path / "rankings" / "train.jsonl", (r.to_json() for r in [*known, *new]))


def _report(lab: Experiment, number: int) -> dict[str, Any]:
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
