"""What several processes need, as far as one can show it: a device for each thread, one word for all, plain refusals."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType, PartialState

from labkit.errors import SettingsError
from labkit.ppo import PPOSettings, sharding
from labkit.ppo import state as state_module
from tests.toy import save_toy, toy_state

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
