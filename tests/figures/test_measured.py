"""What "evaluate now" measured, over steps: points with their intervals in a panel beside the curves."""

import base64

import pytest

from labkit import figures
from labkit.figures.records import Record, win_rates
from labkit.types import Step


def steps(count: int = 40) -> list[Step]:
    return [Step("ppo", n, {"score": n / count, "kl_k1": 0.1 * n}, {}) for n in range(1, count + 1)]


def measured(step: int, rate: float | None, *prompts: str, **more: object) -> dict:
    interval = {} if rate is None else {"win_rate": rate, "low": rate - 0.1, "high": rate + 0.1}
    return {"time": float(step), "step": step, "prompts": list(prompts), "values": {**interval, **more}}


ROWS = [
    measured(10, 0.6, "a", "b"),
    measured(15, 0.9, "c"),
    measured(30, 0.7, "b", "a"),
    measured(20, None, "a", "b", score=1.0),
    measured(35, 0.5, "c", "d"),
]


def panel(fig, title: str = "Win rate") -> tuple[str, list]:
    """The axis of the panel with this title, and its traces with points."""
    (at,) = [i for i, note in enumerate(fig.layout.annotations) if note.text.startswith(f"<b>{title}")]
    axis = "y" if at == 0 else f"y{at + 1}"
    return axis, [t for t in fig.data if (t.yaxis or "y") == axis and t.meta != "mark"]


def test_win_rates_stand_over_steps_and_only_equal_sets_of_prompts_are_joined() -> None:
    fig = figures.training_curves(Record("ppo", steps(), evaluations=ROWS))
    axis, lines = panel(fig)
    assert [(list(t.x), list(t.y)) for t in lines] == [([10, 30], [0.6, 0.7]), ([15], [0.9]), ([35], [0.5])]
    assert all(list(t.error_y.array) == pytest.approx([0.1] * len(t.x)) == list(t.error_y.arrayminus) for t in lines)
    assert len({t.line.color for t in lines}) == 3, "sets are told apart"
    heading = next(n.text for n in fig.layout.annotations if "Win rate" in n.text)
    assert all(words in heading for words in ("2 prompts<", "1 prompt<", "2 other prompts<"))
    low, high = fig.layout[f"yaxis{axis[1:]}"].range
    assert low < 0.4 and high > 1.0, "the bars are whole"
    first, last = fig.layout[f"xaxis{axis[1:]}"].range
    assert first < 1 and last > 40, "over the steps of the curves"
    assert "60 % [50, 70] on 2 prompts" in lines[0].text[0]
    assert len(base64.b64decode(figures.bundle(fig)["image/png"])) > 5000, "the twin draws it too"


def test_there_is_no_panel_where_nothing_was_measured_and_one_where_it_is_asked_for() -> None:
    plain = figures.training_curves(Record("ppo", steps(), evaluations=[ROWS[3]]))
    assert not [n for n in plain.layout.annotations if "Win rate" in n.text]
    alone = figures.training_curves(Record("ppo", steps(), evaluations=ROWS), panels=["win_rate"])
    assert [n.text[:11] for n in alone.layout.annotations] == ["<b>Win rate"]
    without = figures.training_curves(Record("ppo", steps(), evaluations=ROWS), panels=["kl"])
    assert len(without.layout.annotations) == 1


def test_colours_tell_runs_apart_where_there_are_several() -> None:
    fig = figures.training_curves([Record("a", steps(), evaluations=ROWS), Record("b", steps(), evaluations=ROWS[:1])])
    curves = {t.name: t.line.color for t in panel(fig, "Reward")[1]}
    assert [(t.name, t.line.color) for t in panel(fig)[1]] == [*[("a", curves["a"])] * 3, ("b", curves["b"])]


def test_a_line_keeps_its_place_when_its_prompts_are_evaluated_again() -> None:
    names = [[line.label for line in win_rates(ROWS[:count])] for count in (1, 2, 3, 5)]
    assert names == [["2 prompts"], ["2 prompts", "1 prompt"], ["2 prompts", "1 prompt"], ["2 prompts", "1 prompt", "2 other prompts"]]
    assert win_rates([]) == []
