"""Scoring a short answer against all that people gave, as SQuAD and QuAC do: words without case, marks and articles."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """F1 and exact match with whichever accepted answer fits best."""
    accepted = [doc["answer"], *(doc.get("aliases") or ())]
    return {
        "f1": max(f1(results[0], answer) for answer in accepted),
        "exact_match": max(float(words(results[0]) == words(answer)) for answer in accepted),
    }


def words(text: str) -> list[str]:
    """Lower case, no marks, no articles."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the")]


def f1(said: str, wanted: str) -> float:
    """Harmonic mean of precision and recall over words; of two texts without words 1."""
    a, b = words(said), words(wanted)
    common = sum((Counter(a) & Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if a or b else 1.0
