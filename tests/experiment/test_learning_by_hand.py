"""What the quick reward model of the ranking board learns from, and on what it is measured, round after round."""

from labkit.experiment.live import to_learn
from labkit.labels.session import LabelSession
from tests.labels.helpers import draft, tasks


def ranked(count: int, given: int) -> LabelSession:
    desk = LabelSession(tasks(given), "ann", None)
    for _ in range(count):
        desk.submit(draft("c0", "c1", "c2"))
    return desk


def test_held_out_stays_what_was_ranked_blind_when_cards_come_back_and_change():
    desk = ranked(10, 10)
    _, _, held = to_learn(desk)
    assert [r.prompt.id for r in held] == ["p8", "p9"]
    desk.revisit([desk.tasks[n].id for n in (0, 9, 3)])
    for _ in range(2):
        desk.submit(draft("c2", "c1", "c0"))  # as the model had it
    now, told, again = to_learn(desk)
    assert again == held, "the next round is measured on the same"
    assert {r.prompt.id: r.ranks["c2"] for r in now if r.ranks["c2"] == 1} == {"p0": 1, "p9": 1}
    assert [r.prompt.id for r in told if r.ranks["c2"] == 1] == ["p0"], "what was changed is learnt from, not measured on"


def test_a_prompt_that_was_first_all_tied_is_held_out_as_it_stands_and_one_that_is_all_tied_now_is_left_out():
    desk = ranked(3, 4)
    desk.submit(draft("c0 c1 c2"))
    assert [r.prompt.id for r in to_learn(desk)[0]] == ["p0", "p1", "p2"]
    desk.show(desk.tasks[3].id)
    desk.submit(draft("c1", "c0 c2"))
    now, _, held = to_learn(desk)
    assert len(now) == 4 and [(r.prompt.id, r.groups[0]) for r in held] == [("p3", ("c1",))]
