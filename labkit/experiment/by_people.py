"""Evaluation by people: blind cards of the answers that were evaluated, on the board of 03_rank, and what people say of the models.

    runs/<name>/labels-evaluation/<labeler>.jsonl    logs as those in labels/, but nothing trains on them

`Experiment.rankings` lets labels/ join the training data; this folder is read by the evaluation alone. It lies beside
the stage's folder and not in it, because an evaluation that begins anew moves that folder aside.

What counts is the text that was judged. A ranking stands for the models whose answers were on the card, each as long as
the evaluation has that very answer of it: a model that was trained anew and answers otherwise takes no part, and the order
of the others still counts. Answers of two models that are the same, word for word, are one answer on the card, and tie.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.disk import read_jsonl, write_json
from labkit.errors import DataError, RunError
from labkit.evaluation.winrate import ALIKE, judgments_of, win_rate
from labkit.experiment.evaluation import PEOPLE, Evaluation, load_evaluation, preference_row
from labkit.labels.cards import Given
from labkit.labels.exchange.rows import short_hash
from labkit.labels.store import read_rankings
from labkit.runs import check_name
from labkit.types import Completion, Prompt, Ranking

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment
    from labkit.runs import Run

__all__ = ["FOLDER", "blind_cards", "join_people", "people_path", "with_people"]

FOLDER = "labels-evaluation"
TRAINED = ("ppo", "ppo_ptx")  # what people are asked about, beside the baseline
MOST = 9  # answers on a card, as many as the board shows

Drawn = Mapping[str, Mapping[str, str]]  # model -> prompt id -> its answer


def people_path(run_path: str | Path, labeler: str) -> Path:
    """Where a person's judgments lie; refuses a labeler id that is no safe file name."""
    return Path(run_path) / FOLDER / f"{check_name(labeler, 'labeler')}.jsonl"


def blind_cards(
    lab: Experiment, result: Evaluation, count: int, *, models: Sequence[str] = (), stage: str = "evaluate"
) -> list[Given]:
    """Cards of the first `count` test prompts of an evaluation on which these models do not all answer alike.

    models: by default the baseline, PPO and PPO-ptx as far as they were evaluated. The answers are those that the other
    judges saw. No id says whose an answer is, and the order on the screen is the labeler's own (`LabelSession`).
    """
    shown = list(models) or [m for m in result.models if m in (result.baseline, *TRAINED)]
    shown = (shown if len(shown) > 1 else result.models)[:MOST]
    drawn = _drawn(lab.run, stage)
    if unknown := [m for m in shown if m not in drawn]:
        raise DataError(f"{unknown[0]!r} was not evaluated in {lab.run.path / stage}; choose among {', '.join(drawn)}.")
    asked = {p.id: p for p in lab.prompts("test")}
    cards = [_card(asked[i], {m: drawn[m][i] for m in shown}) for i in drawn[shown[0]] if i in asked]
    return [card for card in cards if len(card[1]) > 1][:count]


def _card(prompt: Prompt, answers: Mapping[str, Completion]) -> Given:
    """Each text once; whose it is stands in the log, never on the page."""
    whose: dict[str, list[str]] = defaultdict(list)
    for model, answer in answers.items():
        whose[answer.text].append(model)
    texts = [
        replace(answers[models[0]], id=f"{prompt.id}/{short_hash(text)}", model=ALIKE.join(models)) for text, models in whose.items()
    ]
    return prompt, texts


def with_people(lab: Experiment, stage: str = "evaluate") -> Evaluation:
    """The evaluation with what people have said so far in place of what they had said before; written to its results.json.

    Where the run was evaluated anew meanwhile, by another kernel or command, it is that evaluation which is returned.
    """
    result = load_evaluation(lab.run, stage)
    drawn = {m: {i: c.text for i, c in own.items()} for m, own in _drawn(lab.run, stage).items()}
    found = join_people(lab.run, result, {p.id: p.text for p in lab.prompts("test")}, drawn)
    write_json(lab.run.path / stage / "results.json", found.to_json())
    return found


