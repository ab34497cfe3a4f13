"""Prompt preparation as in the paper (section 3.2): deduplicate, cap each user, split by user, filter personal data.

    kept, report = prepare(prompts)
    print(report)

Every step is also a function of its own. Any prompts will do; where `Prompt.meaning["planted"]` says what was
planted (the world's prompts carry it), the report measures recall and precision of deduplication and of the PII filter.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.data.personal import find_personal_data, has_personal_data
from labkit.data.splits import SPLITS, split_prompts
from labkit.data.use_cases import USE_CASE_TITLES, USE_CASES
from labkit.errors import DataError
from labkit.seeds import derive_seed
from labkit.settings import Settings, setting
from labkit.types import Prompt

__all__ = [
    "Found",
    "PrepareSettings",
    "Report",
    "cap_users",
    "deduplicate",
    "drop_long",
    "prepare",
    "use_case_table",
]


@dataclass(frozen=True)
class PrepareSettings(Settings):
    """How prompts are cleaned. The paper gives the cap and the kinds of step, not the other numbers."""

    prefix_words: int = setting(20, "A long common prefix has this many words (the paper gives no number).", low=1)
    tail_share: float = setting(
        0.5,
        "A text followed by a tail of at most this part of its words is a near-duplicate (not in the paper).",
        low=0,
        high=1,
    )
    per_user: int = setting(200, "At most so many prompts of one user (paper: 200).", low=1)
    filter_splits: tuple[str, ...] = setting(
        ("train",), "Personal data leaves these splits (paper: the training splits)."
    )
    valid_share: float = setting(
        0.1, "Share of users for validation, where prompts bring no split (not in the paper).", low=0, high=0.5
    )
    test_share: float = setting(
        0.1, "Share of users for the test, where prompts bring no split (not in the paper).", low=0, high=0.5
    )
    seed: int = setting(0, "Seed of the cap and of the split by user.")


@dataclass(frozen=True)
class Found:
    """How well a cleaning step found what was planted."""

    planted: int
    found: int
    right: int

    @property
    def recall(self) -> float:
        return self.right / self.planted if self.planted else 1.0

    @property
    def precision(self) -> float:
        return self.right / self.found if self.found else 1.0


@dataclass(frozen=True)
class Report:
    """What preparation did: counts after each step, and what it found of what was planted (world prompts only)."""

    counts: Mapping[str, int]  # prompts left after each step, in order
    splits: Mapping[str, int]
    users: Mapping[str, int]
    kinds: Mapping[str, int]  # kinds of personal data found
    use_cases: tuple[Mapping[str, Any], ...]
    measured: Mapping[str, Found] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what was done in another way than the paper's

    def __str__(self) -> str:
        lines = [f"{name:<22}{count:>8,}" for name, count in self.counts.items()]
        lines += [f"  {name:<20}{count:>8,} prompts of {self.users[name]} users" for name, count in self.splits.items()]
        lines += [
            f"{name:<22}recall {m.recall:.3f}  precision {m.precision:.3f}  ({m.planted} planted)"
            for name, m in self.measured.items()
        ]
        lines += self.notes
        return "\n".join(lines)


def prepare(prompts: Iterable[Prompt], settings: PrepareSettings | None = None) -> tuple[list[Prompt], Report]:
    """Clean and split `prompts`; returns the kept prompts in their order, and the report.

    Raises DataError when there are no prompts or when a user's prompts lie in two splits.
    """
    settings = settings or PrepareSettings()
    everything = list(prompts)
    given = [p for p in everything if p.text.strip()]
    if not given:
        raise DataError(
            "There are no prompts to prepare" + (", but for empty ones" if everything else "") + "; check the file or the sampling "
            "settings they come from."
        )
    unique, dropped = deduplicate(given, prefix_words=settings.prefix_words, tail_share=settings.tail_share)
    capped = cap_users(unique, settings.per_user, seed=settings.seed)
    split, said = split_prompts(capped, valid_share=settings.valid_share, test_share=settings.test_share, seed=settings.seed)
    personal = {p.id: found for p in split if (found := find_personal_data(p.text))}
    kept = [p for p in split if p.split not in settings.filter_splits or p.id not in personal]
    report = Report(
        counts={
            "given": len(everything),
            **({"with a text": len(given)} if len(given) < len(everything) else {}),
            "deduplicated": len(unique),
            "capped per user": len(capped),
            "without PII": len(kept),
        },
        splits=_by_split(kept),
        users={s: len({p.user for p in kept if p.split == s}) for s in _by_split(kept)},
        kinds=dict(Counter(item.kind for found in personal.values() for item in found)),
        use_cases=tuple(use_case_table(kept)),
        measured=_measure(given, dropped),
        notes=(said,) if said else (),
    )
    return kept, report


def drop_long(
    prompts: Sequence[Prompt], report: Report, longest: int, tokens: Callable[[str], int]
) -> tuple[list[Prompt], Report]:
    """Drop prepared prompts of over `longest` tokens (the paper: over 1k of a context of 2k) and count it in the report.

    tokens: how many a text has for the model that will read it. Raises DataError, naming one, when all are too long.
    """
    kept = [p for p in prompts if tokens(p.text) <= longest]
    if not kept:
        raise DataError(
            f"All {len(prompts)} prompts are longer than {longest} tokens (prompt {prompts[0].id!r} has {tokens(prompts[0].text)}), "
            "which is what the models' context leaves beside a response. Shorten them, or use a model with a longer context."
        )
    splits = _by_split(kept)
    return kept, replace(
        report,
        counts={**report.counts, "short enough": len(kept)},
        splits=splits,
        users={s: len({p.user for p in kept if p.split == s}) for s in splits},
        use_cases=tuple(use_case_table(kept)),
    )


def deduplicate(
    prompts: Sequence[Prompt], *, prefix_words: int = 20, tail_share: float = 0.5
) -> tuple[list[Prompt], list[Prompt]]:
    """Drop prompts that share a long common prefix with an earlier one (paper, section 3.2); returns (kept, dropped).

    Two prompts are near-duplicates when their first `prefix_words` words agree, or when one is the other followed by a
    short tail ("... Thank you."). Prefixes are counted in whole words, punctuation aside: "What does the fox eat?" and
    "What does the fox fear?" differ in the word that matters. Of a group of near-duplicates the earliest stays.
    """
    words = [_words(p.text) for p in prompts]
    groups: dict[int, list[int]] = {}  # index of the group's first in sorted order -> members
    open_groups: list[int] = []  # those that a later prompt in sorted order may still join
    for i in sorted(range(len(prompts)), key=lambda i: (words[i], i)):
        open_groups = [a for a in open_groups if _still_shares(words[a], words[i], prefix_words)]
        home = next((a for a in open_groups if _is_near(words[a], words[i], prefix_words, tail_share)), None)
        if home is None:
            open_groups.append(i)
        groups.setdefault(i if home is None else home, []).append(i)
    first = {min(members) for members in groups.values()}
    kept = [p for i, p in enumerate(prompts) if i in first]
    return kept, [p for i, p in enumerate(prompts) if i not in first]


def _words(text: str) -> list[str]:
    """Words without punctuation; a sign that stands between spaces is one (2 + 2), vowel signs and accents belong to theirs."""
    joined = text.lower()
    if not joined.isascii():
        joined = "".join(f"_{ord(c):x}" if unicodedata.category(c) in ("Mn", "Mc") else c for c in joined)
    return re.findall(r"\w+|(?<!\S)[-+*/%=<>|&^~]+(?!\S)", joined)


def cap_users(prompts: Sequence[Prompt], limit: int = 200, *, seed: int = 0) -> list[Prompt]:
    """Keep at most `limit` prompts of each user, chosen at random (paper: 200). Prompts without a user are all kept."""
    by_user: dict[str, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        by_user[prompt.user].append(i)
    kept: set[int] = set()
    for user, rows in by_user.items():
        if user and len(rows) > limit:
            rows = random.Random(derive_seed(seed, user, "cap")).sample(rows, limit)
        kept.update(rows)
    return [p for i, p in enumerate(prompts) if i in kept]


def use_case_table(prompts: Iterable[Prompt]) -> list[dict[str, Any]]:
    """Rows {use_case, title, count, percent, paper} in Table 1's order; unknown use cases come last."""
    counts = Counter(p.use_case for p in prompts)
    total = max(1, sum(counts.values()))
    names = [*USE_CASES, *sorted(set(counts) - set(USE_CASES))]
    return [
        {
            "use_case": name,
            "title": USE_CASE_TITLES.get(name, name),
            "count": counts[name],
            "percent": round(100 * counts[name] / total, 1),
            "paper": USE_CASES.get(name),
        }
        for name in names
    ]


