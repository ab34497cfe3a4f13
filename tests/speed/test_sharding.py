"""What several processes need, as far as one can show it: a device for each thread, one word for all, plain refusals."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType, PartialState

from labkit.errors import SettingsError
from labkit.knobs import PPOKnobs
from labkit.ppo import PPOSettings, passes, sharding, update
from labkit.ppo import state as state_module
from tests.toy import save_toy, toy_rows, toy_state

SETTINGS = PPOSettings(steps=2, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32)


def test_the_thread_of_a_job_works_on_the_gpu_of_its_process(monkeypatch):
    """torch's own set_device runs, and refuses what it refuses; only the driver below it is not there."""
    chosen = []
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    for name in ("cuda:3", "cpu", "mps"):
        sharding.use_device(SimpleNamespace(device=torch.device(name)))
    assert chosen == [3]


def test_one_process_without_a_launcher_stays_on_the_current_gpu(monkeypatch):
    """There accelerate names no index, and torch takes no device without one."""
    chosen = []
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device = PartialState.default_device.fget(SimpleNamespace())
    with pytest.raises(ValueError, match="specified index"):
        torch.cuda.set_device(device)
    sharding.use_device(SimpleNamespace(device=device))
    assert device == torch.device("cuda") and chosen == []


def test_one_process_asks_nobody():
    knobs = object()
    assert sharding.agreed(SimpleNamespace(num_processes=1), knobs) is knobs


def test_fsdp_of_version_1_is_refused(monkeypatch):
    old = SimpleNamespace(distributed_type=DistributedType.FSDP, is_fsdp2=False)
    monkeypatch.setattr(sharding, "Accelerator", lambda cpu: old)
    with pytest.raises(SettingsError, match="launch with --fsdp_version 2"):
        sharding.accelerator_on(torch.device("cpu"))


def test_adapters_are_not_sharded(tmp_path, monkeypatch):
    pytest.importorskip("peft", reason="peft is not installed: pip install peft")
    monkeypatch.setattr(state_module, "is_sharded", lambda model: True)
    with pytest.raises(SettingsError, match="Adapters cannot be sharded; set lora_rank to 0"):
        toy_state(save_toy(tmp_path / "init"), replace(SETTINGS, lora_rank=2))


def as_process(state, index, count):
    """The state as process `index` of `count` has it, but for the sums over processes."""
    state.accelerator = SimpleNamespace(
        process_index=index,
        num_processes=count,
        device=torch.device("cpu"),
        reduce=lambda tensor, how: tensor,
        backward=lambda loss: loss.backward(),
        no_sync=lambda model: nullcontext(),
        unwrap_model=lambda model, **options: model,
    )
    return state


@pytest.mark.parametrize(("rows", "processes", "at_once"), [(5, 2, 2), (7, 3, 2), (3, 2, 1), (8, 4, 1), (16, 5, 3)])
def test_every_process_passes_its_pretraining_rows_in_as_many_parts(tmp_path, monkeypatch, rows, processes, at_once):
    """Where weights are sharded each pass waits for all processes: one part more on one of them, and all wait for ever."""
    state, parts = toy_state(save_toy(tmp_path / "init"), SETTINGS), []
    packed = passes.packed_logits
    monkeypatch.setattr(passes, "packed_logits", lambda model, rows, **kw: parts.append(len(rows.layout.lengths)) or packed(model, rows, **kw))
    given = torch.tensor(toy_rows(rows, 12, 12))
    counts, losses, gradients = [], [], []
    for index, count in [(0, 1), *((i, processes) for i in range(processes))]:
        parts.clear()
        settings = replace(SETTINGS, micro_tokens=12 * at_once)
        losses.append(update.ptx_gradients(as_process(state, index, count), given, PPOKnobs(ptx_coef=2.0), settings))
        gradients.append(torch.cat([g.flatten() for g in update.policy_gradient(state)]))
        counts.append(len(parts))
        state.plain_policy.zero_grad()
        assert sum(parts) == len(given[index::count])
    assert len(set(counts[1:])) == 1
    assert sum(losses[1:]) == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(sum(gradients[1:]) / processes, gradients[0], atol=1e-6, rtol=1e-4)
