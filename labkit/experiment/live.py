"""What the boards ask of a run while a person is at work: cards to rank, a quick reward model, samples and scores of the model in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit import reward
from labkit.errors import DataError
from labkit.experiment.amounts import amounts
from labkit.experiment.look import answers
from labkit.experiment.needs import is_there
from labkit.experiment.shown import completions_to_rank
from labkit.experiment.sources import FolderSource
from labkit.jobs import Job
from labkit.jobs.turns import in_turns
from labkit.knobs import RewardKnobs, constant
from labkit.labels.cards import Given, cards_of_logs, cards_shown, keep_cards, kept_cards
from labkit.labels.disagreement import worst_first
from labkit.labels.intervals import FEW
from labkit.labels.reports import against_scores
from labkit.labels.tasks import task_id
from labkit.models import encode_prompt, load_policy, load_reward_model, score
from labkit.sampling import complete
from labkit.seeds import derive_seed
from labkit.types import Completion, Demonstration, Prompt, Ranking

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment
    from labkit.labels.session import LabelSession

__all__ = ["evaluate_now", "retrain_on_labels", "sample_now", "simulated_labelers", "tasks_by_hand", "to_learn"]


A_FEW = 5  # answers on a card at most, where nothing else is said; so cards were drawn before this could be chosen
BACK = 3  # cards that come back after "train the RM on these"


def simulated_labelers(lab: Experiment, count: int) -> list[Any]:
    """`count` of the world's training labelers, who rank as a person does; none where the data are your own files."""
    return [] if isinstance(lab.source, FolderSource) else lab.source.labelers[:count]


def tasks_by_hand(lab: Experiment, count: int, most: int = A_FEW) -> list[Given]:
    """`count` training prompts of the reward model's share with K completions each, for a RankingBoard.

    most: K = 4..most, as the paper's is 4..9; below 4 K = most. Equal answers are shown once, so K may come out smaller.
    Prompts come from the end of the list, which the simulated labelers reach last. A card is drawn once and kept beside
    the labels: with more prompts, another K or another SFT model, the cards that are there stay and new prompts come behind them.
    """
    run, prompts = lab.run.path, lab.prompts("train", "reward")
    cards = kept_cards(run)
    if not cards and cards_shown(run):  # labels from before cards were kept
        cards = keep_cards(run, _cards_before(lab, prompts, count))
    have = {p.id for p, _ in cards}
    new = [p for p in prompts if p.id not in have]
    new = new[len(new) - min(max(count - len(have), 0), len(new)) :]
    if new:
        written = lab.source.demonstrations(new, derive_seed(lab.seed, "shown"), by_prompt=True)
        cards = keep_cards(run, _drawn(lab, new, written, most))
    wanted, seen = list(dict.fromkeys(p.id for p, _ in cards))[:count], cards_shown(run)
    return [card for card in cards if card[0].id in wanted or task_id(*card) in seen]


def _cards_before(lab: Experiment, prompts: Sequence[Prompt], count: int) -> list[Given]:
    """What the logs hold, and the rest drawn as it was then, so that drafts and skipped cards find theirs again."""
    cards, seen = cards_of_logs(lab.run.path, prompts), cards_shown(lab.run.path)
    have, last = {p.id for p, _ in cards}, prompts[-count:]
    again = _drawn(lab, last, lab.source.demonstrations(last, derive_seed(lab.seed, "shown")), A_FEW)
    return cards + [card for card in again if card[0].id not in have or task_id(*card) in seen]


