"""Freed memory is kept: a pass like the one before it asks the system for next to nothing."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from labkit.models.memory import keep_freed_memory

FAULTS = """
import resource, sys
import torch
from labkit.models import choose_device
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    choose_device()

def passes():
    tensors = [torch.ones(512, 4, 74, 32) for _ in range(8)]  # 19 MB each
    del tensors

for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    passes()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(after - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_the_second_pass_finds_the_memory_of_the_first():
    faults = {
        way: int(subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True).stdout)
        for way in ("kept", "given back")
    }
    assert keep_freed_memory() and 4 * faults["kept"] < faults["given back"], faults
