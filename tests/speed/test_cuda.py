"""On a GPU: kernels that only CUDA has give the numbers of the plain path. Skipped where there is none."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from labkit.knobs import PPOKnobs, constant
from labkit.models import completion_scores, load_policy, new_reward_model, packed, response_logits, shared
from labkit.ppo import PPOSettings, State, from_model, loop
from labkit.ppo.minibatches import Minibatch
from labkit.ppo.rollout import encoded, generate, reward_episodes, score_episodes
from labkit.ppo.update import Tally, ppo_gradients, ptx_gradients
from labkit.sampling import engine, replayed, sample
from tests.toy import ARCHITECTURES, END, NumberTokenizer, save_toy, toy_prompts, toy_rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(autouse=True)
def _on_the_gpu(monkeypatch):
    monkeypatch.setenv("LABKIT_DEVICE", "cuda")


CLOSE = {torch.float32: {"atol": 5e-4, "rtol": 1e-3}, torch.bfloat16: {"atol": 0.06, "rtol": 0.05}}
SETTINGS = PPOSettings(steps=4, batch=16, minibatch=8, max_new_tokens=24, warmup=0, ptx_row=32)
KNOBS = PPOKnobs(policy_lr=1e-3, value_lr=1e-3, ptx_coef=0.5)
PRETRAINING = torch.randint(3, 40, (64, 32), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=sorted(ARCHITECTURES))
def folder(request, tmp_path):
    return save_toy(tmp_path / "init", request.param, spread=0.05)


def precision(dtype):
    return torch.autocast("cuda", dtype=dtype) if dtype == torch.bfloat16 else nullcontext()


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval().to("cuda")


def alone(model, prompt, response):
    """One row through the library's own eager attention: the logits of its response tokens."""
    row = torch.tensor([[*prompt, *response]], device="cuda")
    return model(row).logits[0, len(prompt) - 1 : -1].float()


@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_packed_rows_and_their_gradients_equal_rows_run_alone(folder, dtype):
    fast, slow = load_policy(folder, device="cuda"), plain(folder)
    prompts, responses = toy_rows(9, 1, 30), toy_rows(9, 1, 12, seed=1)
    with precision(dtype):
        ours = response_logits(fast, prompts, responses)
        theirs = torch.cat([alone(slow, p, r) for p, r in zip(prompts, responses, strict=True)])
    torch.testing.assert_close(ours, theirs, **CLOSE[dtype])
    targets = torch.tensor([t for r in responses for t in r], device="cuda")
    for logits in (ours, theirs):
        F.cross_entropy(logits, targets).backward()
    for (name, p), (_, q) in zip(fast.named_parameters(), slow.named_parameters(), strict=True):
        assert F.cosine_similarity(p.grad.flatten(), q.grad.flatten(), dim=0) > 0.98, name


def test_half_precision_needs_no_grids(folder, monkeypatch):
    """Neither grids nor their padding: flash attention reads the rows as they lie."""
    monkeypatch.setattr(packed.Layout, "places", property(lambda self: pytest.fail("a grid was laid out")))
    with precision(torch.bfloat16):
        response_logits(load_policy(folder, device="cuda"), toy_rows(5, 1, 9), toy_rows(5, 1, 9, seed=1))


@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_a_prompt_that_responses_share_is_as_good_as_one_for_each(folder, monkeypatch, dtype):
    """Scores and gradients of the reward model; in half precision without grids, whose shapes never come again."""
    if dtype == torch.bfloat16:
        monkeypatch.setattr(shared.PrefixLayout, "spread", lambda *_: pytest.fail("a grid was laid out"))
    prompts, responses = toy_rows(6, 1, 20), [toy_rows(2 + i, 1, 12, seed=i) for i in range(6)]
    pairs, outcomes = [(p, r) for p, rs in zip(prompts, responses, strict=True) for r in rs], []
    for asked in (((prompts, responses),), [([p], [[r]]) for p, r in pairs]):
        model = new_reward_model(folder, 0)
        with precision(dtype):
            scores = torch.cat([completion_scores(model, *some) for some in asked])
        scores.float().sin().sum().backward()
        outcomes.append([scores.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0], **CLOSE[dtype])
    for ours, theirs in zip(*outcomes, strict=True):
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.98 or theirs.norm() < 1e-4


@pytest.mark.parametrize("graphs", [False, True], ids=["steps", "graphs"])
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_sampled_log_probabilities_are_those_of_plain_scoring(folder, monkeypatch, dtype, graphs):
    """Early and missing stops, ragged and repeated prompts, rows that leave; recording must not fail with a warning."""
    monkeypatch.setattr(engine, "graphs_pay", lambda device: graphs)
    monkeypatch.setenv("LABKIT_DTYPE", str(dtype).removeprefix("torch."))
    model, slow = load_policy(folder, device="cuda"), plain(folder)
    prompts = [*toy_rows(7, 1, 20), *toy_rows(1, 4, 4) * 3]
    with precision(dtype), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = sample(model, prompts, max_new_tokens=24, eos_id=END, seeds=list(range(10)))
        for p, s in zip(prompts, drawn, strict=True):
            logprobs = alone(slow, p, s.ids).log_softmax(-1)
            theirs = logprobs.gather(1, torch.tensor(s.ids, device="cuda")[:, None])[:, 0].cpu()
            torch.testing.assert_close(torch.tensor(s.logprobs), theirs, **CLOSE[dtype])
    assert {s.finished for s in drawn} == {True, False} and all(END not in s.ids[:-1] for s in drawn)