def join_people(run: Run, result: Evaluation, asked: Mapping[str, str], drawn: Drawn) -> Evaluation:
    """`result` with the group "people": win rates over the baseline, and how many judged what; nothing else changes.

    asked: prompt id -> text.
    """
    given = [r for r in read_rankings(run.path / FOLDER) if r.groups] if (run.path / FOLDER).is_dir() else []
    counted = [r for r in (_as_evaluated(r, asked, drawn) for r in given) if r is not None]
    others = [row for row in result.preferences if row["group"] != PEOPLE]
    facts = {
        "labelers": len({r.labeler for r in counted}),
        "prompts": len({r.prompt.id for r in counted}),
        "rankings": len(counted),
        "outdated": len(given) - len(counted),
        "quality": _quality(counted, result.models),
    }
    return replace(result, preferences=[*others, *_rates(counted, result)], people=facts if given else {})


def _as_evaluated(ranking: Ranking, asked: Mapping[str, str], drawn: Drawn) -> Ranking | None:
    """The ranking as one of models: those on the card that still answer so, and were ranked; None with fewer than two."""
    if asked.get(ranking.prompt.id) != ranking.prompt.text:
        return None
    at, ranks = ranking.prompt.id, ranking.ranks
    ranked = [(m, c) for c in ranking.completions if c.id in ranks for m in c.model.split(ALIKE)]
    found = {m: (ranks[c.id], c) for m, c in ranked if drawn.get(m, {}).get(at) == c.text}
    if len(found) < 2:
        return None
    groups = [tuple(f"{at}/{m}" for m, (rank, _) in found.items() if rank == r) for r in sorted({r for r, _ in found.values()})]
    return Ranking(
        prompt=ranking.prompt,
        completions=tuple(replace(c, id=f"{at}/{m}", model=m) for m, (_, c) in found.items()),
        groups=tuple(groups),
        labeler=ranking.labeler,
        ratings={f"{at}/{m}": ranking.ratings[c.id] for m, (_, c) in found.items() if c.id in ranking.ratings},
    )


def _rates(rankings: Sequence[Ranking], result: Evaluation) -> list[dict[str, Any]]:
    """A row of preferences for each model that anybody compared with the baseline; intervals are clustered by prompt."""
    judgments, rows = judgments_of(rankings), []
    for model in result.models:
        own = [j for j in judgments if {j.a, j.b} == {model, result.baseline}]
        if own:
            rows.append(preference_row(model, PEOPLE, win_rate(own, model, result.baseline)))
    return rows


def _quality(rankings: Sequence[Ranking], models: Sequence[str]) -> list[dict[str, Any]]:
    """Overall quality and flags of each model's answers, as far as people rated them."""
    rated: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for ranking in rankings:
        for c in ranking.completions:
            rated[c.model] += [(ranking.prompt.id, ranking.ratings[c.id])] if c.id in ranking.ratings else []
    rows = []
    for model in (m for m in models if rated[m]):
        likert = [(prompt, r.likert) for prompt, r in rated[model] if r.likert is not None]
        ticked = sorted({f for _, r in rated[model] for f in r.flags})
        flags = {f: sum(f in r.flags for _, r in rated[model]) / len(rated[model]) for f in ticked}
        scores, prompts = [score for _, score in likert], [prompt for prompt, _ in likert]
        rows.append(
            {"model": model, "answers": len(rated[model]), "likert_scores": scores, "likert_prompts": prompts, "flags": flags}
        )
    return rows


def _drawn(run: Run, stage: str) -> dict[str, dict[str, Completion]]:
    """What each model answered in an evaluation, by prompt id, in the order in which it was asked."""
    file = run.path / stage / "samples.jsonl"
    if not file.exists():
        raise RunError(f"{file} does not exist: this run was not evaluated. Run 06_evaluate first.")
    found: dict[str, dict[str, Completion]] = {}
    for row in read_jsonl(file):
        completion = Completion.from_json(row)
        found.setdefault(completion.model, {})[completion.prompt_id] = completion
    return found
