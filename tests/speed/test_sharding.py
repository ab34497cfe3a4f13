"""What several processes need, as far as one can show it: a device for each thread, one word for all, plain refusals."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType

from labkit.errors import SettingsError
from labkit.ppo import PPOSettings, sharding
from labkit.ppo import state as state_module
from tests.toy import save_toy, toy_state

SETTINGS = PPOSettings(steps=2, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32)


def test_the_thread_of_a_job_works_on_the_gpu_of_its_process(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("cuda:3", "cpu", "mps"):
        sharding.use_device(SimpleNamespace(device=torch.device(name)))
    assert chosen == [torch.device("cuda:3")]


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
