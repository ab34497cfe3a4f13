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
from labkit.ppo.measure import exact_kl
from labkit.ppo.minibatches import Minibatch, minibatches
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


def test_another_seed_draws_other_prompts_and_other_answers(state):
    prompts = toy_prompts(50)
    asked = encoded(state.tokenizer, prompts)
    one, other = (generate(state, prompts, asked, KNOBS, replace(SETTINGS, seed=seed), 1) for seed in (0, 1))
    assert not set(one.seeds) & set(other.seeds) and [p.id for p in one.prompts] != [p.id for p in other.prompts]


def scored(state, settings=SETTINGS):
    """A batch that is ready to be learnt from."""
    batch = generate(state, toy_prompts(50), encoded(state.tokenizer, toy_prompts(50)), KNOBS, settings, 1)
    rollout.score_episodes(state, batch, even_share, KNOBS, settings)
    reward_episodes(state, batch, KNOBS, settings)
    return batch


def test_where_whitening_is_off_an_advantage_is_the_return_less_the_value(state):
    batch = scored(state, replace(SETTINGS, whiten_advantages=False))
    assert torch.allclose(batch.advantages, batch.returns - batch.values, atol=1e-6) and batch.advantages[batch.mask].mean().abs() > 1e-3


def test_exact_kl_from_a_reference_that_knows_nothing_is_what_the_policy_knows(state):
    """KL(π ‖ uniform) is log V less the entropy of π: more for a sharper policy, and log V a token at most."""
    batch = scored(state)
    with torch.no_grad():
        state.plain_policy.lm_head.weight.mul_(4.0)  # tied with the embeddings
        state.reference.lm_head.weight.zero_()
    kl = [exact_kl(state, batch, temperature) for temperature in (1.0, 0.5)]
    assert 0 < kl[0] < kl[1] < math.log(40) * batch.mask.sum(1).float().mean()


def test_no_metric_looks_at_padding(state, monkeypatch):
    measured, pairs = loop_module.metrics_of, []

    def twice(state, batch, *rest):
        grids = ("logprobs", "ref_logprobs", "values", "kl", "advantages", "returns")
        poisoned = replace(batch, **{name: getattr(batch, name) + 10.0**i * ~batch.mask for i, name in enumerate(grids)})
        pairs.append([measured(state, b, *rest) for b in (batch, poisoned)])
        return pairs[-1][0]

    monkeypatch.setattr(loop_module, "metrics_of", twice)
    next(loop(state, toy_prompts(50), even_share, constant(KNOBS), SETTINGS))
    assert not state.rollout.mask.all() and pairs[0][0] == pairs[0][1]


@pytest.mark.parametrize("micro_tokens", [8192, 30])
def test_every_episode_is_learnt_from_once_in_a_pass(state, micro_tokens):
    batch = scored(state)
    made = list(minibatches(state, batch, replace(SETTINGS, micro_tokens=micro_tokens)))
    learnt = [token for m in made for part in m.parts for token in part.targets.tolist()]
    assert sorted(learnt) == sorted(token for ids in batch.response_ids for token in ids)
    assert len(made) == SETTINGS.batch // SETTINGS.minibatch and sum(m.tokens for m in made) == len(learnt)


def test_an_episode_that_comes_twice_changes_no_gradient(state):
    """Both losses are means over tokens, whatever the number of episodes."""
    batch, found = scored(state), []
    for rows in ([0, 1, 2, 3], [0, 1, 2, 3] * 2):
        update.ppo_gradients(state, Minibatch.of(state, batch, rows, SETTINGS), KNOBS, update.Tally(), first=None)
        found.append([torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (state.policy, state.value)])
        for optimizer in (state.policy_optimizer, state.value_optimizer):
            optimizer.zero_grad()
    for once, twice in zip(*found, strict=True):
        assert once.norm() > 1e-3 and torch.allclose(once, twice, atol=1e-5)


def test_the_pretraining_gradient_is_gamma_times_that_of_the_mean_loss_of_a_token(state):
    rows = torch.randint(3, 40, (3, 32), generator=torch.Generator().manual_seed(0))
    told = update.ptx_gradients(state, rows, replace(KNOBS, ptx_coef=5.0), SETTINGS)
    found = torch.cat([p.grad.flatten() for p in state.plain_policy.parameters()])
    state.policy_optimizer.zero_grad()
    logits = state.plain_policy(input_ids=rows).logits[:, :-1]
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
    mean.backward()
    due = torch.cat([p.grad.flatten() for p in state.plain_policy.parameters()])
    assert told == pytest.approx(mean.item(), rel=1e-5) and torch.allclose(found, 5.0 * due, atol=1e-5)


@pytest.mark.parametrize("times", [-2.0, 3.0])
def test_the_two_gradients_are_told_apart_with_their_norms_and_their_angle(state, times):
    for p in state.trained():
        p.grad = torch.ones_like(p)
    norm = sum(p.numel() for p in state.trained()) ** 0.5
    watch = loop_module.GradientWatch()
    watch.before_ptx(state)
    torch._foreach_add_([p.grad for p in state.trained()], times)  # the second pass adds to the first
    watch.after_ptx(state)
    watch.stepped(1.0, 1.0, replace(KNOBS, ptx_coef=1.0))
    found = watch.summary()
    assert found["grad_norm_ppo"] == pytest.approx(norm) and found["grad_norm_ptx"] == pytest.approx(abs(times) * norm)
    assert found["grad_cosine"] == pytest.approx(math.copysign(1.0, times))


@pytest.mark.parametrize("moved", [-0.1, 0.1])
def test_the_approximate_kl_of_an_update_is_small_and_positive_whichever_way_it_went(state, moved):
    batch, tally = scored(state), update.Tally()
    batch.logprobs = batch.logprobs + moved * batch.mask
    update.ppo_gradients(state, Minibatch.of(state, batch, [0, 1, 2, 3], SETTINGS), KNOBS, tally, first=None)
    assert tally.sums()["approx_kl"] / tally.tokens == pytest.approx(moved**2 / 2, rel=0.05)


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
