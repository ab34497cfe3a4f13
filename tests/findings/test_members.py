"""The members of an ensemble learn from different draws of the rankings: what is fitted, and not drawn, would else be one model thrice."""

from pathlib import Path
from types import SimpleNamespace

from labkit.findings.pieces import PIECES, member_name
from labkit.findings.plan import MEMBERS


class Lab:
    """Keeps what each reward model would have learnt from."""

    def __init__(self) -> None:
        self.learnt: dict[str, list[str]] = {}

    def rankings(self, split: str) -> list[str]:
        return [f"{split}-{i}" for i in range(40)]

    def reward_job(self, *, name: str, seed: int, rankings: list[str]) -> SimpleNamespace:
        self.learnt[name] = rankings
        return SimpleNamespace(start=lambda: SimpleNamespace(result=lambda block: None))


def learnt(seed: int) -> dict[str, list[str]]:
    lab = Lab()
    PIECES["members"](SimpleNamespace(lab=lab, task=SimpleNamespace(seed=seed), run=Path()))
    return lab.learnt


def test_each_member_has_a_draw_of_its_own_of_as_many_training_rankings() -> None:
    found = learnt(17)
    assert list(found) == [member_name(i) for i in range(1, MEMBERS)]
    every = set(Lab().rankings("train"))
    for drawn in found.values():
        assert len(drawn) == len(every) and set(drawn) < every, "drawn with replacement: some twice, some never"
    assert len({tuple(drawn) for drawn in found.values()}) == len(found)


def test_the_draw_is_the_seed_s() -> None:
    assert learnt(17) == learnt(17) != learnt(18)
