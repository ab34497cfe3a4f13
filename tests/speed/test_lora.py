"""A policy with adapters: its reference is its own base, it learns, resumes exactly, and is a plain model in the end."""

import sys
from dataclasses import replace
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from labkit.errors import ModelError, RunError
from labkit.knobs import PPOKnobs, constant
from labkit.models import load_policy, response_logprobs, save_model
from labkit.models.adapters import with_adapters
from labkit.ppo import PPOSettings, loop
from labkit.ppo.rollout import encoded, generate, score_episodes
from tests.toy import ARCHITECTURES, even_share, save_toy, toy_prompts, toy_rows, toy_state

pytestmark = pytest.mark.slow

peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft")

SETTINGS = PPOSettings(steps=8, batch=32, minibatch=8, max_new_tokens=10, warmup=0, ptx_row=32, lora_rank=4)
KNOBS = PPOKnobs(policy_lr=1e-2, value_lr=3e-3, kl_coef=0.01)
PRETRAINING = torch.randint(3, 40, (64, 32), generator=torch.Generator().manual_seed(0))


class SavableTokenizer:
    """save_model wants a tokenizer; the toy's has no files."""

    def save_pretrained(self, folder):
        pass


@pytest.fixture
def folder(tmp_path):
    return save_toy(tmp_path / "init", spread=0.05)


def run(folder, settings=SETTINGS, knobs=KNOBS, steps=None, state=None, **options):
    state = state or toy_state(folder, settings)
    return state, list(islice(loop(state, toy_prompts(50), even_share, constant(knobs), settings, **options), steps))


def numbers(steps):
    return [{name: value for name, value in s.metrics.items() if not name.startswith("time_")} for s in steps]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_reference_is_the_base_whatever_the_adapters_have_learnt(tmp_path, architecture):
    folder = save_toy(tmp_path / "init", architecture, spread=0.05)
    state, steps = run(folder, steps=3)
    assert state.reference is None and steps[0].metrics["kl_k1"] == pytest.approx(0.0, abs=1e-4)
    assert steps[-1].metrics["kl_k1"] > 0.01, "the adapters have moved the policy"
    rollout = generate(state, toy_prompts(20), encoded(state.tokenizer, toy_prompts(20)), KNOBS, SETTINGS, 9)
    score_episodes(state, rollout, even_share, KNOBS, SETTINGS)
    apart = response_logprobs(load_policy(folder, device="cpu"), rollout.prompt_ids, rollout.response_ids)
    torch.testing.assert_close(rollout.ref_logprobs, rollout.grid(apart), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(rollout.logprobs, rollout.ref_logprobs, atol=1e-3)


def test_only_adapters_learn_and_are_averaged(folder):
    before = dict(load_policy(folder, device="cpu").named_parameters())
    state, _ = run(folder, steps=2)
    trained = sum(p.numel() for p in state.trained())
    assert len(state.ema) == len(state.trained()) and trained < 0.3 * sum(p.numel() for p in before.values())
    with state.as_reference() as base:
        frozen = {n.removeprefix("base_model.model.").replace(".base_layer", ""): p for n, p in base.named_parameters()}
    assert all(torch.equal(p, frozen[name]) for name, p in before.items())


def test_it_learns(folder):
    _, steps = run(folder, replace(SETTINGS, steps=25))
    assert steps[-1].metrics["score"] > steps[0].metrics["score"] + 0.25


@pytest.mark.parametrize("changes", [{"micro_tokens": 60, "score_tokens": 60}, {"gradient_checkpointing": True}], ids=str)
def test_memory_is_saved_as_without_adapters(folder, changes):
    ends = []
    for settings in (SETTINGS, replace(SETTINGS, **changes)):
        state, _ = run(folder, replace(settings, adam_eps=1e-3), replace(KNOBS, ptx_coef=0.5), 2, pretraining=PRETRAINING)
        ends.append(torch.cat([p.detach().flatten() for p in state.trained()]))
    torch.testing.assert_close(*ends, atol=2e-5, rtol=1e-3)


def test_a_resumed_run_equals_the_whole_one_and_its_snapshot_has_no_base(folder, tmp_path):
    _, whole = run(folder)
    state, first = run(folder, steps=3)
    snapshot = state.save(tmp_path / "snapshot")
    _, second = run(folder, state=toy_state(folder, SETTINGS).load(snapshot))
    assert numbers(whole) == numbers(first + second)
    assert all("lora_" in name for name in load_file(snapshot / "policy.safetensors"))
    with pytest.raises(RunError, match="belongs to another model"):
        toy_state(folder, replace(SETTINGS, lora_rank=0)).load(snapshot)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_result_is_a_plain_model_and_an_adapter(tmp_path, architecture):
    folder = save_toy(tmp_path / "init", architecture, spread=0.05)
    state, _ = run(folder, replace(SETTINGS, ema_decay=0.5), steps=3)
    save_model(state.averaged_policy(), SavableTokenizer(), tmp_path / "model")
    state.save_adapters(tmp_path / "adapters")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert type(plain).__name__ == type(load_policy(folder, device="cpu")).__name__
    beside = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapters").eval()
    rows = torch.tensor(toy_rows(3, 12, 12))
    with torch.no_grad():
        torch.testing.assert_close(plain(rows).logits, beside(rows).logits, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(plain(rows).logits, AutoModelForCausalLM.from_pretrained(folder)(rows).logits, atol=1e-3)
    assert state.trained(), "the policy itself still has its adapters"


def test_adapters_come_from_the_seed_and_move_no_other_randomness(folder):
    drawn = []
    for seed in (0, 0, 1):
        policy = load_policy(folder, device="cpu")
        torch.manual_seed(7)
        policy = with_adapters(policy, rank=4, alpha=16, targets="c_attn, c_fc", seed=seed)
        drawn.append([p for n, p in policy.named_parameters() if "lora_A" in n])
        after = torch.rand(3)
        torch.manual_seed(7)
        assert torch.equal(after, torch.rand(3))
    assert len(drawn[0]) == 4 and all(map(torch.equal, drawn[0], drawn[1])) and not any(map(torch.equal, drawn[0], drawn[2]))


def test_errors_teach(folder, monkeypatch):
    with pytest.raises(ModelError, match="lora_targets is 'q_proj', .*choose among .*c_attn.*, or all-linear"):
        toy_state(folder, replace(SETTINGS, lora_targets="q_proj"))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match="lora_rank is 4, but adapters need .*pip install peft, or set lora_rank to 0"):
        toy_state(folder, SETTINGS)
