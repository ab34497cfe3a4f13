"""Whatever lies where no token is, even huge numbers, no token sees it: padding of grids, blank slots of the cache."""

from contextlib import nullcontext

import pytest
import torch

from labkit.models import completion_scores, load_policy, new_reward_model, packed_logits
from labkit.models.layout import Layout
from labkit.models.shared import PrefixLayout
from labkit.sampling import engine, replayed, sample, steps
from labkit.sampling.cache import RightAlignedCache
from labkit.sampling.fixed import FixedCache
from tests.toy import ARCHITECTURES, END, save_toy, toy_rows

pytestmark = pytest.mark.slow

HUGE = 1e4
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(params=sorted(ARCHITECTURES))
def folder(request, tmp_path):
    return save_toy(tmp_path / "init", request.param, spread=0.05)


def precision(dtype):
    return torch.autocast("cpu", dtype=dtype) if dtype == torch.bfloat16 else nullcontext()


def poison_grids(monkeypatch, kind, padding_of):
    """Let `kind` of layout spread tokens onto grids that hold huge numbers at the places `padding_of(layout)`."""
    spread, filled = kind.spread, []

    def poisoned(layout, packed):
        grids, padding = spread(layout, packed), padding_of(layout)
        sizes = layout.places.grids if kind is Layout else layout.places[0]
        filled.append(len(padding))
        flat = torch.cat([g.transpose(1, 2).flatten(0, 1) for g in grids]).index_fill(0, padding, HUGE)
        parts = flat.split([n * longest for n, longest in sizes])
        return [p.view(*grid, *p.shape[1:]).transpose(1, 2) for p, grid in zip(parts, sizes, strict=True)]

    monkeypatch.setattr(kind, "spread", poisoned)
    return filled


def outcome(model, compute):
    """What comes out, and what it does to the weights."""
    model.zero_grad()
    out = compute()
    out.float().square().sum().backward()
    return out.detach().clone(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_poisoned_padding_of_packed_rows_changes_nothing(folder, monkeypatch, dtype):
    model, rows = load_policy(folder, device="cpu"), [[5, 6, 7, 8, 9, 10, 11, 12], [3, 4], [5] * 7]
    with precision(dtype):
        clean = outcome(model, lambda: packed_logits(model, rows))
        filled = poison_grids(monkeypatch, Layout, lambda layout: layout.places.padding)
        poisoned = outcome(model, lambda: packed_logits(model, rows))
    assert filled and min(filled) > 0
    torch.testing.assert_close(poisoned, clean, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_poisoned_padding_of_shared_prompts_changes_nothing(folder, monkeypatch, dtype):
    model = new_reward_model(folder, 0, device="cpu")
    prompts, responses = [[5, 6, 7, 8], [9, 3]], [[[4, 5], [6, 7, 8]], [[3, 4, 5, 6, 7], [8, 9]]]
    padding = Layout.of([len(p) + len(r) for p, rs in zip(prompts, responses, strict=True) for r in rs], torch.device("cpu")).places.padding
    with precision(dtype):
        clean = outcome(model, lambda: completion_scores(model, prompts, responses))
        filled = poison_grids(monkeypatch, PrefixLayout, lambda layout: padding)
        poisoned = outcome(model, lambda: completion_scores(model, prompts, responses))
    assert filled and min(filled) > 0
    torch.testing.assert_close(poisoned, clean, atol=0, rtol=0)


def poison_slots(monkeypatch, kind):
    """Before every step, huge numbers in all slots that it may not look at: left of a prompt, and not yet filled."""
    step_mask, filled = kind.step_mask, []

    def poisoned(cache):
        mask = step_mask(cache)  # (rows, 1, 1, slots up to the newest)
        for layer in cache.layers:
            closed = torch.ones(layer.keys.shape[0], 1, layer.keys.shape[2], 1, dtype=torch.bool)
            closed[:, 0, : mask.shape[3], 0] = mask[:, 0, 0] < 0
            for cached in (layer.keys, layer.values):
                cached.masked_fill_(closed, HUGE)
            filled.append((len(closed), int(closed.sum())))
        return mask

    monkeypatch.setattr(kind, "step_mask", poisoned)
    return filled


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("graphs", [False, True])
def test_poisoned_slots_of_the_cache_change_nothing(folder, monkeypatch, graphs, dtype):
    """Of either cache, before and after rows that ended were let go, ragged and repeated prompts."""
    model, prompts = load_policy(folder, device="cpu"), toy_rows(20, 1, 12) * 2
    asked = {"max_new_tokens": 20, "eos_id": END, "seeds": range(40)}
    monkeypatch.setattr(engine, "graphs_pay", lambda device: graphs)
    monkeypatch.setattr(steps, "ASK_EVERY", {"cpu": 3})
    monkeypatch.setattr(replayed, "SIZES", 16)
    with precision(dtype):
        clean = sample(model, prompts, **asked)
        filled = poison_slots(monkeypatch, FixedCache if graphs else RightAlignedCache)
        poisoned = sample(model, prompts, **asked)
    assert len({rows for rows, _ in filled}) > 1 and all(slots for _, slots in filled[:10])
    assert poisoned == clean
