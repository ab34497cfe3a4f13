"""The hash of a model's weights: the same weights, the same name; read once, and again after every change."""

import copy

import pytest
import torch

from labkit.models import fingerprint, load_policy, model_hash
from tests.toy import save_toy


@pytest.fixture
def model(tmp_path):
    return load_policy(save_toy(tmp_path / "m", spread=0.1), device="cpu")


def step(model) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sum(p.square().sum() for p in model.parameters()).backward()
    optimizer.step()


def through_data(model) -> None:
    for parameter in model.parameters():
        parameter.data.mul_(1.5)


def one_number(model) -> None:
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[3] += 1


def replaced(model) -> None:
    first = next(iter(model.parameters()))
    first.data = first.data + 1


def loaded(model) -> None:
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})


def test_the_weights_are_read_once_however_often_they_are_asked_for(model, monkeypatch) -> None:
    read, digest = [], fingerprint._digest
    monkeypatch.setattr(fingerprint, "_digest", lambda m: read.append(1) or digest(m))
    assert len({model_hash(model) for _ in range(5)}) == 1 and len(read) == 1
    model.train(), model.eval()
    model_hash(model)
    assert len(read) == 1


@pytest.mark.parametrize("change", [step, through_data, one_number, replaced, loaded])
def test_a_change_of_the_weights_changes_the_name(model, change) -> None:
    before = model_hash(model)
    kept = copy.deepcopy(model.state_dict())
    change(model)
    assert model_hash(model) == fingerprint._digest(model) != before
    model.load_state_dict(kept)
    assert model_hash(model) == before, "the same weights again have the same name again"


def test_a_copy_has_the_same_name(model) -> None:
    assert model_hash(copy.deepcopy(model)) == model_hash(model)
