"""One lock and one question after a writer's life, for all that may have one writer."""

import os
import subprocess
import sys

from labkit.processes import lock, lock_file

HOLDS = """
import sys, time
from pathlib import Path
from labkit.processes import lock_file

with lock_file(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_lock_file_is_one_processs_until_it_dies_and_the_file_goes_with_the_lock(tmp_path, repository):
    file = tmp_path / "set" / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLDS, file], cwd=repository, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with lock_file(file, wait=False) as mine:
            assert not mine
        assert file.exists(), "who is refused leaves it to its holder"
        other.kill()
    with lock_file(file, wait=False) as mine:
        assert mine and file.exists()
    assert not file.exists()


def test_an_open_file_is_locked_until_it_is_closed(tmp_path):
    first, second = (os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert lock(first, wait=False) and not lock(second, wait=False)
    os.close(first)
    assert lock(second, wait=False)
    os.close(second)
