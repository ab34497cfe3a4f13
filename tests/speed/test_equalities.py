"""The fast paths equal slow, plain ones: packed attention, narrowed last layer, sampling, bf16, adapters given from outside."""

import copy
import pickle
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from labkit.errors import InvariantError, ModelError
from labkit.knobs import PPOKnobs, constant
from labkit.models import (
    choose_device,
    completion_scores,
    fused,
    load_policy,
    new_reward_model,
    packed_logits,
    response_logits,
    response_logprobs,
    response_values,
)
from labkit.models import packed as packed_module
from labkit.models.layout import Layout
from labkit.models.loading import scalar_head
from labkit.ppo import PPOSettings, State, loop
from labkit.ppo.checks import check_first_minibatch
from labkit.sampling import engine, sample
from tests.toy import ARCHITECTURES, END, NumberTokenizer, even_share, save_toy, toy_prompts, toy_rows, toy_state

CLOSE = {torch.float32: {"atol": 2e-5, "rtol": 1e-4}, torch.bfloat16: {"atol": 0.06, "rtol": 0.05}}
SETTINGS = PPOSettings(steps=2, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32)
KNOBS = PPOKnobs(policy_lr=1e-3, value_lr=1e-3)


@pytest.fixture(params=sorted(ARCHITECTURES))
def folder(request, tmp_path):
    return save_toy(tmp_path / "init", request.param, spread=0.05)


@pytest.fixture
def gpt2(tmp_path):
    return save_toy(tmp_path / "init", spread=0.05)


def precision(dtype):
    return torch.autocast("cpu", dtype=dtype) if dtype == torch.bfloat16 else nullcontext()


def plain_logits(model, row):
    """One row, alone, through the library's own eager attention and full head: (L, V)."""
    return model(torch.tensor([row])).logits[0]


@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_response_logits_and_their_gradients_equal_rows_run_alone(folder, dtype):
    fast, slow = (
        load_policy(folder, device="cpu"),
        AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval(),
    )
    prompts, responses = toy_rows(9, 1, 30), toy_rows(9, 1, 12, seed=1)
    with precision(dtype):
        ours = response_logits(fast, prompts, responses)
        alone = [plain_logits(slow, [*p, *r])[len(p) - 1 : -1].float() for p, r in zip(prompts, responses, strict=True)]
    theirs = torch.cat(alone)
    torch.testing.assert_close(ours, theirs, **CLOSE[dtype])
    targets = torch.tensor([t for r in responses for t in r])
    for logits in (ours, theirs):
        F.cross_entropy(logits, targets).backward()
    for (name, p), (_, q) in zip(fast.named_parameters(), slow.named_parameters(), strict=True):
        if dtype == torch.float32:
            torch.testing.assert_close(p.grad, q.grad, atol=2e-5, rtol=1e-3, msg=name)
        else:
            assert F.cosine_similarity(p.grad.flatten(), q.grad.flatten(), dim=0) > 0.98, name


def test_the_narrowed_last_layer_changes_no_output_and_no_gradient(folder, monkeypatch):
    prompts, responses = toy_rows(6, 4, 20), toy_rows(6, 1, 9, seed=1)
    results = []
    for narrowed in (True, False):
        if not narrowed:
            monkeypatch.setattr(packed_module, "only_needed", lambda model, keep: nullcontext())
        model = load_policy(folder, device="cpu")
        logits = response_logits(model, prompts, responses)
        logits.square().mean().backward()
        results.append((logits.detach(), [p.grad for p in model.parameters()]))
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_the_narrowed_block_runs_on_response_positions_alone(gpt2):
    model = load_policy(gpt2, device="cpu")
    widths = []
    for layer in model.transformer.h:
        layer.mlp.c_fc.register_forward_hook(lambda module, inputs, output: widths.append(inputs[0].shape[1]))
    logits = response_logits(model, [[3] * 20, [4] * 10], [[5, 6], [7, 8, END]])
    assert widths == [35, len(logits)] == [35, 5]


@pytest.mark.parametrize("lengths", [[5, 5, 5], [1, 30, 2, 29, 7], [40], [3, 4]])
def test_a_layout_brings_every_token_to_a_place_of_its_own_and_back(lengths):
    layout = Layout.of(lengths, torch.device("cpu"))
    packed = torch.randn(1, 2, sum(lengths), 4)
    grids = layout.spread(packed)
    torch.testing.assert_close(layout.gather(grids), packed.transpose(1, 2), atol=0, rtol=0)
    assert sum(g.shape[0] for g in grids) == len(lengths) and layout.longest == max(lengths)
    assert sum(g.shape[0] * g.shape[2] for g in grids) <= 1.25 * sum(lengths) + 4 * len(lengths)


