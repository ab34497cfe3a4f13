"""The models of SFT's epochs lie with the run that trained them: a branch writes none into its trunk, and none outlives a rollback."""

import time

import pytest

from labkit.experiment import Experiment
from labkit.models import load_policy
from labkit.runs import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Experiment:
    made = Experiment(Run("sft", tmp_path_factory.mktemp("runs")), scale="smoke", model="small")
    made.ensure("prompts", say=lambda line: None)
    return made


def go(job, upto: int) -> None:
    for n in range(len(job.steps) + 1, upto + 1):
        job.step()
        while len(job.steps) < n or job.status != "paused":
            time.sleep(0.01)


def epochs(folder) -> dict[str, float]:
    """Number of the epoch -> a fingerprint of its weights."""
    found = sorted((folder.path / "epochs").glob("*"))
    return {p.name: sum(t.abs().sum().item() for t in load_policy(p).state_dict().values()) for p in found}


def test_a_branch_leaves_the_trunks_epochs_and_its_choice_alone(lab):
    job = lab.sft_job(epochs=3).start(paused=True)
    epoch = job.total // 3
    go(job, epoch + 1)
    trunk, before = job.folder, epochs(job.folder)
    branch = job.branch("other").result(60)
    job.dial.turn(lr_scale=0.1, why="so that the branch differs")
    job.resume()
    job.result(block=True)
    assert set(before) == {"01"} and epochs(trunk) == before
    assert set(epochs(branch)) == {"02", "03"}
    plain = lab.sft_job(name="plain", epochs=3).start()
    plain.result(block=True)
    assert set(epochs(plain.folder)) == {"01", "02", "03"} and epochs(plain.folder)["01"] == before["01"]


def test_an_epoch_that_a_rollback_superseded_is_not_there_to_be_chosen(lab, monkeypatch):
    monkeypatch.setenv("LABKIT_HEADLESS", "0")  # a person is there: snapshots are taken
    job = lab.sft_job(name="back", epochs=2).start(paused=True)
    epoch = job.total // 2
    go(job, 1)
    job.snapshot().result(60)
    go(job, epoch + 1)
    assert set(epochs(job.folder)) == {"01"}
    job.rollback(1).result(60)
    job.stop()
    job.result(block=True)
    assert epochs(job.folder) == {}


def test_a_finished_sft_is_branched_from_an_earlier_step_and_repeats_itself_there(lab, monkeypatch):
    monkeypatch.setenv("LABKIT_HEADLESS", "0")
    job = lab.sft_job(name="whole", epochs=2).start()
    job.result(block=True)
    while job.alive:
        time.sleep(0.01)
    trunk, before = job.folder, epochs(job.folder)
    step = [n for n in trunk.snapshots() if n <= job.total // 2][-1]
    branch = job.branch("again", step=step).result(60)
    job.resume()
    state = job.result(block=True)
    assert numbers(branch) == numbers(trunk) and [e["epoch"] for e in state.epochs] == [1, 2]
    assert epochs(trunk) == before and trunk.status == "done"
    there, here = (load_policy(f.model).state_dict() for f in (trunk, branch))
    assert all(there[name].equal(here[name]) for name in there)


def numbers(folder) -> list[dict[str, float]]:
    return [{k: v for k, v in s.metrics.items() if not k.startswith("time_")} for s in folder.steps()]