def _common(a: list[str], b: list[str]) -> int:
    """Number of leading words that two texts share."""
    for n, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return n
    return min(len(a), len(b))


def _still_shares(anchor: list[str], words: list[str], prefix_words: int) -> bool:
    """In sorted order: once a text neither begins with the anchor nor shares its long prefix, no later text does."""
    return _common(anchor, words) >= min(len(anchor), prefix_words)


def _is_near(anchor: list[str], words: list[str], prefix_words: int, tail_share: float) -> bool:
    common = _common(anchor, words)
    return common >= prefix_words or (common == len(anchor) and len(words) - common <= tail_share * max(1, common))


def _by_split(prompts: Sequence[Prompt]) -> dict[str, int]:
    counts = Counter(p.split for p in prompts)
    return {s: counts[s] for s in [*SPLITS, *sorted(set(counts) - set(SPLITS))] if counts[s]}


def _measure(given: Sequence[Prompt], dropped: Sequence[Prompt]) -> dict[str, Found]:
    """Recall and precision against `meaning["planted"]`; empty where no prompt says what was planted."""
    planted = {p.id: p.meaning["planted"] for p in given if p.meaning and "planted" in p.meaning}
    if not planted:
        return {}
    copies = {i for i, what in planted.items() if what.get("duplicate_of")}
    private = {i for i, what in planted.items() if what.get("personal")}
    removed = {p.id for p in dropped}
    flagged = {p.id for p in given if has_personal_data(p.text)}
    # Of two copies the earlier stays, so a removed original whose copy stayed counts as found, too.
    family = {i: planted[i].get("duplicate_of") or i for i in planted}
    families = {family[i] for i in copies}
    right = sum(1 for i in removed if family.get(i) in families)
    return {
        "deduplication": Found(planted=len(copies), found=len(removed), right=min(right, len(copies))),
        "personal data": Found(planted=len(private), found=len(flagged), right=len(flagged & private)),
    }
