"""What the reader's states must tell: how likely its answers were, at the right places and by the model's own account."""

from __future__ import annotations

import pytest
import torch

from labkit.models import load_policy, new_reward_model, response_logprobs
from labkit.models.shared import completion_states
from labkit.world.pretrain import base_path
from labkit.world.surprise import Answers, logprobs_of, running_means, surprise_loss

FOUND = [
    ([5, 6, 7], [[8, 9], [10, 11, 12], [13]], 1),
    ([20, 21], [[22, 23, 24, 25], [26, 27]], 2),
]


@pytest.fixture(scope="module")
def small():
    """The small base as a scalar model, the states of a pass over FOUND, and where its answers lie."""
    model = new_reward_model(base_path("small"), 0, device="cpu")
    with torch.no_grad():
        states = completion_states(model, [p for p, _, _ in FOUND], [a for _, a, _ in FOUND])
    return model, states, Answers.of(FOUND)


def test_every_token_lies_where_the_packed_pass_has_it():
    packed = [token for prompt, answers, _ in FOUND for part in (prompt, *answers) for token in part]
    found = Answers.of(FOUND)
    assert [packed[place] for place in found.places] == found.tokens.tolist()
    assert found.tokens.tolist() == [token for _, answers, _ in FOUND for answer in answers for token in answer]
    firsts = [0, *(found.ends[:-1] + 1).tolist()]
    assert [packed[found.before[first]] for first in firsts] == [7, 7, 7, 21, 21]  # the prompt's end, for each answer
    rest = [i for i in range(len(found.tokens)) if i not in firsts]
    assert [packed[found.before[i]] for i in rest] == [packed[found.places[i] - 1] for i in rest]
    assert found.right.tolist() == [True] * 2 + [False] * 4 + [True] * 6


def test_log_probabilities_are_those_of_the_language_model(small):
    model, states, answers = small
    language = load_policy(base_path("small"), device="cpu")
    prompts = [prompt for prompt, group, _ in FOUND for _ in group]
    plain = response_logprobs(language, prompts, [answer for _, group, _ in FOUND for answer in group])
    torch.testing.assert_close(logprobs_of(model, states, answers), plain, atol=1e-4, rtol=1e-4)


def test_running_means_begin_anew_with_each_answer():
    means = running_means(torch.tensor([-1.0, -3.0, -2.0, -4.0, -6.0]), [2, 3])
    assert means.tolist() == [-1.0, -2.0, -2.0, -3.0, -4.0]


def test_the_probe_is_held_to_the_model_s_own_account_and_moves_the_states_alone(small):
    _, states, answers = small
    states = states.clone().requires_grad_()
    logprobs = torch.linspace(-3, -1, len(answers.tokens)).requires_grad_()
    probe = torch.nn.Linear(states.shape[1], 2)
    with torch.no_grad():  # a probe that tells exactly what is so: no loss
        told = torch.stack([running_means(logprobs, answers.lengths), logprobs], 1)
        exact = torch.linalg.lstsq(states[answers.places], told - probe.bias).solution.T
    surprise_loss(probe, states, logprobs, answers).backward()
    assert logprobs.grad is None, "the target is not to be made easy"
    assert states.grad.abs().sum() > 0 and not states.grad[: len(FOUND[0][0])].any()
    with torch.no_grad():
        probe.weight.copy_(exact)
        assert surprise_loss(probe, states, logprobs, answers) < 1e-4