def _drawn(lab: Experiment, prompts: Sequence[Prompt], written: Sequence[Demonstration], most: int) -> list[Given]:
    """Cards of these prompts, K = 4..most, from the base, the SFT model as it now is, and the demonstrations.

    Once there is a policy of PPO-ptx it takes the base's place: comparisons are collected from the newest policy (section 3.1).
    """
    sft = lab.policy("sft")
    if is_there(lab.run, "ppo_ptx"):
        policies = {"sft": sft, "ppo_ptx": lab.policy("ppo_ptx")}
    else:
        policies = {"base": load_policy(lab.model, tokenizer=lab.tokenizer), "sft": sft}
    small = amounts(lab.scale).but(k_low=min(4, most), k_high=most)
    shown = completions_to_rank(
        policies, lab.tokenizer, prompts, written, small,
        max_new_tokens=lab.max_new_tokens, seed=derive_seed(lab.seed, "by hand"),
    )  # fmt: skip
    return [(p, c) for p, c in zip(prompts, shown, strict=True) if len(c) >= 2]


def retrain_on_labels(lab: Experiment, session: LabelSession, report: Callable[[str], None]) -> str:
    """Train a reward model on what was ranked in `session` so far, and put the cards it disagrees with most up next.

    Starts from the base of the run's reward model, not from that model: it may have learnt these very labels already, and
    held-out accuracy would count what it remembers. Nothing of the run is overwritten.
    """
    rankings, told, held = to_learn(session)
    if len(rankings) < 2:
        raise DataError(
            f"There are {len(rankings)} rankings with a strict pair; rank at least 2 prompts before training on them."
        )
    prompts = len({r.prompt.id for r in told})
    kept_apart = len({r.prompt.id for r in held})
    on = f"on {kept_apart} prompt{'' if kept_apart == 1 else 's'}"
    counted = f"of {sum(len(r.pairs()) for r in held)} pairs {on}"
    state, share = reward.start(lab.reward_base, seed=lab.seed), kept_apart / prompts
    steps = reward.retrain(
        state, told, constant(RewardKnobs()), lab.preset.reward.but(epochs=3), held_out_share=share
    )
    for step in in_turns(steps):
        loss, accuracy = (step.metrics[name] for name in ("loss", "valid_accuracy"))
        report(f"step {step.number}: loss {loss:.3f}, held-out accuracy {accuracy:.2f} {counted}")
    judged = reward.accuracy(state.model, state.tokenizer, held, lab.preset.reward).overall
    few = ": too few to say" if kept_apart < FEW else ""
    apart = "the newest fifth kept apart, as first ranked"
    said = f"{len(rankings)} rankings of yours, {apart}: held-out accuracy {judged} {on}{few}"
    return f"{said}. {_look_again(lab, session, rankings, state.model, report)}"


def to_learn(session: LabelSession) -> tuple[list[Ranking], list[Ranking], list[Ranking]]:
    """What a quick reward model learns from: (the rankings as they stand, the same as it is told them, of these the held-out ones).

    Held out is the fifth of the prompts that were first ranked last, each as it was ranked then: a card that comes back has
    been seen beside the model's own order, so its new ranking is not blind, nor would the next round be measured on the same.
    """
    both = [(first, now) for first, now in session.first_and_now if now.pairs()]
    prompts = list(dict.fromkeys(now.prompt.id for _, now in both))
    apart = set(prompts[-max(1, round(len(prompts) / 5)) :])
    told = [first if now.prompt.id in apart and first.pairs() else now for first, now in both]
    return [now for _, now in both], told, [r for r in told if r.prompt.id in apart]


def _look_again(
    lab: Experiment, session: LabelSession, rankings: Sequence[Ranking], judge: Any, report: Callable[[str], None]
) -> str:
    """Report where `judge` contradicts the labeler most, and let these cards come next; returns what is to be done."""
    scores = {
        id(r): dict(zip([c.id for c in r.completions], scores_of(lab, judge, r.prompt, r.completions), strict=True))
        for r in rankings
    }
    worst = worst_first(rankings, lambda r: scores[id(r)])
    worst = [r for r in worst if any(scores[id(r)][a] < scores[id(r)][b] for a, b in r.pairs())][:BACK]
    if not worst:
        return "It orders every pair as you did, so there is nothing to look at again."
    report("Where it disagrees with you most:")
    for ranking in worst:
        report(against_scores(ranking, scores[id(ranking)]))
    session.revisit([task_id(r.prompt, r.completions) for r in worst])
    return "These cards come next: change what you now see differently, and submit."


