"""Where the time of an iteration goes: in every step's record, in run.json, on the cockpit and on the model sheet."""

import time

import pytest

from labkit.batch.sheet import write_sheet
from labkit.figures import time_profile
from labkit.figures.training import profile
from labkit.jobs import Job
from labkit.knobs import Dial, PPOKnobs
from labkit.ppo import PPOSettings, loop
from labkit.runs import Run
from labkit.types import Step
from tests.toy import even_share, save_toy, toy_prompts, toy_state
from widgets import Cockpit

SETTINGS = PPOSettings(steps=6, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32)
PARTS = ("time_generation", "time_scoring", "time_advantage", "time_update", "time_ptx", "time_snapshot")
SLOW = 0.15  # seconds that a snapshot takes here at least


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    state = toy_state(save_toy(folder / "init", spread=0.05), SETTINGS)
    save = state.save
    state.save = lambda to: time.sleep(SLOW) or save(to)
    made = Job(
        lambda schedule: loop(state, toy_prompts(20), even_share, schedule, SETTINGS),
        folder=Run("r", folder / "runs").stage("ppo"), schedule=Dial(PPOKnobs()), total=6, state=state, snapshot_every=2,
    )  # fmt: skip
    made.start().result(block=True)
    return made


def test_an_iteration_says_how_long_it_waited_for_a_snapshot(job):
    waited = [s.metrics["time_snapshot"] for s in job.folder.steps()]
    assert [w >= SLOW for w in waited] == [False, False, True, False, True, False]
    assert [s.metrics for s in job.steps] == [s.metrics for s in job.folder.steps()]


def test_the_parts_are_within_the_whole(job):
    for step in job.steps:
        parts = sum(step.metrics[name] for name in PARTS)
        assert 0.7 * step.metrics["time_total"] < parts <= step.metrics["time_total"]


def test_the_runs_record_has_the_mean_of_an_iteration(job):
    told = job.folder.manifest["profile"]
    assert set(told) == {"generation", "scoring", "advantage", "update", "ptx", "snapshot", "idle"}
    assert sum(told.values()) == pytest.approx(sum(s.metrics["time_total"] for s in job.steps) / 6)
    assert told["snapshot"] >= 2 * SLOW / 6


@pytest.mark.slow
def test_the_profile_is_a_figure_of_the_cockpit_and_of_the_model_sheet(job, monkeypatch, tmp_path):
    drawn = {t.name: t.x[0] for t in time_profile(job).data}
    assert drawn == pytest.approx(job.folder.manifest["profile"], abs=1e-4)
    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    bundles = Cockpit(job).static()
    words = [b["text/plain"] for b in bundles if "image/png" in b]
    assert len(words) == 2 and "Where the time of a step goes" in words[1] and "snapshot" in words[1]
    page = write_sheet(Run("r", job.folder.path.parents[1]), tmp_path / "sheet.html").read_text()
    assert "Where the time of a step goes" in page


def test_steps_that_were_not_timed_have_no_profile():
    assert profile([]) == {} and profile([Step("ppo", 1, {"score": 1.0})]) == {}
