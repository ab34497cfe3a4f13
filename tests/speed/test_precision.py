"""bf16 passes over fp32 masters, and micro-batches: each equals the plain path, in PPO-ptx, SFT and reward training."""

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from labkit import reward, sft
from labkit.knobs import PPOKnobs, RewardKnobs, SFTKnobs, constant
from labkit.ppo import PPOSettings, loop
from labkit.ppo.minibatches import Minibatch
from labkit.ppo.rollout import encoded, generate, reward_episodes, score_episodes
from labkit.ppo.update import Tally, ppo_gradients, ptx_gradients
from labkit.reward import RewardSettings
from labkit.sft import SFTSettings
from tests.stages.animals import demonstrations, rankings, save_base
from tests.toy import even_share, save_toy, toy_prompts, toy_state

pytestmark = pytest.mark.slow

SETTINGS = PPOSettings(steps=3, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32)
KNOBS = PPOKnobs(policy_lr=1e-3, value_lr=1e-3, ptx_coef=0.5)
PRETRAINING = torch.randint(3, 40, (64, 32), generator=torch.Generator().manual_seed(0))
HALF = (torch.device("cpu"), torch.bfloat16)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train_ppo(folder, settings=SETTINGS, knobs=KNOBS, dtype=torch.float32):
    state = toy_state(folder, settings)
    state.dtype = dtype
    list(loop(state, toy_prompts(20), even_share, constant(knobs), settings, pretraining=PRETRAINING))
    return [state.policy, state.value]


def train_sft(base, **settings):
    state = sft.start(base, device="cpu")
    quick = SFTSettings(epochs=2, batch_size=8, lr=1e-3, dropout=0.0, adam_eps=1e-3, choose_by="last").but(**settings)
    list(sft.loop(state, demonstrations(), constant(SFTKnobs()), quick))
    return [state.model]


def train_reward(base, **settings):
    state = reward.start(base, device="cpu")
    quick = RewardSettings(epochs=2, batch_size=12, lr=1e-3, adam_eps=1e-3).but(**settings)
    list(reward.loop(state, rankings(40), constant(RewardKnobs()), quick))  # 40 is no multiple of 12: a short last batch
    return [state.model]


def ppo_step_gradients(folder, rollout, dtype):
    """Gradients of the first minibatch of PPO and of PPO-ptx, policy and value model, in passes of this dtype."""
    state = toy_state(folder, SETTINGS)
    state.dtype = dtype
    ppo_gradients(state, Minibatch.of(state, rollout, list(range(8)), SETTINGS), KNOBS, Tally(), first=None)
    both = [torch.cat([p.grad.flatten().clone() for p in m.parameters()]) for m in (state.policy, state.value)]
    ptx_gradients(state, PRETRAINING[:8], KNOBS, SETTINGS)
    assert {p.grad.dtype for m in (state.policy, state.value) for p in m.parameters()} == {torch.float32}
    return [*both, torch.cat([p.grad.flatten() for p in state.policy.parameters()])]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_in_bf16_ppo_walks_in_the_same_direction(tmp_path, architecture):
    folder = save_toy(tmp_path / "init", architecture, spread=0.05)
    state = toy_state(folder, SETTINGS)
    rollout = generate(state, toy_prompts(20), encoded(state.tokenizer, toy_prompts(20)), KNOBS, SETTINGS, 1)
    score_episodes(state, rollout, even_share, KNOBS, SETTINGS)
    reward_episodes(state, rollout, KNOBS, SETTINGS)
    for full, half in zip(*(ppo_step_gradients(folder, rollout, d) for d in (torch.float32, torch.bfloat16)), strict=True):
        assert F.cosine_similarity(full, half, dim=0) > 0.995
        assert half.norm().item() == pytest.approx(full.norm().item(), rel=0.02) and not torch.equal(full, half)


def check_small_steps(old, new):
    """Nearly all weights have moved, and of those away from 0 nearly none so far that bf16 would notice."""
    coarse = old.abs() > 0.01
    assert new.dtype == torch.float32 and (new != old)[coarse].float().mean() > 0.9
    assert (new.bfloat16() != old.bfloat16())[coarse].float().mean() < 0.1


def test_steps_too_small_for_bf16_are_not_lost_in_ppo(tmp_path):
    """A step of 1e-6 on a weight of 0.1 is below bf16's resolution by far; the fp32 master keeps every one."""
    folder = save_toy(tmp_path / "init", spread=0.05)
    small = replace(KNOBS, policy_lr=1e-6, value_lr=1e-6)
    before = [flat(m) for m in (toy_state(folder, SETTINGS).policy, toy_state(folder, SETTINGS).value)]
    for old, model in zip(before, train_ppo(folder, knobs=small, dtype=torch.bfloat16), strict=True):
        check_small_steps(old, flat(model))


@pytest.mark.parametrize(("stage", "train"), [("sft", train_sft), ("reward", train_reward)])
def test_bf16_passes_train_as_fp32_passes_do(tmp_path, monkeypatch, stage, train):
    base = save_base(tmp_path / "base", "llama")
    start = {"sft": sft, "reward": reward}[stage].start
    before = flat(start(base, device="cpu").model)
    (full,) = train(base)
    monkeypatch.setattr(sys.modules[f"labkit.{stage}.loop"], "choose_device", lambda: HALF)
    (half,) = train(base)
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    steps = flat(full) - before, flat(half) - before
    assert F.cosine_similarity(*steps, dim=0) > 0.98 and not torch.equal(*steps)


@pytest.mark.parametrize("stage", ["sft", "reward"])
def test_steps_too_small_for_bf16_are_not_lost_in_sft_and_reward_training(tmp_path, monkeypatch, stage):
    base, train = save_base(tmp_path / "base", "llama"), {"sft": train_sft, "reward": train_reward}[stage]
    old = flat({"sft": sft, "reward": reward}[stage].start(base, device="cpu").model)
    monkeypatch.setattr(sys.modules[f"labkit.{stage}.loop"], "choose_device", lambda: HALF)
    (model,) = train(base, lr=1e-6, adam_eps=1e-8)
    check_small_steps(old, flat(model))


def test_micro_batches_end_with_the_same_weights_in_ppo(tmp_path):
    folder, settings = save_toy(tmp_path / "init", spread=0.05), replace(SETTINGS, adam_eps=1e-3)
    whole, parts = (train_ppo(folder, s) for s in (settings, replace(settings, micro_tokens=40, score_tokens=40)))
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(flat(a), flat(b), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("train", [train_sft, train_reward])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_micro_batches_end_with_the_same_weights_in_sft_and_reward_training(tmp_path, train, architecture):
    base = save_base(tmp_path / "base", architecture)
    (whole,), (parts,) = train(base), train(base, micro_batch=2)
    torch.testing.assert_close(flat(whole), flat(parts), atol=1e-5, rtol=1e-4)


def test_a_trainers_precision_does_not_outlive_it(tmp_path, monkeypatch):
    """Accelerate's state is one per process: after SFT in bf16, PPO in fp32 is in fp32."""
    folder, base = save_toy(tmp_path / "init", spread=0.05), save_base(tmp_path / "base", "llama")
    before = train_ppo(folder)
    monkeypatch.setattr(sys.modules["labkit.sft.loop"], "choose_device", lambda: HALF)
    train_sft(base, epochs=1)
    for a, b in zip(before, train_ppo(folder), strict=True):
        assert torch.equal(flat(a), flat(b))
