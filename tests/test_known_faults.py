"""Faults that PPO implementations are known for, each put in or looked for where the loop itself would have it."""

import math
from dataclasses import replace
from importlib import import_module
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from labkit.errors import InvariantError
from labkit.knobs import PPOKnobs, constant
from labkit.models import response_logprobs
from labkit.ppo import PPOSettings, Rollout, loop, rollout, update
from labkit.ppo.checks import check_kl
from labkit.ppo.rollout import encoded, generate, reward_episodes
from tests.toy import NumberTokenizer, even_share, save_toy, toy_prompts, toy_state

loop_module = import_module("labkit.ppo.loop")  # the name labkit.ppo.loop is the function
SETTINGS = PPOSettings(steps=2, batch=32, minibatch=8, max_new_tokens=10, warmup=0, ptx_row=32)
KNOBS = PPOKnobs(policy_lr=1e-3, value_lr=1e-3, kl_coef=0.01)


@pytest.fixture
def state(tmp_path):
    return toy_state(save_toy(tmp_path / "init", spread=0.05), SETTINGS)


def steps(state, knobs=KNOBS, settings=SETTINGS, reward=even_share, **options):
    return list(loop(state, toy_prompts(50), reward, constant(knobs), settings, **options))


def after_scoring_at_step_two(monkeypatch, spoil):
    """Let `spoil(state, rollout)` change what the second iteration has scored."""
    scored = loop_module.score_episodes

    def spoilt(state, batch, *rest):
        scored(state, batch, *rest)
        if state.step == 1:
            spoil(state, batch)

    monkeypatch.setattr(loop_module, "score_episodes", spoilt)


def test_old_log_probabilities_of_train_mode_are_caught_after_the_first_step_too(state, monkeypatch):
    def spoil(state, batch):
        policy = state.plain_policy.train()
        batch.logprobs = batch.grid(response_logprobs(policy, batch.prompt_ids, batch.response_ids))
        policy.eval()

    after_scoring_at_step_two(monkeypatch, spoil)
    with pytest.raises(
        InvariantError, match="Step 2: on the first minibatch the ratio .* old log-probabilities taken in train mode"
    ):
        steps(state)


def test_a_negative_mean_kl_is_caught(state, monkeypatch):
    def spoil(state, batch):  # as sampling that favours what the policy finds unlikely would look
        batch.ref_logprobs = batch.logprobs + 0.1 * batch.mask

    after_scoring_at_step_two(monkeypatch, spoil)
    with pytest.raises(InvariantError, match="Step 2: the mean KL to the reference is -.* which cannot be"):
        steps(state)


def test_a_policy_that_is_sure_of_itself_has_no_negative_kl():
    """k1 of a sure policy is mostly a little negative and rarely large: its spread in a batch says nothing of chance."""
    generator = torch.Generator().manual_seed(0)
    for own, reference in ((0.97, 0.99), (0.99, 0.997), (0.9, 0.95), (0.995, 0.9995)):
        k1 = torch.tensor([math.log(own / reference), math.log((1 - own) / (1 - reference))])
        for number in range(300):
            rare = torch.rand(64, generator=generator) > own  # sampled from the policy: nothing is wrong
            check_kl(k1[rare.long()], number)


def test_a_kl_that_chance_cannot_explain_is_a_fault_with_few_episodes_too():
    check_kl(torch.full((4,), -4.9), 1)
    with pytest.raises(InvariantError, match="KL is never negative"):
        check_kl(torch.full((4,), -5.1), 1)


def test_advantages_are_whitened_over_real_tokens_alone():
    """The path of the loop: rewards, advantages and their moments, on ragged episodes with poison in the padding."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([2, 9, 4, 1, 7, 3])
    mask = torch.arange(9) < lengths[:, None]
    here = SimpleNamespace(accelerator=SimpleNamespace(num_processes=1))

    def advantages(poison, **changes):
        grids = [torch.randn(6, 9, generator=generator.manual_seed(i)) * mask + poison * ~mask for i in range(3)]
        batch = Rollout(
            [None] * 6, [], [], [], torch.ones(6, dtype=torch.bool), mask, *grids, scores=3.0 * torch.arange(6.0)
        )
        reward_episodes(here, batch, KNOBS, replace(SETTINGS, **changes))
        return batch.advantages

    for changes in ({}, {"whiten_rewards": True}):
        white = advantages(0.0, **changes)
        assert white[mask].mean() == pytest.approx(0.0, abs=1e-5)
        assert white[mask].var(unbiased=False) == pytest.approx(1.0, abs=1e-3)
        assert torch.equal(advantages(1e4, **changes), white)


def test_whitened_rewards_keep_their_mean():
    mask = torch.ones(4, 5, dtype=torch.bool)
    here = SimpleNamespace(accelerator=SimpleNamespace(num_processes=1))
    grids = [torch.zeros(4, 5) for _ in range(3)]  # no KL and no values: the return of a first token is the sum of its rewards
    sums = []
    for white in (False, True):
        batch = Rollout([None] * 4, [], [], [], torch.ones(4, dtype=torch.bool), mask, *grids, scores=10 + torch.arange(4.0))
        reward_episodes(here, batch, replace(KNOBS, gae_lambda=1.0), replace(SETTINGS, whiten_rewards=white))
        sums.append(batch.returns[:, 0])
    assert torch.allclose(sums[1].mean(), sums[0].mean()) and not torch.allclose(*sums)


def test_a_trainer_between_two_micro_batches_does_not_keep_ppo_from_learning(state):
    """A reward model that collects gradients, then is stopped: accelerate's flag, one for the process, stays down."""
    from accelerate.state import GradientState

    before = [p.detach().clone() for p in state.plain_policy.parameters()]
    GradientState()._set_sync_gradients(False)
    try:
        next(loop(state, toy_prompts(50), even_share, constant(KNOBS), SETTINGS))
    finally:
        GradientState()._set_sync_gradients(True)
    after = list(state.plain_policy.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)


