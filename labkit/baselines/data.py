"""Rankings and prompts of a run in the forms that TRL's trainers take."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from labkit.errors import DataError
from labkit.seeds import derive_seed
from labkit.types import Prompt, Ranking

__all__ = ["pairs_of", "prompts_of", "single_answers"]


def pairs_of(rankings: Sequence[Ranking], per_prompt: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows prompt, chosen, rejected: at most `per_prompt` strictly ordered pairs of each ranking, drawn by chance.

    Pairs with an answer that was cut at the length limit are left out: TRL's trainers put an end token behind every
    text, and would teach that such an answer ends there.
    """
    rows = []
    for ranking in rankings:
        texts = {c.id: c.text for c in ranking.completions if c.finished is not False}
        pairs = sorted(pair for pair in ranking.pairs() if texts.keys() >= set(pair))
        Random(derive_seed(seed, "pairs", ranking.prompt.id)).shuffle(pairs)
        rows += [
            {"prompt": ranking.prompt.text, "chosen": texts[better], "rejected": texts[worse]}
            for better, worse in pairs[:per_prompt]
        ]
    if not rows:
        raise DataError(
            "No ranking orders two completions strictly (answers cut at the length limit left out), so there is nothing "
            "to prefer; rank more prompts."
        )
    return rows


def single_answers(pairs: Sequence[dict[str, str]]) -> list[dict[str, object]]:
    """Rows prompt, completion, label (True: preferred) for KTO; an answer that was drawn twice appears once."""
    rows: dict[tuple[str, str, bool], dict[str, object]] = {}
    for pair in pairs:
        for name, label in (("chosen", True), ("rejected", False)):
            key = (pair["prompt"], pair[name], label)
            rows[key] = {"prompt": pair["prompt"], "completion": pair[name], "label": label}
    return list(rows.values())


def prompts_of(prompts: Sequence[Prompt]) -> list[dict[str, str]]:
    """Rows with the prompt's text, for methods that sample."""
    return [{"prompt": p.text} for p in prompts]
