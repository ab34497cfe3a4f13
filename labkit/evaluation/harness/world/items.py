"""The world's miniature benchmarks as tasks of lm-eval: the same items and the same scoring as `labkit.world.benchmarks`.

lm-eval calls the first six functions for the questions and the last four for the scores, by the names in the YAML files
beside this one. Choices are compared per token, so the questions bring the number of tokens of each ending.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from labkit.world.benchmarks import benchmark_items
from labkit.world.benchmarks.measure import _f1, _words  # the world's own scoring: one meaning, two ways to ask
from labkit.world.facts import build_world

if TYPE_CHECKING:
    from datasets import Dataset


def truthfulness(**told: Any) -> dict[str, Dataset]:
    """Truth or myth."""
    return _choices("truthfulness", **told)


def bias(**told: Any) -> dict[str, Dataset]:
    """A stereotype or its mirror image."""
    return _choices("bias", **told)


def continuation(**told: Any) -> dict[str, Dataset]:
    """The last sentence of a story, of four."""
    return _choices("continuation", **told)


def reading(**told: Any) -> dict[str, Dataset]:
    """A question about a passage."""
    return _completed("reading", **told)


def counting(**told: Any) -> dict[str, Dataset]:
    """How many things a passage names."""
    return _completed("counting", **told)


def translation(**told: Any) -> dict[str, Dataset]:
    """A sentence in the world's toy language."""
    return _completed("translation", **told)


def per_token(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Whether the right ending has the highest log-probability per token."""
    means = [loglikelihood / tokens for (loglikelihood, _), tokens in zip(results, doc["tokens"], strict=True)]
    return {"acc_per_token": float(means.index(max(means)) == doc["right"])}


def overlap(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """F1 of the words of the first sentence and the reference."""
    return {"f1": _f1(_sentence(results[0]), doc["reference"])}


def same_words(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the first sentence is the reference."""
    return {"exact_match": float(_words(_sentence(results[0])) == _words(doc["reference"]))}


def line(doc: dict[str, Any], results: list[str]) -> dict[str, tuple[str, str]]:
    """The reference and the first line, for corpus BLEU."""
    return {"bleu": (doc["reference"], _line(results[0]))}


def _choices(name: str, n: int = 150, seed: int = 0, pretrained: str = "", **_: Any) -> dict[str, Dataset]:
    """The items of a benchmark of choices; pretrained: whose tokens are counted, by default those of the world's bases."""
    from labkit.models import load_tokenizer
    from labkit.world.pretrain import base_path

    tokenizer = load_tokenizer(pretrained or base_path("small"))
    rows = [
        {
            "context": item.context,
            "endings": list(item.endings),
            "right": item.right,
            "tokens": [len(tokenizer(e, add_special_tokens=False)["input_ids"]) for e in item.endings],
        }
        for item in benchmark_items(build_world(0), n, seed)[name]
    ]
    return _dataset(rows)


def _completed(name: str, n: int = 150, seed: int = 0, **_: Any) -> dict[str, Dataset]:
    items = benchmark_items(build_world(0), n, seed)[name]
    return _dataset([{"context": item.context.rstrip(" "), "reference": item.reference} for item in items])


def _dataset(rows: list[dict[str, Any]]) -> dict[str, Dataset]:
    from datasets import Dataset

    return {"test": Dataset.from_list(rows)}


def _line(text: str) -> str:
    return text.strip("\n").split("\n")[0].strip()


def _sentence(text: str) -> str:
    return re.split(r"[.!?]", _line(text))[0].strip()