def test_the_fused_activation_is_the_same_function(gpt2):
    model, rows = AutoModelForCausalLM.from_pretrained(gpt2).eval(), torch.tensor([[3, 4, 5, 6]])
    before = model(rows).logits
    assert isinstance(fused(model).transformer.h[0].mlp.act, torch.nn.GELU)
    torch.testing.assert_close(model(rows).logits, before, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_sampled_log_probabilities_are_those_of_plain_scoring(folder, monkeypatch, dtype, graphs):
    """Early and missing stops, ragged and repeated prompts; the cache of CUDA graphs as well."""
    monkeypatch.setattr(engine, "graphs_pay", lambda device: graphs)
    model = load_policy(folder, device="cpu")
    slow = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    prompts = [*toy_rows(7, 1, 20), *toy_rows(1, 4, 4) * 3]
    with precision(dtype), torch.no_grad():
        drawn = sample(model, prompts, max_new_tokens=24, eos_id=END, seeds=list(range(10)))
        for p, s in zip(prompts, drawn, strict=True):
            logprobs = plain_logits(slow, [*p, *s.ids])[len(p) - 1 : -1].float().log_softmax(-1)
            theirs = logprobs.gather(1, torch.tensor(s.ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(s.logprobs), theirs, **CLOSE[dtype])
    assert {s.finished for s in drawn} == {True, False} and all(END not in s.ids[:-1] for s in drawn)


def test_bf16_steps_fp32_masters(gpt2):
    runs = {}
    for dtype in CLOSE:
        state = toy_state(gpt2, SETTINGS)
        state.dtype = dtype
        runs[dtype] = list(loop(state, toy_prompts(20), even_share, constant(KNOBS), SETTINGS))
        moments = [v for s in state.policy_optimizer.state_dict()["state"].values() for v in s.values()]
        assert {t.dtype for t in [*state.plain_policy.parameters(), *state.ema, *moments]} == {torch.float32}
    full, half = (runs[d][0].metrics for d in CLOSE)
    assert half["value_loss"] == pytest.approx(full["value_loss"], rel=0.3)
    assert half["entropy"] == pytest.approx(full["entropy"], rel=0.02)
    assert half["ratio_mean"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("make", [load_policy, lambda f, device: new_reward_model(f, 0, device=device)])
def test_autocast_does_not_round_what_a_head_says(folder, make):
    """The head's input may be bf16; its output is the fp32 product, and so are the logits far from 0."""
    model, seen = make(folder, device="cpu"), []
    head = model.get_output_embeddings() or scalar_head(model)
    with torch.no_grad():
        head.weight.mul_(300.0)
    head.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    with precision(torch.bfloat16), torch.no_grad():
        packed_logits(model, toy_rows(4, 5, 20))
    hidden, logits = seen[0]
    assert logits.dtype == torch.float32 and logits.abs().max() > 30
    torch.testing.assert_close(logits, F.linear(hidden.float(), head.weight, head.bias))
    assert (logits.bfloat16() != logits).float().mean() > 0.9


def test_bf16_with_logits_far_apart_is_not_taken_for_a_fault(tmp_path):
    """The kernels of a whole batch and of a minibatch may round differently."""
    folder = save_toy(tmp_path / "init", "llama", spread=0.05)
    state = toy_state(folder, SETTINGS)
    with torch.no_grad():
        for model in (state.plain_policy, state.reference):
            model.lm_head.weight.mul_(200.0)
    state.dtype = torch.bfloat16
    still = constant(replace(KNOBS, policy_lr=1e-9))
    steps = list(loop(state, toy_prompts(20), even_share, still, SETTINGS))
    assert steps[0].metrics["ratio_mean"] == pytest.approx(1.0, abs=0.02)
    check_first_minibatch(0.2, 60.0, 1, torch.bfloat16)
    for gap, dtype in ((0.3, torch.bfloat16), (0.2, torch.float32)):
        with pytest.raises(InvariantError, match="leaves 1"):
            check_first_minibatch(gap, 60.0, 1, dtype)


def test_the_dtype_of_forward_passes_can_be_chosen(monkeypatch):
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    assert choose_device() == (torch.device("cpu"), torch.float32)
    monkeypatch.setenv("LABKIT_DTYPE", "bfloat16")
    assert choose_device() == (torch.device("cpu"), torch.bfloat16)
    monkeypatch.setenv("LABKIT_DTYPE", "float8")
    with pytest.raises(ModelError, match="LABKIT_DTYPE is 'float8'; it must be float32 or bfloat16"):
        choose_device()


def lora_state(folder, settings):
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft")
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn"], task_type="CAUSAL_LM", fan_in_fan_out=True)
    policy = peft.get_peft_model(load_policy(folder, device="cpu"), config)
    return State(policy, new_reward_model(folder, 0, device="cpu"), NumberTokenizer(), settings)


def test_an_adapter_policy_has_its_base_as_reference_and_one_copy_of_the_weights(gpt2, tmp_path):
    state = lora_state(gpt2, SETTINGS)
    assert state.reference is None and len(state.ema) == len(state.trained()) == 4  # A and B of two layers
    base = {n: p.clone() for n, p in state.plain_policy.named_parameters() if not p.requires_grad}
    steps = list(loop(state, toy_prompts(20), even_share, constant(KNOBS), SETTINGS))
    assert steps[0].metrics["kl_k1"] == pytest.approx(0.0, abs=1e-4) and steps[1].metrics["kl_k1"] != 0.0
    assert all(torch.equal(p, base[n]) for n, p in state.plain_policy.named_parameters() if n in base)
    with state.as_reference() as reference, torch.no_grad():
        torch.testing.assert_close(
            packed_logits(reference, [[3, 4, 5]]), packed_logits(load_policy(gpt2, device="cpu"), [[3, 4, 5]])
        )
    again = lora_state(gpt2, SETTINGS).load(state.save(tmp_path / "snapshot"))
    more = replace(SETTINGS, steps=3)
    first, second = (next(loop(s, toy_prompts(20), even_share, constant(KNOBS), more)) for s in (state, again))
    assert first.metrics["score"] == second.metrics["score"]


def test_values_of_long_batches_do_not_depend_on_how_they_are_cut(gpt2):
    model, prompts, responses = (
        new_reward_model(gpt2, 0, device="cpu"),
        toy_rows(12, 2, 30),
        toy_rows(12, 1, 12, seed=3),
    )
    whole = response_values(model, prompts, responses, max_tokens=10_000)
    torch.testing.assert_close(response_values(model, prompts, responses, max_tokens=40), whole, atol=1e-5, rtol=1e-4)


def test_micro_batches_change_memory_alone(gpt2):
    first, second = (
        list(islice(loop(toy_state(gpt2, s), toy_prompts(20), even_share, constant(KNOBS), s), 2))
        for s in (SETTINGS, replace(SETTINGS, micro_tokens=20, score_tokens=30))
    )
    for a, b in zip(first, second, strict=True):
        for name in ("score", "kl_k1", "value_loss", "grad_norm_ppo"):
            assert b.metrics[name] == pytest.approx(a.metrics[name], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("flash", [False, True], ids=["grids", "rows as they lie"])
def test_a_prompt_that_responses_share_is_as_good_as_one_for_each(folder, request, flash):
    """Scores and gradients; on a GPU flash attention reads the rows as they lie."""
    if flash:
        request.getfixturevalue("as_on_a_gpu")
    prompts, responses = toy_rows(6, 1, 20), [toy_rows(2 + i, 1, 12, seed=i) for i in range(6)]
    outcomes = []
    for apart in (False, True):
        model = new_reward_model(folder, 0, device="cpu")
        if apart:
            pairs = [(p, r) for p, rs in zip(prompts, responses, strict=True) for r in rs]
            scores = torch.cat([completion_scores(model, [p], [[r]]) for p, r in pairs])
        else:
            scores = completion_scores(model, prompts, responses)
        scores.float().sin().sum().backward()
        outcomes.append([scores.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_only_plain_norms_are_put_into_one_kernel(folder):
    """Norms of the same form are; one that adds 1 to its weight, or reads a gate, computes something else."""
    class PlusOneRMSNorm(LlamaRMSNorm):
        def forward(self, x):
            return super().forward(x) + torch.nn.functional.rms_norm(x, self.weight.shape, None, self.variance_epsilon)

    class GatedRMSNorm(LlamaRMSNorm):
        def forward(self, x, gate):
            return super().forward(x) * gate

    model = load_policy(folder, device="cpu")
    model.plus_one, model.gated = PlusOneRMSNorm(8), GatedRMSNorm(8)
    fused(model)
    assert type(model.plus_one) is PlusOneRMSNorm and type(model.gated) is GatedRMSNorm
    norms = [m for m in model.modules() if type(m).__name__ in ("LlamaRMSNorm", "Qwen2RMSNorm")]
    kinds = {type(m) for m in norms}
    assert len(norms) == (0 if model.config.model_type == "gpt2" else 5)
    assert all(kind.__mro__[1].__name__ == "_OneKernelNorm" for kind in kinds)
    assert {type(m) for m in fused(model).modules() if "RMSNorm" in type(m).__name__} >= kinds, "once is enough"


def test_a_model_with_norms_in_one_kernel_is_pickled_and_copied(folder):
    model = load_policy(folder, device="cpu")
    rows = [[3, 4, 5, 6], [7, 8]]
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        torch.testing.assert_close(packed_logits(again, rows), packed_logits(model, rows), atol=0, rtol=0)
        assert [type(m) for m in again.modules()] == [type(m) for m in model.modules()]


def test_results_come_row_by_row_whatever_the_order_of_passes(folder):
    model = load_policy(folder, device="cpu")
    prompts, responses = toy_rows(30, 1, 20), toy_rows(30, 1, 12, seed=1)
    alone = torch.cat([response_logprobs(model, [p], [r]) for p, r in zip(prompts, responses, strict=True)])
    for most in (1, 40, 200, 10_000):
        torch.testing.assert_close(response_logprobs(model, prompts, responses, max_tokens=most), alone, atol=1e-5, rtol=1e-4)
