"""The trainer as a generator: it waits to be asked, stops when closed, raises in the consumer, resumes exactly."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib import import_module
from itertools import islice

import pytest
import torch

from labkit import sft
from labkit.errors import InvariantError, RunError
from labkit.jobs import Job
from labkit.knobs import Dial, SFTKnobs, constant, replay
from labkit.models import new_reward_model
from labkit.reward import RewardSettings, encode_rankings
from labkit.reward import trainer as reward_trainer
from labkit.runs import Run
from labkit.sft import SFTSettings
from labkit.sft import trainer as sft_trainer
from labkit.stepwise import cosine
from tests.stages.animals import CONTEXT, demonstrations, numbers, rankings

SETTINGS = SFTSettings(epochs=5, batch_size=8, lr=1e-2, dropout=0.2, choose_by="last")  # 20 steps of 32 demonstrations


def plain(base, schedule=None, settings=SETTINGS):
    state = sft.start(base, device="cpu")
    return state, sft.loop(state, demonstrations(), schedule or constant(SFTKnobs()), settings, valid=demonstrations(4))


def weights(state):
    return {n: p.detach().clone() for n, p in state.model.named_parameters()}


def same(a, b):
    return all(torch.equal(a[n], b[n]) for n in a)


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("labkit-")]


def test_nothing_moves_between_two_questions(bases):
    state, loop = plain(bases["gpt2"])
    next(loop)
    before = weights(state)
    threading.Event().wait(0.1)
    assert same(before, weights(state)) and state.step == 1
    assert next(loop).number == 2 and not same(before, weights(state))
    loop.close()


def test_it_learns_while_another_trainer_collects_gradients(bases, monkeypatch):
    """Two trainers side by side share accelerate's flag that says whether an optimiser may step."""
    from accelerate.state import GradientState

    meeting = import_module("labkit.stepwise.meeting")
    lower = lambda *_, **__: GradientState()._set_sync_gradients(False)  # noqa: E731
    monkeypatch.setattr(meeting._Meeting, "on_pre_optimizer_step", lower, raising=False)
    state, loop = plain(bases["gpt2"])
    before = weights(state)
    try:
        next(loop)
    finally:
        loop.close()
        GradientState()._set_sync_gradients(True)
    assert not same(before, weights(state))


def test_closing_ends_the_thread_and_leaves_the_weights_of_the_last_step(bases):
    state, loop = plain(bases["gpt2"])
    list(islice(loop, 3))
    before = weights(state)
    loop.close()
    assert not threads() and same(before, weights(state)) and state.step == 3
    assert not state.model.training and "forward" not in state.model.__dict__


def test_an_exhausted_loop_leaves_no_thread_and_counts_every_step(bases):
    state, loop = plain(bases["gpt2"])
    assert [s.number for s in loop] == list(range(1, 21)) and not threads()
    assert sft.total_steps(state, demonstrations(), SETTINGS) == 20


def test_an_error_of_the_schedule_reaches_the_consumer(bases):
    def schedule(step):
        if step == 3:
            raise RunError("the ledger is torn")
        return SFTKnobs()

    _, loop = plain(bases["gpt2"], schedule)
    assert [next(loop).number, next(loop).number] == [1, 2]
    with pytest.raises(RunError, match="the ledger is torn"):
        next(loop)
    assert not threads()


def test_training_goes_on_under_the_consumers_no_grad(bases):
    state, loop = plain(bases["gpt2"])
    before = weights(state)
    with torch.no_grad():
        next(loop)
    assert not same(before, weights(state))
    loop.close()


def test_the_logged_rate_is_the_true_one_and_follows_the_dial(bases):
    dial = Dial(SFTKnobs())
    state, loop = plain(bases["gpt2"], dial)
    rates = [next(loop).metrics["lr"]]
    dial.turn(lr_scale=0.5)
    step = next(loop)
    rates.append(step.metrics["lr"])
    assert state.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(SETTINGS.lr * cosine(2 / 20, 0.1) * 0.5)
    dial.turn(lr_scale=0.0)
    before = weights(state)
    rates.append(next(loop).metrics["lr"])
    loop.close()
    assert rates == pytest.approx([SETTINGS.lr, SETTINGS.lr * cosine(1 / 20, 0.1) * 0.5, 0.0])
    assert step.knobs == {"lr_scale": 0.5} and same(before, weights(state))


def test_every_setting_reaches_the_trainer(bases, tmp_path):
    told = {"lr_floor": 0.7, "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_eps": 1e-6, "weight_decay": 0.3, "max_grad_norm": 0.5, "seed": 9}
    state = sft.start(bases["gpt2"], device="cpu")
    rows = sft.encode_demonstrations(state.tokenizer, demonstrations(8), context=CONTEXT).rows()
    ranked = encode_rankings(state.tokenizer, rankings(8), RewardSettings(), CONTEXT).rows
    judge = new_reward_model(bases["gpt2"], 0, device="cpu")
    made = [
        sft_trainer.make_trainer(state.model, state.tokenizer, rows, SETTINGS.but(**told), tmp_path, torch.float32),
        reward_trainer.make_trainer(judge, ranked, RewardSettings(lr=1e-2, batch_size=8, **told), tmp_path, torch.float32),
    ]
    for trainer in made:
        of_weights = trainer.create_optimizer().param_groups[0]
        assert (*of_weights["betas"], of_weights["eps"], of_weights["weight_decay"], of_weights["lr"]) == (0.8, 0.9, 1e-6, 0.3, 1e-2)
        assert (trainer.args.max_grad_norm, trainer.args.seed, trainer.args.data_seed) == (0.5, 9, 9)
        trainer.create_scheduler(4, trainer.optimizer)
        assert trainer.lr_scheduler.lr_lambdas[0](4) == pytest.approx(0.7)


