"""Steps recorded once for many calls of the sampler: what changes between two calls is seen, what is left over is not.

On a CPU nothing is recorded; the same steps run on the same tensors that stay.
"""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from labkit.knobs import PPOKnobs, constant
from labkit.models import load_policy
from labkit.ppo import PPOSettings, loop
from labkit.sampling import engine, replayed, sample, steps
from tests.toy import ARCHITECTURES, END, even_share, save_toy, toy_prompts, toy_rows, toy_state

pytestmark = pytest.mark.slow


@pytest.fixture(params=sorted(ARCHITECTURES))
def folder(request, tmp_path):
    return save_toy(tmp_path / "m", request.param, spread=0.15)


@pytest.fixture
def model(folder):
    return load_policy(folder, device="cpu")


@pytest.fixture(autouse=True)
def _seldom(monkeypatch):
    monkeypatch.setattr(steps, "ASK_EVERY", {"cpu": 3})


def draw(model, prompts, graphs, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "graphs_pay", lambda device: graphs)
        return sample(model, prompts, **{"max_new_tokens": 24, "eos_id": END, "seeds": list(range(len(prompts))), **options})


def same(model, prompts, **options):
    """Whether recorded steps say what plain ones say; returns what they say."""
    ours, plain = draw(model, prompts, True, **options), draw(model, prompts, False, **options)
    assert [(s.ids, s.finished) for s in ours] == [(s.ids, s.finished) for s in plain]
    recorded = [torch.tensor([x for s in drawn for x in s.logprobs]) for drawn in (ours, plain)]
    torch.testing.assert_close(*recorded, atol=1e-4, rtol=1e-4)
    return [s.ids for s in ours]


def benches(model):
    return list(replayed._BENCHES.of.get(model, []))


