"""The referee says how a contestant died: a benchmark that only says "ended early" hides what is wrong."""

import pytest

from tests.benchmarks import referee
from tests.benchmarks.workload import Workload

LAST_WORDS = "import sys; print('the disk is full', file=sys.stderr); sys.exit(3)"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
ONE_ROUND = "import sys; print('{}', flush=True); sys.stdin.readline()"


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
