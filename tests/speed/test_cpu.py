"""What only a CPU does equals what it does otherwise: products by oneDNN, attention over runs of rows of one length."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from labkit.models import layout as layout_module
from labkit.models import (
    load_policy,
    new_reward_model,
    packed_logits,
    products,
    response_logits,
    response_logprobs,
    response_values,
    score,
)
from labkit.models import packed as packed_module
from tests.toy import ARCHITECTURES, ROPE, SPECIALS, save_toy, toy_rows

ALL_HEADS = "llama, a key head for each query head"
RUNS = {"gpt2": True, "llama": False, "qwen2": False, ALL_HEADS: True}  # whether runs are read where they lie


@pytest.fixture(params=list(RUNS))
def folder(request, tmp_path, monkeypatch):
    config = LlamaConfig(**ROPE, num_key_value_heads=4, max_position_embeddings=64, **SPECIALS)
    monkeypatch.setitem(ARCHITECTURES, ALL_HEADS, lambda: LlamaForCausalLM(config))
    return save_toy(tmp_path / "init", request.param, spread=0.05)


@pytest.fixture
def gpt2(tmp_path):
    return save_toy(tmp_path / "init", spread=0.05)


def counted(monkeypatch, module, name):
    """How often a function is called from now on; it still does what it does."""
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: calls.append(name) or real(*args))
    return calls


@pytest.mark.parametrize("kept", [True, False], ids=["responses", "everything"])
def test_runs_of_rows_of_one_length_equal_grids_also_in_their_gradients(folder, monkeypatch, request, kept):
    rows = sorted(toy_rows(12, 6, 9) + toy_rows(1, 20, 20), key=len)
    keep = torch.cat([torch.arange(n - min(5, i), n) for i, n in enumerate(torch.tensor([len(r) for r in rows]).cumsum(0).tolist())])
    calls, results = counted(monkeypatch, packed_module, "by_runs"), []
    for alike in (0, float("inf")):
        monkeypatch.setattr(layout_module, "ALIKE", alike)
        model = load_policy(folder, device="cpu")
        calls.clear()
        logits = packed_logits(model, rows, keep=keep if kept else None)
        assert not calls
        with torch.no_grad():
            alone = packed_logits(model, rows, keep=keep if kept else None)
        by_runs = alike == 0 and RUNS[request.node.callspec.params["folder"]]
        assert len(calls) == (2 if by_runs else 0)  # one for each layer
        torch.testing.assert_close(alone, logits.detach(), atol=1e-6, rtol=1e-4)
        logits.square().mean().backward()
        results.append((logits.detach(), [p.grad for p in model.parameters()]))
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=1e-4)


def test_rows_of_many_lengths_or_out_of_order_and_many_threads_take_grids(monkeypatch):
    def runs(lengths):
        return layout_module.Layout.of(lengths, torch.device("cpu")).runs

    monkeypatch.setattr(layout_module, "ALIKE", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert runs([3, 3, 4, 4]) == ((2, 3, 0), (2, 4, 0)) and runs([5]) == ((1, 5, 0),)
    assert runs([3, 4, 3, 4]) is None and runs([3, 4, 5, 6]) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert runs([3, 3, 4, 4]) is None


def test_in_the_last_layer_attention_begins_at_the_first_place_that_is_wanted(monkeypatch):
    monkeypatch.setattr(layout_module, "ALIKE", 0)
    layout = layout_module.Layout.of([3, 3, 4, 4], torch.device("cpu"))
    places = {(1, 2, 5): (1, 3), (0, 13): (0, 3), (9, 11, 12): (2, 1)}  # a run with none is asked for its last place alone
    for keep, firsts in places.items():
        found = layout_module.Layout(layout.lengths, layout.device, torch.tensor(keep)).runs or ()
        assert tuple(first for *_, first in found) == firsts


def test_products_by_onednn_say_what_plain_ones_say(folder, monkeypatch):
    if not products._is_there():
        pytest.skip("oneDNN's products are for x86 processors with AVX2.")
    prompts, responses = toy_rows(9, 1, 30), toy_rows(9, 1, 12, seed=1)
    policy, reward = load_policy(folder, device="cpu"), new_reward_model(folder, seed=1, device="cpu")
    calls, said = counted(monkeypatch, torch.ops.mkldnn, "_linear_pointwise"), []
    for rows in (1, 10**9):
        monkeypatch.setattr(products, "ROWS", rows)
        calls.clear()
        said.append([f(m, prompts, responses) for f, m in ((response_logprobs, policy), (response_values, reward), (score, reward))])
        assert bool(calls) is (rows == 1)
    torch.testing.assert_close(said[0], said[1], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("where", ["with gradients", "in half precision"])
def test_passes_with_gradients_and_in_half_precision_multiply_as_before(gpt2, monkeypatch, where):
    monkeypatch.setattr(products, "ROWS", 1)
    half = where == "in half precision"
    policy, rows = load_policy(gpt2, device="cpu"), (toy_rows(4, 3, 9), toy_rows(4, 1, 5, seed=1))
    monkeypatch.setattr(products, "_is_there", lambda: True)
    calls = counted(monkeypatch, torch.ops.mkldnn, "_linear_pointwise")
    with torch.set_grad_enabled(not half), torch.autocast("cpu", dtype=torch.bfloat16) if half else nullcontext():
        assert response_logits(policy, *rows).requires_grad is not half
    assert len(calls) == (1 if half else 0)  # the head stays fp32


@pytest.mark.parametrize("op", ["is missing", "takes other arguments", "says something else"])
def test_a_pytorch_without_these_products_multiplies_as_before(gpt2, monkeypatch, op):
    """They are no public function: a later PyTorch may do without, or mean something else by them."""
    rows = toy_rows(4, 3, 9), toy_rows(4, 1, 5, seed=1)
    with torch.no_grad():
        before = response_logits(load_policy(gpt2, device="cpu"), *rows)  # few rows: they are multiplied plainly
    monkeypatch.setattr(products, "ROWS", 1)
    if op == "is missing":
        monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    else:
        other = (lambda x, weight: x) if op == "takes other arguments" else (lambda x, weight, bias, *_: x @ weight.t())
        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", other)
    products._is_there.cache_clear()
    try:
        with torch.no_grad():
            torch.testing.assert_close(response_logits(load_policy(gpt2, device="cpu"), *rows), before, atol=0, rtol=0)
        assert not products._is_there()
    finally:
        products._is_there.cache_clear()
