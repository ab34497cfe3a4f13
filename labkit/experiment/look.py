"""Look at a run: what its models answer, what one labeler ranked, how well the reward model predicts rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import reward
from labkit.errors import DataError
from labkit.experiment.prompted import FEW_SHOT, prompted_answers
from labkit.experiment.sources import FolderSource
from labkit.figures.reward import by_ranking
from labkit.figures.text import answer
from labkit.labels.disagreement import worst_first
from labkit.models import encode_prompt, load_reward_model, score
from labkit.reward.data import response_ids
from labkit.sampling import best_of_n, complete
from labkit.seeds import derive_seed
from labkit.types import Completion, Prompt, Ranking

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment

__all__ = [
    "JudgedRankings",
    "answers",
    "ask",
    "judge_rankings",
    "ranking_rows",
    "screened",
    "worst_disagreements",
]

BEST_OF = "best-of-"


def answers(
    lab: Experiment, model: str, prompts: Sequence[Prompt], *, temperature: float = 1.0, seed: int | None = None
) -> list[Completion]:
    """One sampled answer of a model to each prompt.

    model: a stage of the run ("sft", "ppo_ptx", ...), "base", "few-shot" (the base after examples, `labkit.experiment.prompted`) or
    "best-of-16" (the SFT model's best of n by reward-model score).
    """
    draw = {
        "max_new_tokens": lab.max_new_tokens,
        "temperature": temperature,
        "seed": derive_seed(lab.seed if seed is None else seed, "answers", model),
    }
    if model.startswith(BEST_OF):
        groups = complete(
            lab.policy("sft"), lab.tokenizer, prompts, n=int(model.removeprefix(BEST_OF)), name=model, **draw
        )
        judge = load_reward_model(lab.run.stage("reward").model)
        asked = {p.id: encode_prompt(lab.tokenizer, p.text) for p in prompts}
        return best_of_n(
            groups, lambda flat: score(judge, [asked[c.prompt_id] for c in flat], [list(c.token_ids) for c in flat])
        )
    if model == FEW_SHOT:
        return prompted_answers(lab, prompts, **draw)
    return [group[0] for group in complete(lab.policy(model), lab.tokenizer, prompts, name=model, **draw)]


def ask(lab: Experiment, prompts: Sequence[Prompt], models: Sequence[str], **options: Any) -> list[dict[str, str]]:
    """Rows of a table: each prompt and what each model answers, as it is shown."""
    columns = {m: answers(lab, m, prompts, **options) for m in models}
    return [{"prompt": p.text, **{m: answer(columns[m][i].text) for m in models}} for i, p in enumerate(prompts)]


def ranking_rows(ranking: Ranking) -> list[dict[str, Any]]:
    """One row per completion, best first: rank, the labeler's Likert and flags, the text, where it came from."""
    ranks = ranking.ranks
    rows = []
    for c in sorted(ranking.completions, key=lambda c: ranks.get(c.id, len(ranks) + 1)):
        rating = ranking.ratings.get(c.id)
        rows.append(
            {
                "id": c.id,
                "rank": ranks.get(c.id, "unranked"),
                "likert": rating.likert if rating else "",
                "flags": ", ".join(rating.flags) if rating else "",
                "text": c.text,
                "from": c.model,
            }
        )
    return rows


@dataclass(frozen=True)
class JudgedRankings:
    """How well the reward model predicts held-out rankings, beside what could be reached at all."""

    accuracy: reward.Accuracy
    ceiling: float | None  # of the true utility on the same pairs; None outside the world
    clear: float | None  # accuracy on pairs whose true utilities differ clearly
    clear_pairs: int
    pairs: list[dict[str, Any]]  # one row per pair: margin, rank gap, labeler, for figures

    def __str__(self) -> str:
        lines = [f"accuracy on held-out prompts   {self.accuracy.overall}"]
        if self.ceiling is not None:
            lines += [
                f"ceiling set by labelers' noise {self.ceiling:.3f}",
                f"on clearly different pairs     {self.clear:.3f} ({self.clear_pairs} pairs whose gold utilities differ by 0.3 or more)",
            ]
        return "\n".join(lines)


def judge_rankings(lab: Experiment, split: str = "valid", *, clear_gap: float = 0.3) -> JudgedRankings:
    """Reward-model accuracy on the rankings of a split, with the ceiling and, in the world, the clearly different pairs."""
    from labkit.figures import pair_rows

    judge, rankings = load_reward_model(lab.run.stage("reward").model), lab.rankings(split)
    if not rankings:
        raise DataError(f"There are no {split} rankings in {lab.run.path}; rank some prompts of that split first.")
    scores = completion_scores(lab, judge, rankings)
    gold = completion_gold(lab, rankings)
    pairs = pair_rows(rankings, scores)
    truths = [gold[p["ranking"]] for p in pairs] if gold else []
    right = [(p["margin"] > 0, true[p["better"]] - true[p["worse"]]) for p, true in zip(pairs, truths, strict=False)]
    clear = [(margin_right == (gap > 0)) for margin_right, gap in right if abs(gap) >= clear_gap]
    ceiling = sum(0.5 if gap == 0 else gap > 0 for _, gap in right) / len(right) if right else None
    return JudgedRankings(
        accuracy=reward.accuracy(judge, lab.tokenizer, rankings),
        ceiling=ceiling,
        clear=sum(clear) / len(clear) if clear else None,
        clear_pairs=len(clear),
        pairs=pairs,
    )


def screened(lab: Experiment, applicants: int = 40) -> list[dict[str, object]]:
    """How the screening test (paper, section 3.4 and appendix B.1) sorts a pool of the world's applicants, by their kind.

    Kinds are known to the world alone. Nothing where the data are your own files.
    """
    if isinstance(lab.source, FolderSource):
        return []
    from labkit.world.screening import by_kind, candidates, screen

    pool = candidates(applicants, seed=lab.seed)
    return by_kind(pool, screen(lab.source.world, pool, n_prompts=40, seed=lab.seed))


def worst_disagreements(
    lab: Experiment, count: int = 3, split: str = "valid"
) -> list[tuple[Ranking, list[dict[str, Any]]]]:
    """The held-out rankings that the reward model finds least likely, each with a table of its completions and scores."""
    judge, rankings = load_reward_model(lab.run.stage("reward").model), lab.rankings(split)
    scores = {id(r): own for r, own in zip(rankings, completion_scores(lab, judge, rankings), strict=True)}
    gold = {id(r): own for r, own in zip(rankings, completion_gold(lab, rankings) or [{}] * len(rankings), strict=True)}
    worst = worst_first(rankings, lambda r: scores[id(r)])[:count]
    return [(r, [row | _seen(scores[id(r)], gold[id(r)], row) for row in ranking_rows(r)]) for r in worst]


def _seen(scores: Mapping[str, float], gold: Mapping[str, float], row: dict[str, Any]) -> dict[str, Any]:
    """Score and, where known, truth of one row of `ranking_rows`."""
    found = {"RM score": round(scores[row["id"]], 2)}
    return found | ({"gold": round(gold[row["id"]], 2)} if gold else {})


def completion_scores(lab: Experiment, judge: Any, rankings: Sequence[Ranking]) -> list[dict[str, float]]:
    """Reward-model score of every completion shown in these rankings: for each ranking, by completion id."""
    flat = [(r.prompt, c) for r in rankings for c in r.completions]
    values = score(
        judge,
        [encode_prompt(lab.tokenizer, p.text) for p, _ in flat],
        [response_ids(lab.tokenizer, c) for _, c in flat],
    )
    return by_ranking(rankings, values.tolist())


def completion_gold(lab: Experiment, rankings: Sequence[Ranking]) -> list[dict[str, float]] | None:
    """Gold utility of every completion shown: for each ranking, by id; None where nobody knows the truth."""
    if lab.source.gold is None:
        return None
    flat = [(r.prompt, c) for r in rankings for c in r.completions]
    values = lab.source.gold(
        [p for p, _ in flat], [c.text for _, c in flat], [c.finished is not False for _, c in flat]
    )
    return by_ranking(rankings, values)
