"""What a cockpit sends: packets of curves that a page lays over each other, and the newest rows of a ledger."""

from pathlib import Path

import pytest

from labkit.figures.panels import panels_for
from tests.toy_job import toy_job
from tests.widgets.cockpits import Page, until
from widgets.feed import Feed, LedgerTail


@pytest.fixture(autouse=True)
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")


def advance(job, count: int) -> None:
    """That many single steps of a paused job."""
    for _ in range(count):
        seen = len(job.steps)
        job.step()
        until(lambda seen=seen: len(job.steps) > seen and job.status == "paused")


def test_the_feed_follows_steps_rollback_and_branch_and_a_new_page_sees_the_same(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "ppo", total=20, seconds=0.0)
    feed, page = Feed(job, panels_for("ppo")), Page()
    job.start(paused=True)

    def go(count: int) -> None:
        advance(job, count)
        page.take(feed.update())

    go(7)
    assert page.steps("live") == [[1, 2, 3, 4, 5, 6, 7]]
    assert feed.update() == [], "nothing new, nothing sent"
    job.rollback(5).result(10)
    go(1)
    assert page.steps("live") == [[1, 2, 3, 4, 5, 6]] and page.steps("ghost") == [[5, 6, 7]]
    job.branch("b").result(10)
    go(2)
    assert page.steps("live") == [list(range(1, 9))] and page.steps("trunk") == [list(range(1, 7))]
    fresh = Page()
    fresh.take(feed.everything())
    assert fresh.steps("live") == page.steps("live") and fresh.steps("ghost") == page.steps("ghost")
    score = feed.keys.index("score") + 1
    live = next(c for c in page.curves.values() if c["role"] == "live")
    assert live["name"] == "ppo@b"
    assert live["rows"][:, score] == pytest.approx([s.metrics["score"] for s in job.steps], rel=1e-6)
    job.stop()


def test_a_branch_from_an_earlier_step_lies_beside_its_whole_trunk_and_leaves_no_ghost(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "ppo", total=50, seconds=0.0)
    feed, page = Feed(job, panels_for("ppo")), Page()
    job.start(paused=True)
    for upto in (8, 7):
        while len(job.steps) < upto:
            seen = len(job.steps)
            job.step()
            until(lambda seen=seen: len(job.steps) > seen and job.status == "paused")
        page.take(feed.update())
        if upto == 8:
            job.branch("early", step=5).result(10)
    assert page.steps("live") == [list(range(1, 8))] and page.steps("trunk") == [list(range(1, 9))]
    assert page.steps("ghost") == []
    job.stop()


def test_many_rollbacks_leave_few_ghosts(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "ppo", total=50, seconds=0.0)
    feed, page = Feed(job, panels_for("ppo")), Page()
    job.start()
    job.result(block=True)
    steps = list(job.steps)
    for n in range(20, 40):
        job.steps = steps[:n] + steps[n + 1 :]
        page.take(feed.update())
    assert len(page.steps("ghost")) <= 4 and len(page.curves) <= 5


def test_the_ledger_tail_reads_what_is_new_and_waits_for_whole_lines(tmp_path: Path) -> None:
    tail, file = LedgerTail(), tmp_path / "ledger.jsonl"
    assert tail.read(tmp_path) == []
    file.write_text('{"a": 1}\n{"a": 2')
    assert tail.read(tmp_path) == [{"a": 1}]
    with open(file, "a") as out:
        out.write("}\n")
    assert tail.read(tmp_path) == [{"a": 1}, {"a": 2}]
    with open(file, "a") as out:
        out.write('{"a": \n{"a": 3}\n')
    assert tail.read(tmp_path) == [{"a": 1}, {"a": 2}, {"a": 3}], "a torn line hides none of the others"
    other = tmp_path / "branch"
    other.mkdir()
    (other / "ledger.jsonl").write_text('{"a": 9}\n')
    assert tail.read(other) == [{"a": 9}]


def test_the_curve_of_a_job_beside_grows_with_it_and_follows_its_rollback(tmp_path: Path) -> None:
    """Two jobs side by side: the second board is there before the first job has made a step."""
    first, second = (toy_job(tmp_path / name, total=20, seconds=0.0) for name in ("ppo", "ppo_ptx"))
    feed, page = Feed(second, panels_for("ppo"), {"PPO": first}), Page()
    page.take(feed.everything())
    assert page.steps("beside") == [[]]
    first.start(paused=True)

    def go(count: int) -> None:
        advance(first, count)
        page.take(feed.update())

    go(7)
    assert page.steps("beside") == [[1, 2, 3, 4, 5, 6, 7]] and page.steps("live") == [[]]
    assert feed.update() == [], "nothing new, nothing sent"
    first.rollback(5).result(10)
    go(1)
    assert page.steps("beside") == [[1, 2, 3, 4, 5, 6]]
    first.stop()
