"""The ways without a trick compute what the lab computes: else their times would compare nothing."""

import torch

from labkit.models import response_logprobs, response_values
from labkit.models.packed import LAB_ATTENTION
from labkit.sampling import sample
from tests.benchmarks import report, tricks
from tests.benchmarks.peers.lab_ppo import scalar_model
from tests.benchmarks.workload import END, Workload, make_policy, make_prompts

WORK = Workload("tiny", batch=12, mean_response=6.0, max_response=12)


def test_every_way_without_a_trick_gives_the_same_numbers():
    policy, plain = make_policy(WORK, attn_implementation=LAB_ATTENTION), make_policy(WORK)
    prompts = make_prompts(WORK, WORK.batch)
    options = {"max_new_tokens": 12, "eos_id": END, "seeds": range(WORK.batch)}
    responses = [s.ids for s in sample(policy, prompts, **options)]
    assert len({len(r) for r in responses}) > 1
    assert [s.ids for s in tricks.sample_without_dropping(policy, prompts, **options)] == responses
    expected = response_logprobs(policy, prompts, responses)
    assert torch.allclose(tricks.logprobs_padded(plain, prompts, responses), expected, atol=1e-4)
    assert torch.allclose(tricks.logprobs_full_head(policy, prompts, responses), expected, atol=1e-4)
    scalar = scalar_model(policy, WORK)
    values = response_values(scalar, prompts, responses)
    assert torch.allclose(tricks.values_padded(scalar, prompts, responses), values, atol=1e-4)


def test_the_table_says_what_each_trick_gave():
    result = tricks.tricks(WORK, rounds=1)
    assert all(row["whole"]["median"] > 0 for row in result["tricks"].values())
    facts = {"date": "2026-11-22", "processor": "a CPU", "threads": 1, "versions": {"torch": "2"}}
    said = report.table({"environment": facts, "tricks": result})
    assert all(f"| {name} |" in said for name in tricks.ROWS)
