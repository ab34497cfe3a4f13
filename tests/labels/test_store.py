"""The label log: durable at every event, repaired after a kill, one writer."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from labkit.errors import RunError
from labkit.labels.session import LabelSession
from labkit.labels.store import LabelLog, labels_path, read_log
from tests.labels.helpers import draft, tasks

WRITER = """
import sys
from labkit.labels.session import LabelSession
from tests.labels.helpers import draft, tasks

session = LabelSession(tasks(500), "ann", sys.argv[1])
count = 0
while session.current:
    session.save_draft(draft("c0", "c1"))
    print("draft", session.current.prompt.id, flush=True)
    session.submit(draft("c1", "c0 c2"))
    count += 1
    print("submit", count, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return labels_path(tmp_path, "ann")


def test_every_move_is_on_the_disk_before_its_call_returns(path, monkeypatch):
    """A power cut takes what no fsync has brought to the disk, which a killed process does not show."""
    sync, safe = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda fd: sync(fd) or safe.append(os.fstat(fd).st_size))
    session = LabelSession(tasks(2), "ann", path)
    moves = (lambda: session.save_draft(draft("c0", "c1")), session.submit, session.undo, lambda: session.skip("long"), lambda: session.note("x"))
    for move in moves:
        before = path.stat().st_size
        move()
        assert safe[-1] == path.stat().st_size > before


def test_a_move_that_finds_no_room_is_refused_and_leaves_no_half_line(path, monkeypatch):
    session = LabelSession(tasks(2), "ann", path)
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda fd, line: write(fd, line[: len(line) // 2]))  # as on a disk that is just full
    with pytest.raises(RunError, match="Free some space and repeat the last move"):
        session.submit(draft("c0", "c1"))
    assert path.read_bytes() == before and not session.rankings
    monkeypatch.undo()
    session.submit(draft("c0", "c1"))
    assert len(read_log(path).rankings) == 1


@pytest.mark.parametrize("lines", [7, 20])
def test_kill_9_loses_at_most_the_move_being_made(path, lines, repository):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=repository
    )
    said = [writer.stdout.readline().split() for _ in range(lines)]
    os.kill(writer.pid, signal.SIGKILL)
    said += [line.split() for line in writer.stdout.read().splitlines()]
    writer.wait()
    submits = max(int(n) for word, n in said if word == "submit")
    drafted = [p for word, p in said if word == "draft"]
    session = LabelSession(tasks(500), "ann", path)
    assert len(session.rankings) in (submits, submits + 1)  # one may have been stored but not yet announced
    if len(session.rankings) == submits and len(drafted) > submits:
        assert session.current.prompt.id == drafted[-1] and session.draft == draft("c0", "c1")
    session.submit(draft("c0", "c1"))


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_cut_off_and_kept_as_text(path, cut):
    session = LabelSession(tasks(3), "ann", path)
    session.submit(draft("c0", "c1"))
    session.close()
    whole = path.read_bytes()
    session = LabelSession(tasks(3), "ann", path)
    session.save_draft(draft("c2", "c1"))
    session.close()
    torn = path.read_bytes()[:-cut]
    path.write_bytes(torn)
    assert len(read_log(path).rankings) == 1  # a reader passes the torn line over
    session = LabelSession(tasks(3), "ann", path)
    assert len(session.rankings) == 1 and session.current.prompt.id == "p1"
    if cut > 1:  # cut = 1 loses the line end only: the event is whole
        opened = [json.loads(line) for line in path.read_text().splitlines() if '"open"' in line][-1]
        assert torn.decode().endswith(opened["torn"]) and session.draft == draft()
    else:
        assert session.draft == draft("c2", "c1")
    assert path.read_bytes().startswith(whole)
    session.submit(draft("c0", "c1"))
    assert len(read_log(path).rankings) == 2


def test_a_second_process_is_refused(path, repository):
    session = LabelSession(tasks(2), "ann", path)
    code = "import sys; from labkit.labels.store import LabelLog; LabelLog(sys.argv[1], 'ann')"
    second = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=repository)
    assert second.returncode != 0 and "another process" in second.stderr
    session.submit(draft("c0", "c1"))
    session.close()
    free = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=repository)
    assert free.returncode == 0, free.stderr


def test_a_second_opening_in_one_process_takes_over(path):
    first = LabelSession(tasks(2), "ann", path)
    second = LabelSession(tasks(2), "ann", path)
    second.submit(draft("c0", "c1"))
    with pytest.raises(RunError, match="newer session"):
        first.submit(draft("c0", "c1"))
    assert len(read_log(path).rankings) == 1


def test_a_writer_that_passed_the_lock_is_found_by_size(path):
    session = LabelSession(tasks(2), "ann", path)
    with open(path, "a", encoding="utf-8") as stranger:
        stranger.write('{"event": "note"}\n')
    before = path.read_bytes()
    with pytest.raises(RunError, match="second writer"):
        session.submit(draft("c0", "c1"))
    assert path.read_bytes() == before


def test_on_a_disk_without_locks_a_log_opens_all_the_same_and_the_size_finds_a_second_writer(path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refused)
    LabelLog(path, "ann").close()
    test_a_writer_that_passed_the_lock_is_found_by_size(path)


def test_a_log_of_another_user_by_the_same_name_asks_for_another_name(path, monkeypatch):
    """Two students called ann on one shared folder."""

    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("labkit.labels.store.os.open", refuse)
    with pytest.raises(RunError, match="Permission denied. .* somebody else's.* another labeler id"):
        LabelLog(path, "ann")


def test_a_log_belongs_to_one_labeler(path):
    LabelLog(path, "ann").close()
    with pytest.raises(RunError, match="of 'ann', not of 'bob'"):
        LabelLog(path, "bob")


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(path):
    session = LabelSession(tasks(2), "ann", path)
    session.submit(draft("c0", "c1"))
    session.close()
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:20]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match="line 2"):
        LabelSession(tasks(2), "ann", path)


def test_calls_from_many_threads_leave_one_whole_log(path):
    session = LabelSession(tasks(1, k=9), "ann", path)

    def move(first: int) -> None:
        for n in range(5):
            session.save_draft(draft(f"c{first}", f"c{(first + n + 1) % 9}"))

    threads = [threading.Thread(target=move, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [json.loads(line)["n"] for line in path.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)) and read_log(path) == session.state