@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_a_step_that_was_recorded_before_an_optimiser_step_samples_from_the_weights_after_it(folder, monkeypatch, dtype):
    """Calls of different sizes in turns, and rows that leave."""
    monkeypatch.setenv("LABKIT_DTYPE", str(dtype).removeprefix("torch."))
    model, slow = load_policy(folder, device="cuda"), plain(folder)
    for call in range(5):
        with torch.no_grad():
            for p, q in zip(model.parameters(), slow.parameters(), strict=True):
                p.add_(0.02 * call * torch.randn_like(p))
                q.copy_(p)
        prompts = toy_rows(48 - 8 * (call % 2), 1, 20, seed=call)
        with precision(dtype), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = sample(model, prompts, max_new_tokens=24, eos_id=END, seeds=list(range(len(prompts))))
            for p, s in zip(prompts, drawn, strict=True):
                theirs = alone(slow, p, s.ids).log_softmax(-1).gather(1, torch.tensor(s.ids, device="cuda")[:, None])[:, 0]
                torch.testing.assert_close(torch.tensor(s.logprobs), theirs.cpu(), **CLOSE[dtype])
    (bench,) = replayed._BENCHES.of[model]
    assert bench.calls == 5 and bench.steps and not bench.refused


@pytest.mark.parametrize("graphs", ["0", "1"], ids=["steps", "graphs"])
@pytest.mark.parametrize("dtype", list(CLOSE), ids=str)
def test_ppo_ptx_keeps_its_promises_and_goes_on_from_a_snapshot(folder, tmp_path, monkeypatch, dtype, graphs):
    """Ratio 1 at every first minibatch and KL 0 at the start are checked by the loop itself."""
    monkeypatch.setenv("LABKIT_CUDA_GRAPHS", graphs)
    monkeypatch.setenv("LABKIT_DTYPE", str(dtype).removeprefix("torch."))

    def run(state, steps):
        rows = loop(state, toy_prompts(20), from_model(reward), constant(KNOBS), SETTINGS, pretraining=PRETRAINING)
        return [next(rows).metrics for _ in range(steps)]

    reward = new_reward_model(folder, 1)
    states = [State(load_policy(folder), new_reward_model(folder, 0), NumberTokenizer(), SETTINGS) for _ in range(2)]
    assert states[0].accelerator.device.type == "cuda" and states[0].dtype == dtype
    assert (states[0].graphs is not None) == (graphs == "1" and dtype == torch.bfloat16)
    first = run(states[0], 2)
    states[0].save(tmp_path / "snapshot")
    went_on = run(states[1].load(tmp_path / "snapshot"), 1)[0]
    expected = run(states[0], 1)[0]
    assert all(torch.tensor(list(m.values())).isfinite().all() for m in (*first, went_on))
    assert went_on["score"] == pytest.approx(expected["score"], abs=0.2 if dtype == torch.bfloat16 else 0.02)


def test_replayed_gradients_are_those_of_kernel_by_kernel(folder):
    """Recording must not fail with a warning; what is replayed is another minibatch than what was recorded."""
    state = State(load_policy(folder), new_reward_model(folder, 0), NumberTokenizer(), SETTINGS)
    prompts = toy_prompts(40)
    rollout = generate(state, prompts, encoded(state.tokenizer, prompts), KNOBS, SETTINGS, 1)
    score_episodes(state, rollout, from_model(new_reward_model(folder, 1)), KNOBS, SETTINGS)
    reward_episodes(state, rollout, KNOBS, SETTINGS)
    models = state.policy, state.value
    graphs, found = state.graphs, []
    for state.graphs in (None, graphs):
        for start in (0, 4, 8, 4, 0, 8, 0):
            for model in models:
                model.zero_grad(set_to_none=True)
            tally = Tally()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                minibatch = Minibatch.of(state, rollout, list(range(start, start + 4)), SETTINGS)
                ppo_gradients(state, minibatch, KNOBS, tally, first=1)
                loss = ptx_gradients(state, PRETRAINING[start : start + 4], KNOBS, SETTINGS)
            found.append((tally.sums() | {"ptx": loss}, [p.grad.clone() for m in models for p in m.parameters()]))
    plain, replayed = found[: len(found) // 2], found[len(found) // 2 :]
    assert not graphs.refused and len(graphs._slots) >= 2, "PPO's and pretraining's"
    for (sums, gradients), (expected, others) in zip(replayed, plain, strict=True):
        assert sums == pytest.approx(expected, rel=0.05, abs=0.05)
        for a, b in zip(gradients, others, strict=True):
            assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.98 or b.norm() < 1e-4
