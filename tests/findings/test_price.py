"""The price list names every piece of a plan, and prices add up."""

from pathlib import Path

import pytest

from labkit.disk import write_json
from labkit.findings.execute import record_of
from labkit.findings.plan import METHODS, plan_of, variants
from labkit.findings.price import PRICES, bill, price, price_list, total_minutes

FULL = plan_of("findings", ["small", "medium", "large"], [11, 12, 13, 14, 15])
MOST_MINUTES = 350  # of one thread: two cores for a little less than three hours


def test_the_default_plan_takes_less_than_three_hours_of_two_cores() -> None:
    assert 0 < total_minutes(FULL) < MOST_MINUTES


def test_every_piece_is_on_the_list_with_what_it_took(tmp_path: Path) -> None:
    task = next(t for t in FULL.tasks() if t.piece == "cost")
    write_json(record_of(tmp_path, task), {"piece": task.key, "seconds": 123.4})
    text = price_list(FULL, tmp_path)
    for name in ("folds", "batching", "rounds", "across", *METHODS, *(v.name for v in variants(FULL.scale))):
        assert name in text
    assert " 123 " in text and f"{total_minutes(FULL):.0f} minutes of one thread" in text


def test_units_are_known_and_larger_models_never_cost_less() -> None:
    assert {unit for t in FULL.tasks() for unit in bill(FULL, t)} <= set(PRICES)
    for unit, (small, medium, large) in PRICES.items():
        assert 0 < small <= medium <= large, unit


def test_twice_the_seeds_cost_twice_and_longer_runs_cost_more() -> None:
    assert total_minutes(plan_of("findings", FULL.sizes, range(20, 30))) == pytest.approx(2 * total_minutes(FULL))
    by_name = {t.argument: price(FULL, t) for t in FULL.tasks() if t.piece == "variant" and t.size == FULL.judge}
    assert by_name["ppo-longer"] > by_name["ppo-beta=2"] and by_name["ppo_ptx-beta=2"] > by_name["ppo-beta=2"]
