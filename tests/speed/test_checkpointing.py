"""Gradient checkpointing runs layers twice and keeps less, and changes nothing else: in PPO-ptx, SFT and reward training."""

from dataclasses import replace

import pytest
import torch

from labkit import reward, sft
from labkit.errors import ModelError
from labkit.knobs import PPOKnobs, RewardKnobs, SFTKnobs, constant
from labkit.models import load_policy, packed_logits, response_logits
from labkit.models.checkpointing import checkpoint_layers
from labkit.ppo import PPOSettings, loop
from labkit.reward import RewardSettings
from labkit.sft import SFTSettings
from tests.stages.animals import demonstrations, rankings, save_base
from tests.toy import ARCHITECTURES, even_share, save_toy, toy_prompts, toy_rows, toy_state

pytestmark = pytest.mark.slow

SETTINGS = PPOSettings(steps=2, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32, gradient_checkpointing=True)
KNOBS = PPOKnobs(policy_lr=1e-3, value_lr=1e-3, ptx_coef=0.5)
PRETRAINING = torch.randint(3, 40, (64, 32), generator=torch.Generator().manual_seed(0))


def count_trained_passes(model):
    """A list that grows with every pass of the first layer's attention under which gradients are on."""
    seen = []
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    attention = next(child for name, child in layers[0].named_children() if "attn" in name)
    attention.register_forward_hook(lambda *_: seen.append(1) if torch.is_grad_enabled() else None)
    return seen


def close(first, second):
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_ppo_ptx_ends_with_the_same_weights_and_runs_layers_twice(tmp_path, architecture):
    folder = save_toy(tmp_path / "init", architecture, spread=0.05)  # GPT-2's with dropout, which must go on sleeping
    ends, passes = [], []
    for settings in (SETTINGS, replace(SETTINGS, gradient_checkpointing=False)):
        settings = replace(settings, adam_eps=1e-3)  # Adam would blow rounding of tiny gradients up to whole steps
        state = toy_state(folder, settings)
        passes.append([count_trained_passes(m) for m in (state.policy, state.value)])
        list(loop(state, toy_prompts(20), even_share, constant(KNOBS), settings, pretraining=PRETRAINING))
        ends.append(state)
    close(ends[0].policy, ends[1].policy)
    close(ends[0].value, ends[1].value)
    assert [len(p) for p in passes[0]] == [2 * len(p) for p in passes[1]] and all(passes[1])
    assert not any(m.training for m in ends[0].policy.modules())


def test_what_waits_for_the_backward_pass_is_less(tmp_path):
    """All but the last layer, whose turn in the backward pass comes first."""
    folder, kept = save_toy(tmp_path / "init", "llama", spread=0.05), []
    for wanted in (True, False):
        model, sizes = load_policy(folder, device="cpu"), []
        if wanted:
            checkpoint_layers(model)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            response_logits(model, toy_rows(8, 20, 30), toy_rows(8, 1, 2))
        kept.append(sum(sizes))
    assert 0 < kept[0] < 0.6 * kept[1]


def test_sampling_and_scoring_do_not_notice(tmp_path):
    folder = save_toy(tmp_path / "init", spread=0.05)
    model, plain = checkpoint_layers(load_policy(folder, device="cpu")), load_policy(folder, device="cpu")
    with torch.no_grad():
        seen = count_trained_passes(model)
        assert torch.equal(packed_logits(model, toy_rows(5, 2, 20)), packed_logits(plain, toy_rows(5, 2, 20)))
    assert not seen


def train_sft(base, **settings):
    state = sft.start(base, device="cpu")
    seen = count_trained_passes(state.model)
    quick = SFTSettings(epochs=2, batch_size=8, lr=1e-3, dropout=0.2, adam_eps=1e-3, choose_by="last").but(**settings)
    list(sft.loop(state, demonstrations(), constant(SFTKnobs()), quick))
    return state, len(seen)


def train_reward(base, **settings):
    state = reward.start(base, device="cpu")
    seen = count_trained_passes(state.model)
    quick = RewardSettings(epochs=1, batch_size=10, lr=1e-3, adam_eps=1e-3).but(**settings)
    list(reward.loop(state, rankings(20), constant(RewardKnobs()), quick))
    return state, len(seen)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("train", [train_sft, train_reward])
def test_sft_and_reward_training_end_with_the_same_weights(tmp_path, train, architecture):
    """Also under residual dropout: what a layer drops is the same the second time, and the same as without checkpoints."""
    base = save_base(tmp_path / "base", architecture)
    (ours, twice), (plain, once) = (train(base, gradient_checkpointing=wanted) for wanted in (True, False))
    close(ours.model, plain.model)
    assert twice == 2 * once > 0
    assert not any(getattr(m, "gradient_checkpointing", False) for m in ours.model.modules()), "left on after training"


def test_a_model_that_cannot_is_named():
    with pytest.raises(ModelError, match="Nothing has no layers .* set gradient_checkpointing to False"):
        checkpoint_layers(type("Nothing", (torch.nn.Module,), {"activation_checkpointing_enable": lambda *_: None})())
