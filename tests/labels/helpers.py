"""Small prompts, completions and drafts for the label tests."""

from labkit.labels.state import Draft
from labkit.types import Completion, Prompt


def tasks(n: int = 3, k: int = 3) -> list[tuple[Prompt, list[Completion]]]:
    """`n` prompts with `k` completions c0, c1, ... each, of models m0, m1, ..."""
    return [
        (
            Prompt(id=f"p{i}", text=f"Question {i}?"),
            [
                Completion(id=f"c{j}", prompt_id=f"p{i}", text=f"Answer {j} to {i}.", model=f"m{j}", seed=j)
                for j in range(k)
            ],
        )
        for i in range(n)
    ]


def draft(*groups: str, **rest) -> Draft:
    """`draft("c1", "c0 c2")`: c1 first, then c0 and c2 tied."""
    return Draft(groups=tuple(tuple(g.split()) for g in groups), **rest)


class Clock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
