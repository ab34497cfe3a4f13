"""Pretraining rows come packed, one minibatch ahead, from a thread; what comes is what would have been drawn on the spot."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from labkit.errors import DataError
from labkit.knobs import PPOKnobs, constant
from labkit.models import load_policy, packed_logits
from labkit.ppo import PPOSettings, loop, pretraining
from labkit.ppo.pretraining import Pretraining
from labkit.ppo.rollout import addressed_rows
from tests.toy import even_share, save_toy, toy_prompts, toy_state

SETTINGS = PPOSettings(steps=4, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32)
ON, OFF = PPOKnobs(ptx_coef=0.5, policy_lr=1e-3, value_lr=1e-3), PPOKnobs(ptx_coef=0.0, policy_lr=1e-3, value_lr=1e-3)
ROWS = torch.arange(100 * 32).view(100, 32) % 37 + 3
HERE = SimpleNamespace(device=torch.device("cpu"), num_processes=1)


def on_the_spot(minibatch):
    return ROWS[addressed_rows(100, minibatch * SETTINGS.ptx_rows, SETTINGS.ptx_rows, SETTINGS.seed, "pretraining")]


@pytest.mark.parametrize("order", [[1, 2, 3, 4], [3, 4], [1, 4, 2, 3]], ids=["from the start", "resumed", "rolled back"])
def test_a_minibatch_gets_the_rows_of_its_address_whatever_came_before(order):
    ahead = Pretraining(ROWS, SETTINGS, HERE)
    for number in order:
        for place in (0, 1):
            rows = ahead.rows_of(number, 0, place, ON, watch=place == 0)
            assert torch.equal(rows, on_the_spot(2 * (number - 1) + place))


def test_no_row_comes_twice_before_all_have_come_and_another_seed_draws_others():
    many = torch.arange(300 * 32).view(300, 32)
    found = []
    for seed in (0, 1):
        ahead = Pretraining(many, replace(SETTINGS, inner_epochs=2, seed=seed), HERE)
        asked = [(number, inner, place) for number in (1, 2) for inner in (0, 1) for place in (0, 1)]
        found.append([row for address in asked for row in ahead.rows_of(*address, ON, watch=False)[:, 0].tolist()])
    assert all(len(set(rows)) == len(rows) == 8 * SETTINGS.ptx_rows for rows in found) and found[0] != found[1]


def test_the_next_rows_are_drawn_by_a_thread_before_they_are_asked_for(monkeypatch):
    drawn, done, own = [], threading.Event(), ROWS[:-1]  # a number of rows of its own: threads of other tests may still draw

    def watched(total, start, *rest):
        if total == len(own):
            drawn.append((start // SETTINGS.ptx_rows, threading.current_thread() is threading.main_thread()))
        if len(drawn) == 2:
            done.set()
        return addressed_rows(total, start, *rest)

    monkeypatch.setattr(pretraining, "addressed_rows", watched)
    ahead = Pretraining(own, SETTINGS, HERE)
    ahead.rows_of(1, 0, 0, ON, watch=True)
    assert done.wait(10)
    ahead.rows_of(1, 0, 1, ON, watch=False)
    assert drawn[:2] == [(0, True), (1, False)] and (1, True) not in drawn


def test_without_gamma_a_few_rows_are_watched_once_an_iteration():
    ahead = Pretraining(ROWS, replace(SETTINGS, batch=64, minibatch=32), HERE)
    assert len(ahead.rows_of(1, 0, 0, OFF, watch=True)) == 16 and ahead.rows_of(1, 0, 1, OFF, watch=False) is None
    many = Pretraining(ROWS, replace(SETTINGS, batch=64, minibatch=32), SimpleNamespace(device=HERE.device, num_processes=20))
    assert len(many.rows_of(1, 0, 0, OFF, watch=True)) == 20, "every process needs one"
    assert Pretraining(None, SETTINGS, HERE).rows_of(1, 0, 0, OFF, watch=True) is None


def test_what_goes_wrong_in_the_thread_ends_the_run(monkeypatch):
    def torn(total, start, *rest):
        if start:
            raise DataError("the rows are torn")
        return addressed_rows(total, start, *rest)

    monkeypatch.setattr(pretraining, "addressed_rows", torn)
    ahead = Pretraining(ROWS, SETTINGS, HERE)
    ahead.rows_of(1, 0, 0, ON, watch=True)
    with pytest.raises(DataError, match="the rows are torn"):
        ahead.rows_of(1, 0, 1, ON, watch=False)


def test_a_gamma_that_is_turned_on_late_draws_what_it_would_have_drawn(tmp_path, monkeypatch):
    """And a run that ends leaves no thread behind."""
    folder, seen = save_toy(tmp_path / "init", spread=0.05), []
    gradients = loop_module().ptx_gradients
    monkeypatch.setattr(loop_module(), "ptx_gradients", lambda s, rows, *a, **k: seen.append(rows) or gradients(s, rows, *a, **k))
    rows = ROWS % 37 + 3
    list(loop(toy_state(folder, SETTINGS), toy_prompts(20), even_share, lambda n: ON if n > 2 else OFF, SETTINGS, pretraining=rows))
    late = seen[2:]
    seen.clear()
    list(loop(toy_state(folder, SETTINGS), toy_prompts(20), even_share, constant(ON), SETTINGS, pretraining=rows))
    assert len(late) == 4 and all(map(torch.equal, late, seen[4:]))


def test_a_tensor_of_rows_is_scored_as_lists_are(tmp_path):
    model, rows = load_policy(save_toy(tmp_path / "init", spread=0.05), device="cpu"), ROWS[:5] % 37 + 3
    assert torch.equal(packed_logits(model, rows), packed_logits(model, rows.tolist()))
    model.set_attn_implementation("sdpa")
    assert torch.equal(packed_logits(model, rows), packed_logits(model, rows.tolist()))


def loop_module():
    from importlib import import_module

    return import_module("labkit.ppo.loop")  # the name labkit.ppo.loop is the function
