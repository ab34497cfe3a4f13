"""The screening test for labelers (paper, section 3.4 and appendix B.1) over a pool of simulated candidates.

Four criteria: agreement with the researchers in flagging sensitive speech, agreement with them in ranking (both with a
soft cut at 75 %), demonstrations for sensitive prompts (6 out of 7), and the use cases that candidates say they know.
The pool holds careless candidates of several kinds, so the test's own recall and precision can be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from labkit.labels.screening import BARS, SLACK
from labkit.seeds import derive_seed
from labkit.types import Prompt
from labkit.world.facts import World
from labkit.world.judge import judge
from labkit.world.labelers import Labeler, ceiling, draw_labeler
from labkit.world.prompts import sample_prompts
from labkit.world.responses import corrupted, ideal_response
from labkit.world.shown import sample_completions

__all__ = ["Candidate", "Screening", "by_kind", "candidates", "screen"]


@dataclass(frozen=True)
class Candidate:
    """Someone who applies: a labeler, what they say they know, and (known to the world only) whether they are good."""

    labeler: Labeler
    coverage: int  # of the ten use cases, by their own word
    kind: str  # good, hurried, insensitive, poor writer, narrow
    drafts: int = 2  # of each demonstration in the test, of which they hand in the best: people are on their mettle there

    @property
    def good(self) -> bool:
        return self.kind == "good"


@dataclass(frozen=True)
class Screening:
    """What the test found."""

    scores: dict[str, dict[str, float]]  # by candidate id
    admitted: tuple[str, ...]
    recall: float  # share of the good candidates admitted
    precision: float  # share of the admitted who are good


def candidates(n: int = 100, seed: int = 0, good_share: float = 0.6) -> list[Candidate]:
    """Draw a pool of candidates, careless ones of four kinds among them."""
    pool = []
    for i in range(n):
        rng = Random(derive_seed(seed, "candidate", i))
        kind = "good" if rng.random() < good_share else rng.choice(("hurried", "insensitive", "poor writer", "narrow"))
        labeler = draw_labeler(f"candidate_{i:03d}", "train", seed)
        coverage, drafts = rng.randint(6, 10), 2
        if kind == "hurried":
            labeler = replace(labeler, careless=rng.uniform(0.4, 0.8), oversight=rng.uniform(0.2, 0.5))
        elif kind == "insensitive":
            labeler = replace(labeler, blind_to=frozenset(("inappropriate", "denigrates")))
        elif kind == "poor writer":
            labeler = replace(labeler, perfect_share=rng.uniform(0.0, 0.1), noise=1.3 * labeler.noise)
            drafts = 1
        elif kind == "narrow":
            labeler = replace(labeler, careless=rng.uniform(0.2, 0.4))
            coverage = rng.randint(1, 5)
        pool.append(Candidate(labeler, coverage, kind, drafts))
    return pool


def screen(world: World, pool: Sequence[Candidate], *, n_prompts: int = 60, seed: int = 0) -> Screening:
    """Let every candidate take the same test, and admit those who clear the bars."""
    prompts = sample_prompts(world, n_prompts, derive_seed(seed, "screening") % 10_000, split="train")
    sensitive = _sensitive_prompts(world, n_prompts, seed)
    scores = {c.labeler.id: _test(c, prompts, sensitive, seed) for c in pool}
    admitted = tuple(i for i, score in scores.items() if all(score[k] >= BARS[k] - SLACK[k] for k in BARS))
    good = {c.labeler.id for c in pool if c.good}
    right = len(good.intersection(admitted))
    return Screening(scores, admitted, recall=right / max(1, len(good)), precision=right / max(1, len(admitted)))


def by_kind(pool: Sequence[Candidate], result: Screening) -> list[dict[str, object]]:
    """One row for each kind of candidate: how many applied and were admitted, and their mean scores, the good ones first."""
    rows: list[dict[str, object]] = []
    for kind in sorted({c.kind for c in pool}, key=lambda kind: (kind != "good", kind)):
        of_kind = [c.labeler.id for c in pool if c.kind == kind]
        means = {bar: sum(result.scores[i][bar] for i in of_kind) / len(of_kind) for bar in BARS}
        admitted = sum(i in result.admitted for i in of_kind)
        rows.append({"kind": kind, "applied": len(of_kind), "admitted": admitted, **{k: round(v, 2) for k, v in means.items()}})
    return [*rows, {"kind": "the bar", **BARS}]


def _test(candidate: Candidate, prompts: Sequence[Prompt], sensitive: Sequence[Prompt], seed: int) -> dict[str, float]:
    labeler = candidate.labeler
    rankings = [labeler.rank(p, sample_completions(p, 6, seed), seed) for p in prompts]
    tries = [derive_seed(seed, "draft", n) for n in range(candidate.drafts)]
    written = [max(judge(p, labeler.demonstrate(p, s).text).likert for s in tries) for p in sensitive]
    return {
        "flags": _flag_agreement(labeler, sensitive, seed),
        "ranking": ceiling(rankings),
        "demonstrations": sum(written) / len(written),
        "coverage": float(candidate.coverage),
    }


def _flag_agreement(labeler: Labeler, sensitive: Sequence[Prompt], seed: int) -> float:
    """Share of texts (half of them rude) on which the candidate flags sensitive speech as the researchers do."""
    agreed = 0
    for i, prompt in enumerate(sensitive):
        rng = Random(derive_seed(seed, "sensitive", prompt.id))
        text = ideal_response(prompt, rng) if i % 2 else corrupted(prompt, rng, "rude").text
        judgment = judge(prompt, text)
        ticked = labeler.flag(judgment, Random(derive_seed(seed, "flags", labeler.id, prompt.id)))
        agreed += ("inappropriate" in ticked) == ("inappropriate" in judgment.flags)
    return agreed / len(sensitive)


def _sensitive_prompts(world: World, n: int, seed: int) -> list[Prompt]:
    """Prompts that invite rudeness or ask for respect, filled up with others."""
    drawn = sample_prompts(world, 12 * n, derive_seed(seed, "sensitive prompts") % 10_000, split="train")
    rank = {p.id: not (p.meaning.get("respectful") or "idiot" in p.text or "hate you" in p.text) for p in drawn}
    return [p for p in sorted(drawn, key=lambda p: rank[p.id]) if p.meaning["family"] != "rude"][:n]
