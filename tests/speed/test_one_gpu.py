"""A machine with several GPUs trains as one with a single one does: nothing is wrapped, no batch is multiplied.

torch counts two GPUs here, so the real Trainer takes its real path for several; the wrapper runs on the CPU as well.
"""

from importlib import import_module

import pytest
import torch
from transformers import TrainingArguments

from labkit import reward, sft
from labkit.baselines.settings import OfflineSettings, OnlineSettings
from labkit.knobs import RewardKnobs, SFTKnobs, constant
from labkit.stepwise import quiet_arguments
from tests.stages.animals import COLOURS, demonstrations, numbers, rankings, save_base, tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture
def base(tmp_path):
    return save_base(tmp_path / "base")


def not_cpu(*args, **kwargs):
    return {**quiet_arguments(*args, **kwargs), "use_cpu": False}


def train_sft(base):
    settings = sft.SFTSettings(epochs=1, batch_size=8, dropout=0.0)
    return list(sft.loop(sft.start(base, device="cpu"), demonstrations(24), constant(SFTKnobs()), settings))


def train_reward(base):
    settings = reward.RewardSettings(epochs=1, batch_size=10)
    return list(reward.loop(reward.start(base, device="cpu"), rankings(30), constant(RewardKnobs()), settings))


@pytest.mark.parametrize(("stage", "train"), [("sft", train_sft), ("reward", train_reward)])
def test_a_stage_trains_on_one_of_several_gpus(base, monkeypatch, tmp_path, stage, train):
    expected = train(base)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(import_module(f"labkit.{stage}.trainer"), "quiet_arguments", not_cpu)
    assert TrainingArguments(output_dir=str(tmp_path)).n_gpu == 2  # without the lab's word the Trainer would wrap
    assert numbers(train(base)) == numbers(expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "grpo"])
def test_the_other_methods_are_made_on_one_of_several_gpus(base, monkeypatch, tmp_path, method):
    trainers = import_module("labkit.baselines.trainers")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(trainers, "choose_device", lambda: (torch.device("cuda"), torch.float32))
    questions = [f"what colour is the {animal} ?" for animal in COLOURS] * 8
    model = trainers.plain_policy(base)
    if method == "dpo":
        rows = [{"prompt": q, "chosen": " red", "rejected": " grey"} for q in questions]
        made = trainers.offline_trainer(method, model, tokenizer(), rows, OfflineSettings(batch_size=8), tmp_path)
    else:
        settings, rows = OnlineSettings(batch=16, minibatch=8, max_new_tokens=4), [{"prompt": q} for q in questions]
        made = trainers.online_trainer(method, model, tokenizer(), rows, len, settings, tmp_path)
    assert made.args.train_batch_size == 8 and made.model_wrapped is made.model
