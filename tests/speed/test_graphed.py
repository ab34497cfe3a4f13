"""Backward passes as CUDA graphs replay them (padded, in tensors that stay) do what plain ones do; on a CPU nothing is recorded."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from labkit.knobs import PPOKnobs, constant
from labkit.models.graphs import rounded
from labkit.ppo import PPOSettings, graphed, loop
from labkit.ppo.graphed import GradientGraphs
from tests.toy import ARCHITECTURES, even_share, save_toy, toy_prompts, toy_state

SETTINGS = PPOSettings(steps=6, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32, adam_eps=1e-3)
KNOBS = PPOKnobs(policy_lr=1e-3, value_lr=1e-3, ptx_coef=0.5)
PRETRAINING = torch.randint(3, 40, (64, 32), generator=torch.Generator().manual_seed(0))


def run(folder, settings, graphs: bool, knobs=KNOBS, pretraining=PRETRAINING, steps=4):
    state = toy_state(folder, settings)
    if graphs:
        trained = [p for m in (state.policy, state.value) for p in m.parameters() if p.requires_grad]
        state.graphs = GradientGraphs(trained, torch.device("cpu"))
    schedule = knobs if callable(knobs) else constant(knobs)
    done = list(islice(loop(state, toy_prompts(40), even_share, schedule, settings, pretraining=pretraining), steps))
    return state, [{k: v for k, v in s.metrics.items() if not k.startswith("time")} for s in done]


def close(first, second):
    (state, metrics), (other, expected) = first, second
    for a, b in zip(metrics, expected, strict=True):
        assert a == pytest.approx(b, abs=2e-4, rel=2e-3)
    for model in ("policy", "value"):
        pairs = zip(getattr(state, model).named_parameters(), getattr(other, model).parameters(), strict=True)
        for (name, a), b in pairs:
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("architecture", [a if a == "qwen2" else pytest.param(a, marks=pytest.mark.slow) for a in sorted(ARCHITECTURES)])
def test_padded_passes_in_tensors_that_stay_train_alike(tmp_path, monkeypatch, as_on_a_gpu, architecture):
    folder = save_toy(tmp_path / "init", architecture, spread=0.05)
    monkeypatch.setattr(graphed, "WARM", 0)
    replays = []
    again = graphed._Slot.again
    monkeypatch.setattr(graphed._Slot, "again", lambda *a: replays.append(1) or again(*a))
    close(run(folder, SETTINGS, True), run(folder, SETTINGS, False))
    assert len(replays) == 2 * 2 * 4 - 1, "all but the very first: two minibatches of PPO and of pretraining, four iterations"


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [{"micro_tokens": 40}, {"lora_rank": 2}, {"inner_epochs": 2}, {"max_grad_norm": 0.05}],
    ids=lambda c: next(iter(c)),
)
def test_whatever_else_training_does(tmp_path, monkeypatch, as_on_a_gpu, changed):
    folder = save_toy(tmp_path / "init", "llama", spread=0.05)
    monkeypatch.setattr(graphed, "WARM", 0)
    settings = replace(SETTINGS, **changed)
    close(run(folder, settings, True), run(folder, settings, False))


@pytest.mark.slow
def test_knobs_that_move_are_not_frozen_into_what_is_replayed(tmp_path, monkeypatch, as_on_a_gpu):
    folder = save_toy(tmp_path / "init", spread=0.05)
    monkeypatch.setattr(graphed, "WARM", 0)

    def moving(step):
        return replace(KNOBS, clip=0.02 * step, value_clip=0.1 * step, temperature=1.0 + 0.1 * step, ptx_coef=float(step))

    close(run(folder, SETTINGS, True, moving), run(folder, SETTINGS, False, moving))
    without = replace(KNOBS, ptx_coef=0.0)
    close(run(folder, SETTINGS, True, without, None), run(folder, SETTINGS, False, without, None))


@pytest.mark.slow
def test_of_many_sizes_those_that_came_last_are_kept(tmp_path, monkeypatch, as_on_a_gpu):
    folder = save_toy(tmp_path / "init", spread=0.05)
    monkeypatch.setattr(graphed, "MOST", 1)
    first = run(folder, SETTINGS, True)
    close(first, run(folder, SETTINGS, False))
    assert len(first[0].graphs._slots) == 1


@pytest.mark.slow
def test_what_cannot_be_recorded_runs_as_it_is_and_nobody_tries_again(tmp_path, monkeypatch, as_on_a_gpu):
    folder, tried = save_toy(tmp_path / "init", spread=0.05), []
    monkeypatch.setattr(graphed, "recorded", lambda work, device: tried.append(work))
    refused = run(folder, SETTINGS, True)
    close(refused, run(folder, SETTINGS, False))
    assert len(tried) == 1 and refused[0].graphs.refused and not refused[0].graphs._slots


def test_gradients_come_home_whoever_made_or_forgot_them():
    weight = torch.nn.Parameter(torch.ones(3))
    graphs = GradientGraphs([weight], torch.device("cpu"))

    def add(given):
        (weight * given["x"]).sum().backward()
        return {"sum": given["x"].sum()}

    for _ in range(4):
        graphs.run("add", add, {"x": torch.ones(3)})
    home = weight.grad
    assert torch.equal(home, torch.full((3,), 4.0)), "gradients add up"
    weight.grad = None
    assert graphs.run("add", add, {"x": torch.full((3,), 2.0)})["sum"] == 6.0
    assert weight.grad is home and torch.equal(home, torch.full((3,), 2.0)), "forgotten ones begin at zero"
    weight.grad = torch.full((3,), 7.0)
    graphs.run("add", add, {"x": torch.ones(3)})
    assert weight.grad is home and torch.equal(home, torch.full((3,), 8.0)), "another's are taken over"


def test_a_recorded_size_with_some_room_will_do_until_ones_own_has_come_often():
    graphs = GradientGraphs([torch.nn.Parameter(torch.ones(1))], torch.device("cpu"))
    own, wider, widest = (100, 50), (120, 60), (130, 60)
    assert graphs.size_for(*own) == own, "nothing is recorded yet"
    for size in (widest, wider, (135, 50), (120, 40), (90, 90)):
        graphs._slots[(graphed.EPISODES, *size), ("ids", torch.Size([size[0]]))] = None
    found = [graphs.size_for(*own) for _ in range(graphed.OFTEN + 1)]
    assert found == [wider] * (graphed.OFTEN - 1) + [own] * 2
    graphs._slots[(graphed.EPISODES, 70, 70), ()] = None
    assert graphs.size_for(70, 70) == (70, 70)


def test_few_sizes_come_up_and_none_is_a_quarter_too_large():
    assert all(n <= rounded(n) <= 1.25 * n for n in range(1, 5000))
    assert len({rounded(n) for n in range(1024, 2049)}) == 5