def test_the_schedule_is_read_once_per_step(bases):
    asked = []
    _, loop = plain(bases["gpt2"], lambda step: asked.append(step) or SFTKnobs())
    list(islice(loop, 4))
    loop.close()
    assert asked == [1, 2, 3, 4]


def test_the_cosine_starts_at_the_peak_and_ends_at_the_floor():
    values = [cosine(i / 100, 0.1) for i in range(101)]
    assert values[0] == 1.0 and values[-1] == pytest.approx(0.1) and values == sorted(values, reverse=True)
    assert cosine(0.5, 0.1) == pytest.approx(0.55) and cosine(7.0, 0.1) == pytest.approx(0.1)


def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(bases):
    state, loop = plain(bases["gpt2"])
    next(loop)
    healthy = weights(state)
    with torch.no_grad():
        state.model.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(InvariantError, match=r"loss of step 2 is nan; the weights of step 1 are untouched"):
        next(loop)
    with torch.no_grad():
        state.model.transformer.ln_f.weight[0] = healthy["transformer.ln_f.weight"][0]
    assert same(healthy, weights(state))


def test_twenty_steps_equal_ten_and_ten_more_from_a_snapshot(bases, tmp_path):
    whole = numbers(plain(bases["gpt2"])[1])
    state, loop = plain(bases["gpt2"])
    first = numbers(islice(loop, 10))
    state.save(tmp_path / "000010")
    loop.close()
    fresh, rest = plain(bases["gpt2"])
    fresh.load(tmp_path / "000010")
    assert first + numbers(rest) == whole


CHILD = """
import json, sys
from labkit import sft
from labkit.knobs import SFTKnobs, constant
from tests.stages.animals import demonstrations, numbers
from tests.stages.test_stepwise import SETTINGS
state = sft.start(sys.argv[1], device="cpu").load(sys.argv[2])
loop = sft.loop(state, demonstrations(), constant(SFTKnobs()), SETTINGS, valid=demonstrations(4))
print(json.dumps(numbers(loop)))
"""


@pytest.mark.slow
def test_twenty_steps_equal_ten_a_new_process_and_ten_more(bases, tmp_path, repository):
    import json

    whole = numbers(plain(bases["llama"])[1])
    state, loop = plain(bases["llama"])
    first = numbers(islice(loop, 10))
    state.save(tmp_path / "000010")
    loop.close()
    child = [sys.executable, "-c", CHILD, str(bases["llama"]), str(tmp_path / "000010")]
    done = subprocess.run(child, cwd=repository, capture_output=True, text=True, check=True)
    assert first + json.loads(done.stdout.splitlines()[-1]) == whole


def test_a_snapshot_of_another_model_or_half_of_one_is_refused(bases, tmp_path):
    state, loop = plain(bases["gpt2"])
    next(loop)
    state.save(tmp_path / "000001")
    loop.close()
    with pytest.raises(RunError, match="belongs to another model"):
        sft.start(bases["llama"], device="cpu").load(tmp_path / "000001")
    (tmp_path / "000001" / "state.json").unlink()
    with pytest.raises(RunError, match="not a complete snapshot"):
        state.load(tmp_path / "000001")


def test_nothing_in_a_snapshot_is_pickled(bases, tmp_path):
    state, loop = plain(bases["gpt2"])
    next(loop)
    state.save(tmp_path / "000001")
    loop.close()
    assert {p.suffix for p in (tmp_path / "000001").iterdir()} == {".safetensors", ".json"}


@pytest.mark.slow
def test_a_job_rolls_sft_back_and_ends_like_an_undisturbed_run(bases, tmp_path):
    whole, loop = plain(bases["gpt2"])
    expected = numbers(loop)
    state = sft.start(bases["gpt2"], device="cpu")

    def make(schedule):
        return sft.loop(state, demonstrations(), schedule, SETTINGS, valid=demonstrations(4))

    folder = Run("r", tmp_path).stage("sft")
    job = Job(make, folder=folder, schedule=Dial(SFTKnobs()), total=20, state=state, snapshot_every=5, keep_snapshots=9)
    rolled = []
    job.listen(lambda step: rolled.append(job.rollback(5)) if step.number == 12 and not rolled else None)
    job.start()
    job.result(block=True)
    assert rolled[0].result() == 5
    assert numbers(job.steps) == expected == numbers(folder.steps())
    assert same(weights(whole), weights(state))


def test_a_ledger_replays_to_the_same_numbers(bases):
    dial = Dial(SFTKnobs())
    _, loop = plain(bases["gpt2"], dial)
    live = list(islice(loop, 3))
    dial.turn(lr_scale=0.25, why="too fast")
    live += islice(loop, 3)
    loop.close()
    _, again = plain(bases["gpt2"], replay(dial.ledger, SFTKnobs()))
    assert numbers(islice(again, 6)) == numbers(live)
    again.close()
