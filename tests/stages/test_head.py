"""Settling the new head: the best linear fit to the rankings, found without moving the body."""

from __future__ import annotations

import pytest
import torch

from labkit import reward
from labkit.errors import InvariantError
from labkit.knobs import RewardKnobs, constant
from labkit.models import new_reward_model
from labkit.models.loading import scalar_head
from labkit.reward import RewardSettings, encode_rankings
from labkit.reward.head import last_states, settle_head
from labkit.reward.loss import kwise_loss
from labkit.reward.report import score_ranked
from tests.stages.animals import CONTEXT, MODELS, rankings, save_base, tokenizer

LIMITS = {"max_prompt_tokens": 16, "max_response_tokens": 16}


@pytest.fixture(params=MODELS)
def base(request, tmp_path):
    return save_base(tmp_path / "base", request.param)


def rows():
    return encode_rankings(tokenizer(), rankings(40), RewardSettings(**LIMITS), CONTEXT).rows


def loss_of(model, found) -> torch.Tensor:
    scores = torch.cat(score_ranked(model, found))
    starts = torch.tensor([0, *(len(r.responses) for r in found)]).cumsum(0).tolist()
    pairs = torch.tensor([(s + a, s + b) for r, s in zip(found, starts, strict=False) for a, b in r.pairs])
    return kwise_loss(scores, pairs, torch.tensor([r.weight for r in found for _ in r.pairs]), len(found))


def test_the_settled_head_ranks_better_than_a_random_one_and_the_body_rests(base):
    model, found = new_reward_model(base, 0, device="cpu"), rows()
    body = {n: p.clone() for n, p in model.base_model.named_parameters()}
    before = loss_of(model, found)
    reached = settle_head(model, found)
    assert reached == pytest.approx(float(loss_of(model, found)), abs=1e-4)
    assert reached < 0.9 * float(before)
    assert all(p.equal(body[n]) for n, p in model.base_model.named_parameters())


def test_no_small_step_of_the_head_does_better(base):
    """The fit is at the minimum of loss and ridge: along any direction the loss rises or the ridge does."""
    model, found = new_reward_model(base, 0, device="cpu"), rows()
    best = settle_head(model, found)
    head = scalar_head(model)
    settled = head.weight.detach().clone()
    for seed in range(4):
        step = torch.randn(settled.shape, generator=torch.Generator().manual_seed(seed)) * settled.norm() * 0.05
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                head.weight.copy_(settled + sign * step)
            losses.append(float(loss_of(model, found)))
        assert sum(losses) / 2 > best - 1e-6


def test_two_seeds_settle_on_one_head(base):
    heads = []
    for seed in (0, 1):
        model = new_reward_model(base, seed, device="cpu")
        settle_head(model, rows())
        heads.append(scalar_head(model).weight)
    torch.testing.assert_close(*heads, atol=1e-2, rtol=1e-2)


def test_padded_models_show_their_head_the_same_states(base):
    from transformers import AutoModelForTokenClassification

    packed, found = new_reward_model(base, 0, device="cpu"), rows()
    packed.save_pretrained(base.parent / "rm")
    plain = AutoModelForTokenClassification.from_pretrained(base.parent / "rm", attn_implementation="eager").eval()
    torch.testing.assert_close(last_states(plain, found, 200), last_states(packed, found, 200), atol=1e-5, rtol=1e-4)


def test_only_a_new_head_is_settled(tmp_path):
    settings = RewardSettings(epochs=1, batch_size=20, lr=1e-4, settle_head=True, **LIMITS)
    folder = save_base(tmp_path / "base")
    first = reward.start(folder, device="cpu")
    list(reward.loop(first, rankings(40), constant(RewardKnobs()), settings))
    first.save_model(tmp_path / "rm")
    again = reward.start(tmp_path / "rm", trained=True, device="cpu")
    before = scalar_head(again.model).weight.detach().clone()
    next(reward.loop(again, rankings(40, seed=9), constant(RewardKnobs()), settings))
    assert (scalar_head(again.model).weight - before).abs().max() < 1e-2  # a step of training, no new fit


@pytest.mark.parametrize(("number", "words"), [(float("nan"), "as numbers that are not finite.*damaged weights"), (3e38, "too large to square")])
def test_states_that_are_no_finite_numbers_are_named_and_the_head_stays(tmp_path, monkeypatch, number, words):
    model, found = new_reward_model(save_base(tmp_path / "base"), 0, device="cpu"), rows()
    before = scalar_head(model).weight.clone()
    states = last_states(model, found, 200)
    states[0], states[1] = number, number
    monkeypatch.setattr("labkit.reward.head.last_states", lambda *_: states)
    with pytest.raises(InvariantError, match=words):
        settle_head(model, found)
    assert scalar_head(model).weight.equal(before)


def test_a_damaged_base_is_one_sentence(tmp_path):
    folder = save_base(tmp_path / "base")
    state = reward.start(folder, device="cpu")
    with torch.no_grad():
        state.model.get_input_embeddings().weight[5] = float("nan")
    with pytest.raises(InvariantError, match=r"reads \d+ of \d+ completions \(first one to prompt 'p\d+'\) as numbers that are not finite"):
        next(reward.loop(state, rankings(40), constant(RewardKnobs()), RewardSettings(settle_head=True, **LIMITS)))
