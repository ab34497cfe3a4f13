"""The reward model on input that it cannot learn from: each ends in one sentence, and what is left out is counted."""

import pytest
import torch

from labkit import reward
from labkit.errors import DataError, InvariantError
from labkit.models.loading import scalar_head
from tests.stages.animals import demonstrations, question, rankings, tokenizer
from tests.stages.test_reward import QUICK, STEADY, ranking, reward_loop, run


def test_one_completion_is_no_ranking():
    with pytest.raises(DataError, match=r"prompt 'p0' by labeler 'l0' has 1 completion\(s\); a ranking needs K >= 2"):
        ranking((("a",),))


def test_all_tied_rankings_are_dropped_and_counted_and_refused_when_nothing_is_left(bases):
    tied = ranking((("a", "b", "c"),), 77)
    state, _ = run(bases["gpt2"], QUICK.but(epochs=1), [*rankings(10), tied])
    assert state.dropped.all_tied == 1
    with pytest.raises(DataError, match="None of the 1 rankings can be used: 1 without a strict pair"):
        run(bases["gpt2"], rows=[tied])


def test_held_out_rankings_that_are_all_tied_are_called_held_out(bases):
    tied = ranking((("a", "b", "c"),), 77)
    with pytest.raises(DataError, match="None of the 1 held-out rankings can be used: 1 without a strict pair"):
        next(reward.loop(reward.start(bases["gpt2"], device="cpu"), rankings(10), STEADY, QUICK, valid=[tied]))


def test_the_newest_prompt_of_a_session_may_be_all_tied(bases):
    given = [*rankings(3), ranking((("a", "b", "c"),), 77)]
    step = next(reward.retrain(reward.start(bases["gpt2"], device="cpu"), given, STEADY, QUICK))
    assert 0 <= step.metrics["valid_accuracy"] <= 1
    with pytest.raises(DataError, match="2 prompts with a strict pair, one to be held out; there are 1"):
        reward.retrain(reward.start(bases["gpt2"], device="cpu"), [rankings(1)[0], given[-1]], STEADY, QUICK)


def test_an_empty_set_of_rankings_is_one_sentence(bases):
    with pytest.raises(DataError, match="There are no rankings to learn from"):
        next(reward.loop(reward.start(bases["gpt2"], device="cpu"), [], STEADY, QUICK))


def test_a_prompt_over_the_limit_is_dropped_and_counted(bases):
    long = ranking((("a",), ("b",)), 88, prompt="very " * 30 + "fox")
    state, _ = run(bases["gpt2"], QUICK.but(epochs=1), [*rankings(10), long])
    assert state.dropped.too_long == 1
    with pytest.raises(DataError, match="1 with a prompt over the limit"):
        run(bases["gpt2"], rows=[long])


def test_centring_asks_no_device_for_float64(bases, monkeypatch):
    class OnAppleGPU(torch.Tensor):
        def double(self):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

        def cpu(self):
            return self.as_subclass(torch.Tensor)

    def scored(model, *rows):
        return (torch.tensor([1.0, 2.0, 6.0]) + scalar_head(model).bias.item()).as_subclass(OnAppleGPU)

    monkeypatch.setattr(reward_loop, "score", scored)
    assert reward.centre(reward.start(bases["gpt2"], device="cpu").model, tokenizer(), demonstrations(3)) == -3.0


def test_demonstrations_that_do_not_fit_cannot_centre(bases):
    from labkit.types import Demonstration

    state = reward.start(bases["gpt2"], device="cpu")
    long = Demonstration(question(0, "fox"), "very " * 40)
    with pytest.raises(DataError, match="None of the 1 demonstrations fits the context of 32 tokens"):
        reward.centre(state.model, state.tokenizer, [long])
    full = Demonstration(question(0, "fox"), "very " * 25)  # with its end token 32
    reward.centre(state.model, state.tokenizer, [long, full])
    assert reward.centre(state.model, state.tokenizer, [full]) == pytest.approx(0.0, abs=1e-5)


def test_a_loss_that_is_no_number_stops_training(bases):
    state = reward.start(bases["llama"], device="cpu")
    with torch.no_grad():
        scalar_head(state.model).weight[0, 0] = float("inf")
    with pytest.raises(InvariantError, match="The loss of step 1 is nan"):
        next(reward.loop(state, rankings(10), STEADY, QUICK))