def test_the_next_call_finds_the_steps_recorded_and_gives_the_same(model):
    """Other prompts, fewer of them, repeated ones; rows leave, more of them than at the first time."""
    for seed, count in enumerate((40, 40, 35, 38)):
        same(model, toy_rows(count // 2, 2, 12, seed=seed) * 2)
    (bench,) = benches(model)
    assert bench.calls == 4 and len(bench.steps) > 2 and all(rows <= 48 for rows in bench.steps)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
def test_what_an_optimiser_did_meanwhile_is_seen(model, half):
    """Also by the halves of matrices that autocast works with."""
    prompts, answers = toy_rows(20, 1, 12), []
    for step in range(3):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.05 * step * torch.randn_like(p))
        with torch.autocast("cpu", dtype=torch.bfloat16) if half else nullcontext():
            ours, plain = draw(model, prompts, True), draw(model, prompts, False)
        assert sum(a.ids == b.ids for a, b in zip(ours, plain, strict=True)) >= (18 if half else 20)
        answers.append([s.ids for s in ours])
    assert len(benches(model)) == 1 and answers[0] != answers[1] != answers[2]


def test_matrices_have_halves_and_the_head_has_none(model):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        draw(model, toy_rows(20, 1, 12), True)
    replica = benches(model)[0].replica.module
    kinds = {name: {p.dtype for p in m.parameters(recurse=False)} for name, m in replica.named_modules() if hasattr(m, "weight")}
    assert kinds.pop("lm_head") == {torch.float32}
    matrices = {n: kinds[n] for n, m in replica.named_modules() if n in kinds and isinstance(m, (torch.nn.Linear, Conv1D))}
    assert len(matrices) >= 8 and set(map(frozenset, matrices.values())) == {frozenset([torch.bfloat16])}
    assert all(kinds[n] == {torch.float32} for n in kinds if n not in matrices)


def test_weights_that_lie_elsewhere_are_found(model):
    prompts = toy_rows(20, 1, 12)
    before = same(model, prompts)
    (old,) = benches(model)
    for p in model.parameters():
        p.data = p.data + 0.1 * torch.randn_like(p)
    assert same(model, prompts) != before
    assert old not in benches(model) and len(benches(model)) == 1


def test_what_a_diverged_model_left_behind_spoils_nothing(model):
    prompts, weights = toy_rows(20, 2, 12), [p.detach().clone() for p in model.parameters()]
    sound = same(model, prompts)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(float("nan"))
        draw(model, prompts, True)
        for p, weight in zip(model.parameters(), weights, strict=True):
            p.copy_(weight)
    assert same(model, prompts) == sound and benches(model)[0].calls == 3


def test_what_is_asked_otherwise_is_recorded_anew(model):
    prompts = toy_rows(20, 2, 12)
    for options in ({}, {"temperature": 0.5}, {"temperature": 0.0}, {"max_new_tokens": 9}, {"stop": [[7]]}, {"eos_id": 5}):
        same(model, prompts, **options)
    assert len(benches(model)) == 6
    for temperature in (0.7, 1.3):
        same(model, prompts, temperature=temperature)
    assert len(benches(model)) == 6 and sum(b.heat == replayed.ANY and b.calls == 3 for b in benches(model)) == 1
    same(model, toy_rows(3, 2, 12))
    same(model, [[3] * 36, *toy_rows(19, 2, 12)])
    assert len(benches(model)) == 8, "far fewer prompts, and far longer ones, have tensors of their own"
    same(model, prompts, max_new_tokens=5)
    assert len(benches(model)) == replayed.KEEP == 8 and benches(model)[0].calls == 1 and benches(model)[-1].max_new_tokens == 5


def test_no_more_memory_is_kept_than_allowed(model, monkeypatch):
    for count in (40, 20, 10):
        same(model, toy_rows(count, 2, 12))
    sizes = [b.cache.bytes for b in benches(model)]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 3
    monkeypatch.setattr(replayed, "KEEP_BYTES", sizes[1] + sizes[2])
    same(model, toy_rows(10, 2, 12))
    assert [b.cache.bytes for b in benches(model)] == sizes[1:], "the one used longest ago has gone"
    same(model, toy_rows(40, 2, 12))
    assert [b.cache.bytes for b in benches(model)] == sizes[1:], "one that is too large goes alone"


def test_nothing_keeps_a_model_alive(folder):
    model = load_policy(folder, device="cpu")
    draw(model, toy_rows(5, 2, 12), True)
    there = weakref.ref(model)
    assert benches(model)
    del model
    gc.collect()
    assert there() is None


def test_each_thread_has_its_own(model):
    prompts, found = toy_rows(20, 2, 12), []
    mine = same(model, prompts)

    def elsewhere():
        found.extend([same(model, prompts), benches(model)])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[0] == mine and found[1][0] is not benches(model)[0]


def test_what_cannot_be_recorded_is_sampled_all_the_same_and_nobody_tries_again(model, monkeypatch):
    tried = []
    monkeypatch.setattr(replayed, "recorded", lambda work, device: tried.append(1))
    for _ in range(2):
        same(model, toy_rows(20, 2, 12))
    assert len(tried) == 1 and not benches(model)


def test_where_a_further_size_cannot_be_recorded_nothing_is_kept(model, monkeypatch):
    prompts = toy_rows(40, 2, 12)
    same(model, prompts)
    assert benches(model)
    monkeypatch.setattr(replayed, "recorded", lambda work, device: None)
    same(model, toy_rows(5, 2, 12))
    assert not benches(model) and model in replayed._REFUSED
    same(model, prompts)


def test_hooks_and_buffers_that_change_between_two_calls_count(model):
    """Who steers a policy by a hook must see it, and see it gone."""
    prompts = toy_rows(20, 2, 12)
    before = same(model, prompts)
    block = model.get_submodule("transformer.h.0.mlp" if hasattr(model, "transformer") else "model.layers.0.mlp")
    hook = block.register_forward_hook(lambda module, inputs, output: output * 3.0 + 0.5)
    assert same(model, prompts) != before
    hook.remove()
    assert same(model, prompts) == before
    if model.config.model_type != "gpt2":
        model.model.rotary_emb.inv_freq.mul_(0.3)
        assert same(model, prompts) != before


def test_inference_mode_of_one_call_is_not_that_of_the_next(model):
    prompts = toy_rows(20, 2, 12)
    with torch.inference_mode():
        inside = same(model, prompts)
    assert same(model, prompts) == inside
    with torch.inference_mode():
        assert same(model, prompts) == inside


def test_no_more_rows_than_were_allowed(model):
    assert [replayed.rows_at_most(n) for n in (1, 2, 3, 5, 7, 255, 257, 512)] == [1, 2, 3, 4, 6, 192, 256, 512]
    same(model, toy_rows(20, 2, 12), max_rows=5)
    assert {len(b.whole["ids"]) for b in benches(model)} == {4}


def test_a_model_whose_layers_are_in_a_backward_pass_is_copied_without_it(model):
    prompts = toy_rows(20, 2, 12)
    expected = same(model, prompts)
    replayed._BENCHES.of.pop(model)
    model.gradient_checkpointing_enable()
    layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    for layer in layers:
        layer.training = True
    ours = [s.ids for s in draw(model, prompts, True)]
    for layer in layers:
        layer.training = False
    assert layers and ours == expected


def test_adapters_that_are_switched_off_are_off(folder):
    state = toy_state(folder, PPOSettings(lora_rank=2))
    with torch.no_grad():
        for p in state.trained():
            p.add_(0.3 * torch.randn_like(p))
    prompts = toy_rows(20, 2, 12)
    adapted = same(state.plain_policy, prompts)
    with state.as_reference() as reference:
        assert same(reference, prompts) != adapted
    assert same(state.plain_policy, prompts) == adapted and not benches(state.plain_policy)


def test_ppo_trains_alike(folder, monkeypatch):
    """Many iterations on one bench: each samples from the policy as it is then."""
    settings = PPOSettings(steps=5, batch=16, minibatch=8, max_new_tokens=12, warmup=0)
    knobs = constant(replace(PPOKnobs(policy_lr=3e-3, value_lr=1e-3), ptx_coef=0.0))
    lines = []
    for graphs in (True, False):
        monkeypatch.setattr(engine, "graphs_pay", lambda device, graphs=graphs: graphs)
        state = toy_state(folder, settings)
        lines.append([s.metrics["score"] for s in loop(state, toy_prompts(40), even_share, knobs, settings)])
        assert bool(benches(state.plain_policy)) == graphs
    assert lines[0] == pytest.approx(lines[1], abs=1e-4) and len(set(lines[0])) > 2
