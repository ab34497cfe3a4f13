"""Padding is not read: what PPO asks of its models before the first step, on sound ones and on some broken on purpose."""

import re
import time
from types import MethodType

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from labkit.errors import InvariantError
from labkit.knobs import PPOKnobs, constant
from labkit.models import new_reward_model
from labkit.ppo import PPOSettings, from_model, loop, weighted
from labkit.ppo.padding import _chooses_experts, check_padding
from labkit.ppo.rollout import encoded
from labkit.reward import Ensemble
from tests.toy import NumberTokenizer, even_share, save_toy, toy_prompts, toy_state

SETTINGS = PPOSettings(steps=1, batch=8, minibatch=8, max_new_tokens=6, warmup=0, ptx_row=32)
ASKED = encoded(NumberTokenizer(), toy_prompts(20))


def broken(model, spoil):
    """The model, whose passes `spoil(arguments)` changes before it sees them."""
    sound = type(model).forward

    def forward(self, *args, **given):
        return sound(self, *args, **spoil(given))

    model.forward = MethodType(forward, model)
    return model


def mask_ignored(given):
    mask = given["attention_mask"]
    return given if mask.dim() == 4 else {**given, "attention_mask": torch.ones_like(mask)}


def padding_counted(given):  # transformers asks the forward function by name whether it takes positions
    return {k: v for k, v in given.items() if k != "position_ids" or given["attention_mask"].dim() == 4}


def rows_that_see_each_other(given):
    layout = given.get("layout")
    return given if layout is None else {**given, "layout": type(layout).of([sum(layout.lengths)], torch.device("cpu"))}


def spoilt(folder, place, spoil):
    """A state and a reward, of which the model at `place` is broken."""
    state = toy_state(folder, SETTINGS)
    judge = new_reward_model(folder, 1, device="cpu")
    broken({"policy": state.plain_policy, "value model": state.plain_value, "reward model": judge}[place], spoil)
    return state, from_model(judge)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_sound_models_pass_and_it_costs_milliseconds(tmp_path, architecture):
    folder = save_toy(tmp_path, architecture, spread=0.05)
    state, judge = toy_state(folder, SETTINGS), new_reward_model(folder, 1, device="cpu")
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        check_padding(state, ASKED, weighted([(1.0, from_model(judge)), (0.5, Ensemble([judge, even_share]))]))
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.5  # five models; on an idle machine about 30 ms


@pytest.mark.parametrize("place", ["policy", "value model", "reward model"])
@pytest.mark.parametrize(
    "architecture, spoil, how",
    [
        ("gpt2", mask_ignored, "padded on the left"),
        ("llama", mask_ignored, "padded on the left"),
        ("gpt2", padding_counted, "padded on the left"),  # rotary positions are relative: counting padding does no harm there
        ("gpt2", rows_that_see_each_other, "beside other texts"),
        ("llama", rows_that_see_each_other, "beside other texts"),
    ],
)
def test_a_model_that_reads_padding_ends_training_before_it_begins(tmp_path, place, architecture, spoil, how):
    state, reward = spoilt(save_toy(tmp_path, architecture, spread=0.05), place, spoil)
    before = [p.detach().clone() for p in state.plain_policy.parameters()]
    with pytest.raises(InvariantError, match=f"The {place} says .* of a text alone .* {re.escape(how)}, .* Usual causes: .* padding"):
        next(loop(state, toy_prompts(20), reward, constant(PPOKnobs(ptx_coef=0.0)), SETTINGS))
    assert all(torch.equal(a, b) for a, b in zip(before, state.plain_policy.parameters(), strict=True))


def test_a_score_read_at_the_last_place_is_caught_by_padding_on_the_right(tmp_path):
    folder = save_toy(tmp_path, spread=0.05)
    state, judge = toy_state(folder, SETTINGS), new_reward_model(folder, 1, device="cpu")
    sound = type(judge).forward

    def at_the_last_place(self, **given):
        out, mask = sound(self, **given), given["attention_mask"]
        if mask.dim() == 2:
            out.logits[0, mask[0].cumsum(0).argmax()] = out.logits[0, -1]
        return out

    judge.forward = MethodType(at_the_last_place, judge)
    with pytest.raises(InvariantError, match="The reward model says .* of the same text padded on the right, .* a score read at the last place"):
        check_padding(state, ASKED, from_model(judge))


@pytest.mark.parametrize("prompts", [[[5]], [[5], [6]], [[7, 8, 9]], [list(range(3, 40)) * 3]])
def test_whatever_the_prompts_the_texts_fit_the_context(tmp_path, prompts):
    state = toy_state(save_toy(tmp_path, spread=0.05), SETTINGS)
    check_padding(state, prompts, even_share)


def test_models_in_half_precision_pass_too(tmp_path):
    folder = save_toy(tmp_path, "llama", spread=0.05)
    state = toy_state(folder, SETTINGS)
    state.dtype = torch.bfloat16
    check_padding(state, ASKED, from_model(new_reward_model(folder, 1, device="cpu")))


def test_adapters_do_not_hide_what_the_policy_takes(tmp_path):
    folder = save_toy(tmp_path, spread=0.05)
    settings = SETTINGS.but(lora_rank=2)
    check_padding(toy_state(folder, settings), ASKED, from_model(new_reward_model(folder, 1, device="cpu")))


def test_weights_that_are_no_numbers_are_left_to_the_first_loss(tmp_path):
    state = toy_state(save_toy(tmp_path), SETTINGS)
    with torch.no_grad():
        next(state.plain_value.parameters()).fill_(float("nan"))
    check_padding(state, ASKED, even_share)


def test_experts_are_chosen_in_full_precision():
    """Rounded, two scores that are nearly equal may change places: another expert, and nobody's fault."""
    small = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    kinds = {"mixtral": {"num_local_experts": 2}, "llama": {}}
    models = {k: AutoModelForCausalLM.from_config(AutoConfig.for_model(k, **small, **more)) for k, more in kinds.items()}
    assert {k: _chooses_experts(model) for k, model in models.items()} == {"mixtral": True, "llama": False}
