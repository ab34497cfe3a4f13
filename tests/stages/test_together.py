"""Jobs side by side: the same numbers as one after the other, threads put back, and turns on an accelerator."""

import time

import pytest
import torch

from labkit.experiment import Experiment, replay_job, start_together, together
from labkit.runs import Run

pytestmark = pytest.mark.slow  # one smoke run, trained several times


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Experiment(Run("pair", tmp_path_factory.mktemp("runs")), scale="smoke", model="small")
    made.ensure("ppo_init", "reward", say=lambda line: None)
    return made


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def numbers(job) -> list[dict[str, float]]:
    return [{k: v for k, v in s.metrics.items() if not k.startswith("time_")} for s in job.steps]


def pair(lab, kind: str, name: str):
    if kind == "sft":
        return lab.sft_job(name=f"{name}-0"), lab.sft_job(init=True, name=f"{name}-1")
    return lab.ppo_job(ptx=False, name=f"{name}-0"), lab.ppo_job(name=f"{name}-1")


@pytest.mark.parametrize("kind", ["sft", "ppo"])
def test_side_by_side_two_jobs_learn_what_each_learns_alone(lab, two_threads, kind: str) -> None:
    alone = pair(lab, kind, f"{kind}-alone")
    for job in alone:
        job.start(threads=1).result(block=True)
    beside = start_together(*pair(lab, kind, f"{kind}-beside"))
    for job in beside:
        job.result(block=True)
    assert [numbers(job) for job in beside] == [numbers(job) for job in alone]
    assert all(job.folder.manifest["threads"] == 1 for job in beside) and torch.get_num_threads() == 2
    starts, ends = zip(*((j.folder.manifest["started"], j.folder.manifest["ended"]) for j in beside), strict=True)
    assert max(starts) < min(ends), "they trained at the same time"


def test_with_dropout_one_waits_for_the_other(lab, two_threads) -> None:
    """torch draws what is dropped from one generator for the whole process."""
    alone = [lab.sft_job(name="drops-alone", dropout=0.2), lab.sft_job(init=True, name="drops-alone-init", dropout=0.2)]
    for job in alone:
        job.start().result(block=True)
    beside = start_together(*(lab.sft_job(init=init, name=f"drops-{init}", dropout=0.2) for init in (False, True)))
    for job in beside:
        job.result(block=True)
    assert [numbers(job) for job in beside] == [numbers(job) for job in alone]


def test_two_jobs_with_dropout_that_were_started_one_by_one_learn_what_each_learns_alone(lab) -> None:
    """By hand each has a cell of its own; torch's generator is one for both, so they step in turns."""
    alone = [lab.sft_job(name=f"once-{seed}", dropout=0.2, epochs=1).start(threads=1) for seed in (0,)]
    alone[0].result(block=True)
    beside = [lab.sft_job(name=f"twice-{i}", dropout=0.2, epochs=1).start(threads=1) for i in range(2)]
    for job in beside:
        job.result(block=True)
        assert numbers(job) == numbers(alone[0])


def test_a_replay_computes_with_the_threads_of_its_record(lab, two_threads) -> None:
    lab.ppo_job(name="recorded").start(threads=1).result(block=True)
    job, _ = replay_job(lab, lab.run.path / "recorded", name="again")
    job.start().result(block=True)
    assert job.folder.manifest["threads"] == 1 and torch.get_num_threads() == 2
    lab.sft_job(name="plain").start().result(block=True)
    assert lab.run.stage("plain").manifest["threads"] == 2


def test_on_an_accelerator_the_second_waits_for_the_first(lab, monkeypatch) -> None:
    monkeypatch.setattr(together, "choose_device", lambda: (torch.device("cuda"), torch.bfloat16))  # only asked, not used
    first, second = start_together(*pair(lab, "sft", "turns"))
    while first.alive:
        assert not second.steps and second.alive
        time.sleep(0.01)
    second.result(block=True)
    assert second.folder.manifest["threads"] == torch.get_num_threads()
    assert second.steps and second.status == "done"