def sample_now(lab: Experiment, job: Job, *, averaged: bool = False) -> Callable[[list[str]], list[dict[str, Any]]]:
    """For `Cockpit(sample=...)`: answers of the policy as it stands, with the reward model's scores.

    averaged: of the policy with its averaged weights instead, which are what the stage leaves in the end.
    """
    known = {p.text: p for p in lab.prompts("valid")}
    judge = load_reward_model(lab.run.stage("reward").model)

    def sample(texts: list[str]) -> list[dict[str, Any]]:
        prompts = [known.get(t) or Prompt(id=f"typed-{i}", text=t) for i, t in enumerate(texts)]
        drawn = complete(
            job.state.averaged_policy().eval() if averaged else job.state.plain_policy, lab.tokenizer, prompts, max_new_tokens=lab.max_new_tokens,
            seed=derive_seed(lab.seed, "sample now", job.state.step), name=f"step {job.state.step}",
        )  # fmt: skip
        rows = []
        for prompt, (completion,) in zip(prompts, drawn, strict=True):
            row = {
                "prompt": prompt.text,
                "response": completion.text,
                "score": scores_of(lab, judge, prompt, [completion])[0],
                "finished": bool(completion.finished),
            }
            if lab.source.gold is not None and prompt.meaning:
                row["gold"] = lab.source.gold([prompt], [completion.text], [bool(completion.finished)])[0]
            rows.append(row)
        return rows

    return sample


def evaluate_now(lab: Experiment, job: Job) -> Callable[[list[str]], dict[str, Any]]:
    """For `Cockpit(evaluate=...)`: mean score, gold utility and length of fresh answers to these prompts, by the averaged policy.

    In the world also the win rate over the SFT model in the eyes of held-out labelers, with its 95 % interval (low, high),
    the number of judgments n and a note that says on what it rests; typed prompts have no judge.
    """
    sample, known = sample_now(lab, job, averaged=True), {p.text: p for p in lab.prompts("valid")}

    def evaluate(texts: list[str]) -> dict[str, Any]:
        rows = sample(texts)
        judged = [(known[t], row) for t, row in zip(texts, rows, strict=True) if t in known and "gold" in row]
        means = {
            "score": sum(r["score"] for r in rows) / len(rows),
            "words": sum(len(r["response"].split()) for r in rows) / len(rows),
        }
        gold = [r["gold"] for r in rows if "gold" in r]
        return means | ({"gold": sum(gold) / len(gold), **_win_rate(lab, judged)} if judged else {})

    return evaluate


def _win_rate(lab: Experiment, judged: list[tuple[Prompt, dict[str, Any]]]) -> dict[str, Any]:
    """Over the SFT model, by held-out labelers."""
    from labkit.evaluation.preference import compare

    prompts = [prompt for prompt, _ in judged]
    now = [Completion(f"now-{p.id}", p.id, row["response"], finished=row["finished"]) for p, row in judged]
    both = {"sft": answers(lab, "sft", prompts), "now": now}
    preference = compare(prompts, both, baseline="sft", labelers=lab.source.held_out_labelers, seed=lab.seed)
    found = preference.win_rates["now", "held-out labelers"]
    basis = f"The averaged policy, as it would be kept: {found.n} judgments of held-out labelers on {found.prompts} prompt(s), over the SFT model."
    note = f"{basis} {found.note}".strip()
    return {"win_rate": found.rate, "low": found.low, "high": found.high, "n": found.n, "note": note}


def scores_of(lab: Experiment, judge: Any, prompt: Prompt, completions: Sequence[Completion]) -> list[float]:
    """Reward-model scores of completions of one prompt."""
    from labkit.reward.data import response_ids

    asked = encode_prompt(lab.tokenizer, prompt.text)
    return score(judge, [asked] * len(completions), [response_ids(lab.tokenizer, c) for c in completions]).tolist()
