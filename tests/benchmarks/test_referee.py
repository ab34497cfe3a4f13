"""The referee says how a contestant died (one that only says "ended early" hides what is wrong), and waits for none."""

import os
import time

import pytest

from tests.benchmarks import referee
from tests.benchmarks.workload import Workload

LAST_WORDS = "import sys; print('the disk is full', file=sys.stderr); sys.exit(3)"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
ONE_ROUND = "import sys; print('{}', flush=True); sys.stdin.readline()"
ASLEEP = "import time; time.sleep(600)"
TIRED = """import sys, time
print('{}', flush=True)
for _ in range(2):
    sys.stdin.readline(); print('{"wall": 0.0, "cpu": 0.0}', flush=True)
sys.stdin.readline(); time.sleep(600)
"""
TRAVELLED = "import json, travelled; print(json.dumps({'found': travelled.__file__}), flush=True)"


@pytest.fixture
def contestant(tmp_path, monkeypatch):
    """Makes a contestant of a line of Python."""
    monkeypatch.setattr(referee, "REPOSITORY", tmp_path)

    def make(code: str) -> referee.Peer:
        (tmp_path / "contestant.py").write_text(code)
        return referee.Peer("contestant", Workload("tiny"))

    return make


def test_an_exit_code_and_the_last_words_are_told(contestant):
    with pytest.raises(RuntimeError, match=r"exit code 3\.\n(.*\n)*.*the disk is full"):
        referee.duel({"lab": contestant(LAST_WORDS)}, 1)


def test_a_signal_is_named_where_there_were_no_words(contestant):
    with pytest.raises(RuntimeError, match=r"signal 9 \(SIGKILL\); out of memory") as caught:
        referee.duel({"lab": contestant(KILLED)}, 1)
    assert "wrote nothing" in str(caught.value)


def test_a_death_between_two_rounds_is_told_too(contestant):
    peer = contestant(ONE_ROUND)
    peer.answer()
    peer.process.stdin.write("go\n")
    peer.process.stdin.flush()
    peer.process.wait(timeout=30)
    with pytest.raises(RuntimeError, match="exit code 0"):
        peer.round()
    peer.close()


def test_a_contestant_that_hangs_is_ended_in_time(contestant):
    started = time.monotonic()
    with pytest.raises(referee.OutOfTime, match="still at work"):
        referee.duel({"lab": contestant(ASLEEP)}, 1, seconds=1.0)
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_rounds_that_were_finished_before_a_hang_count(contestant):
    bout = referee.duel({"lab": contestant(TIRED)}, 5, warmup=1, seconds=4.0)
    assert len(bout.rounds["lab"]) == 1


def test_packages_that_travel_by_pythonpath_reach_contestants_without_an_interpreter_of_their_own(
    contestant, tmp_path, monkeypatch
):
    """Else the lab's side would miss them, or run other versions than TRL's."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "travelled.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    peer = contestant(TRAVELLED)
    assert peer.answer()["found"] == str(folder / "travelled.py")
    peer.close()
    own = referee.python_path(referee.Home(path=("first",))).split(os.pathsep)
    assert own[0] == "first" and own[-1] == str(folder)
    assert str(folder) not in referee.python_path(referee.Home(python="/elsewhere/bin/python"))
