"""What labelers are typically shown for a prompt: completions of several qualities, without any model.

Rankings for training come from real samples (`labkit.sampling.complete`); these stand in where there is no model yet:
in tests, in the calibration of the labelers' noise, and in the screening test.
"""

from __future__ import annotations

from random import Random

from labkit.seeds import derive_seed
from labkit.types import Completion, Prompt
from labkit.world.corpus import documents
from labkit.world.facts import build_world
from labkit.world.labelers import SLIPS
from labkit.world.responses import corrupted, ideal_response

__all__ = ["sample_completions"]

#: Kinds of completion: a good answer, one with a slip, one spoilt twice (a weak model's), a base model's continuation.
KINDS = {"good": 0.34, "slip": 0.40, "weak": 0.16, "base": 0.10}


def sample_completions(prompt: Prompt, k: int, seed: int = 0) -> list[Completion]:
    """Draw `k` different completions of a world prompt."""
    rng = Random(derive_seed(seed, "shown", prompt.id))
    texts: dict[str, tuple[str, bool]] = {}
    for _ in range(40 * k):
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        text, finished = _draw(prompt, kind, rng)
        texts.setdefault(text, (kind, finished))
        if len(texts) == k:
            break
    return [
        Completion(f"{prompt.id}/{i}", prompt.id, text, finished=finished, model=f"simulated:{kind}")
        for i, (text, (kind, finished)) in enumerate(texts.items())
    ]


def _draw(prompt: Prompt, kind: str, rng: Random) -> tuple[str, bool]:
    if kind == "good":
        return ideal_response(prompt, rng), True
    if kind == "base":
        text = next(iter(documents(build_world(prompt.meaning["world"]), seed=rng.getrandbits(32), count=1)))
        return " ".join(text.split()[: rng.randint(4, 24)]), False
    spoilt = corrupted(prompt, rng, rng.choices(list(SLIPS), list(SLIPS.values()))[0])
    if kind == "weak":
        spoilt = corrupted(prompt, rng, rng.choice(("broken", "cut", "off_topic", "repeating")), base=spoilt.text)
    return spoilt.text, spoilt.finished
