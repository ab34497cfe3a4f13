"""A reward inspector without models: rows, a scorer that loves length, token views and rankings made of arithmetic."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from labkit.types import Completion, Prompt, Ranking

FILLER = "It is calm and lives near the water in a quiet place under the old trees"
ANIMALS = ("fox", "otter", "heron", "badger", "hare", "owl")
HOSTILE = '<img src=x onerror="window.__hacked = 1"> $x^2$ \u202edlrow\u202c'


def scorer(prompts: Sequence[str], responses: Sequence[str], finished: Sequence[bool]) -> list[float]:
    """Longer is better, an end token adds a little, the word 'water' adds much."""
    return [0.1 * len(r.split()) + 0.3 * f + r.count("water") - 1.0 for r, f in zip(responses, finished, strict=True)]


def rows(*, hostile: bool = False) -> list[dict[str, Any]]:
    """Four sources, six prompts, two steps for PPO-ptx."""
    rng, made = random.Random(0), []
    for source, step, words in (
        ("base", 0, 3),
        ("sft", 240, 6),
        ("best of 4", 240, 8),
        ("ppo", 60, 14),
        ("ppo_ptx", 30, 10),
        ("ppo_ptx", 60, 12),
    ):
        for n, animal in enumerate(ANIMALS):
            filler = FILLER.split()
            text = f"The {animal} eats fish. " + " ".join(filler[: words - 3]) + "."
            if hostile and n == 0 and source == "ppo":
                text = HOSTILE
            prompt = f"What does the {animal} eat, and where does it live?\n"
            made.append(
                {
                    "source": source,
                    "step": step,
                    "prompt_id": f"p{n}",
                    "prompt": prompt,
                    "response": text,
                    "score": round(scorer([prompt], [text], [True])[0] + rng.gauss(0, 0.2), 3),
                    "gold": round(rng.random(), 3),
                    "kl": round(abs(rng.gauss(2, 1)), 3) if source.startswith("ppo") else None,
                    "length": len(text.split()),
                    "finished": rng.random() < 0.9,
                }
            )
    return made


def explain(row: Mapping[str, Any]) -> Any:
    """A token view of words."""
    from labkit.evaluation.token_view import COLUMNS, TokenView

    rng = random.Random(row["response"])
    tokens = tuple(" " * (i > 0) + w for i, w in enumerate(row["response"].split())) + ("<end>",)
    return TokenView(tokens, {n: tuple(rng.gauss(0, 1) for _ in tokens) for n in COLUMNS}, row.get("score"))


def rankings(count: int = 60) -> list[Ranking]:
    """Rankings by people who like short answers as often as long ones."""
    rng, made = random.Random(1), []
    for n in range(count):
        prompt = Prompt(f"q{n}", f"Question {n}: where does the {rng.choice(ANIMALS)} live?\n")
        texts = [
            "It lives " + " ".join(rng.choices(("near", "the", "water", "wood", "old"), k=rng.randint(1, 14))) + "."
            for _ in range(4)
        ]
        completions = tuple(Completion(f"q{n}-{i}", prompt.id, t, finished=True) for i, t in enumerate(texts))
        quality = [len(t.split()) * 0.1 + t.count("water") + rng.gauss(0, 0.8) for t in texts]
        order = sorted(range(4), key=lambda i: -quality[i])
        made.append(Ranking(prompt, completions, tuple((completions[i].id,) for i in order), f"labeler {n % 3}"))
    return made