def test_the_sampled_ids_are_scored_and_trained_on_whatever_their_text_is(state, monkeypatch):
    """A tokenizer that loses everything in `decode` changes nothing: no id goes through text."""

    class Lossy(NumberTokenizer):
        def decode(self, ids, **_):
            return "3 3"

    drawn, rewarded = [], []
    sample = rollout.sample
    monkeypatch.setattr(rollout, "sample", lambda *a, **k: drawn.append(sample(*a, **k)) or drawn[-1])

    def reward(prompts, responses):
        rewarded.append([list(r) for r in responses])
        return even_share(prompts, responses)

    honest = toy_state(state.plain_policy.config._name_or_path, SETTINGS)
    state.tokenizer = Lossy()
    ours, theirs = steps(state, reward=reward), steps(honest)
    assert rewarded == [[s.ids for s in batch] for batch in drawn[:2]] and state.rollout.response_ids == rewarded[-1]
    assert all(a.metrics["value_loss"] == b.metrics["value_loss"] for a, b in zip(ours, theirs, strict=True))


def test_no_seed_comes_twice_among_episodes_iterations_and_processes(state, monkeypatch):
    seen = {}
    sample = rollout.sample

    def generated(number, rank, world):
        place = SimpleNamespace(
            process_index=rank, num_processes=world, unwrap_model=lambda m: m, device=torch.device("cpu")
        )
        monkeypatch.setattr(state, "accelerator", place)
        monkeypatch.setattr(
            rollout, "sample", lambda *a, **k: seen.update({(number, rank, world): k["seeds"]}) or sample(*a, **k)
        )
        batch = generate(state, toy_prompts(50), encoded(state.tokenizer, toy_prompts(50)), KNOBS, SETTINGS, number)
        return {(p.id, tuple(r)) for p, r in zip(batch.prompts, batch.response_ids, strict=True)}

    for number in (1, 2):
        whole, shares = generated(number, 0, 1), [generated(number, rank, 2) for rank in (0, 1)]
        assert shares[0] | shares[1] == whole and not shares[0] & shares[1]
    alone = [s for (_, _, world), seeds in seen.items() if world == 1 for s in seeds]
    shared = [s for (_, _, world), seeds in seen.items() if world == 2 for s in seeds]
    assert len(set(alone)) == 2 * SETTINGS.batch and sorted(alone) == sorted(shared)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_rollouts_are_drawn_from_the_policy_at_the_temperature_of_the_knob(state, temperature):
    """Under the policy's own distribution the mean surprise of a token is the entropy; greedy or cut sampling is below it."""
    with torch.no_grad():
        for model in (state.plain_policy, state.reference):
            model.lm_head.weight.mul_(4.0)  # tied with the embeddings; predictions far from flat
    settings = replace(SETTINGS, batch=512, minibatch=512, steps=1)
    entropy = steps(state, replace(KNOBS, temperature=temperature, policy_lr=1e-6), settings)[0].metrics["entropy"]
    batch = state.rollout
    assert len({tuple(r) for r in batch.response_ids}) > 100  # of 50 prompts
    rows = batch.prompt_ids, batch.response_ids
    surprise = -response_logprobs(state.plain_policy, *rows, temperature=temperature).mean().item()
    assert entropy > 0.5 and surprise == pytest.approx(entropy, rel=0.05)


def test_eight_pretraining_examples_per_episode_reach_the_policy(state, monkeypatch):
    rows = torch.randint(3, 40, (512, 32), generator=torch.Generator().manual_seed(0))
    reached = []
    backward = update.pretraining_backward

    def counted(state, packed, *rest):
        reached.extend(tuple(row.tolist()) for row in packed.ids.split(list(packed.layout.lengths)))
        return backward(state, packed, *rest)

    monkeypatch.setattr(update, "pretraining_backward", counted)
    next(
        islice(
            loop(
                state, toy_prompts(50), even_share, constant(replace(KNOBS, ptx_coef=1.0)), SETTINGS, pretraining=rows
            ),
            1,
        )
    )
    examples = sum(len(row) for row in reached) / SETTINGS.ptx_tokens
    assert examples == 8 * SETTINGS.batch and len(set(reached)) == len(reached)
