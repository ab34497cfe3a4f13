"""The cost of the pretraining gradient, printed; what fails here is a side that does not do its work."""

import json

import pytest

from tests.benchmarks.ptx_cost import PHASES, ptx_cost


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_ptx_cost_at_the_tours_size():
    print("\n" + json.dumps(ptx_cost(), indent=1))


@pytest.mark.slow
def test_both_sides_are_measured_on_the_same_work():
    found = ptx_cost(1, size="small", steps=1, batch=16, minibatch=8, max_new_tokens=8)
    assert set(found["phases"]["PPO"]) == set(PHASES) and found["ratio"]["pairs"] == 1
    assert found["phases"]["PPO-ptx"]["ptx"] > found["phases"]["PPO"]["ptx"] > 0
    assert found["response_length"]["PPO"] == pytest.approx(found["response_length"]["PPO-ptx"], abs=0.5)
    assert found["settings"] | {"ptx_per_episode": 8} == found["settings"], "the paper's eight examples"
