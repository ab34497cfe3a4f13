"""Freed memory is kept, unless the user has told the C library something else."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

RESIDENT = """
import psutil, sys
import torch
from labkit.models.memory import keep_freed_memory
torch.set_num_threads(1)
told = sys.argv[1] == "kept" and keep_freed_memory()
tensors = [torch.ones(2**19) for _ in range(100)]  # 2 MB each
full = psutil.Process().memory_info().rss
del tensors
print(told, (full - psutil.Process().memory_info().rss) / 2**20)
"""


def given_back(way: str, **environment: str) -> tuple[bool, float]:
    """Whether glibc was told, and how many MiB of 200 that were freed went back to the system."""
    command = [sys.executable, "-c", RESIDENT, way]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout.split()
    return said[0] == "True", float(said[1])


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_is_freed_stays_for_the_next_pass():
    told, kept = given_back("kept")
    untold, lost = given_back("as it is")
    assert told and not untold and kept < 20 and lost > 100, (kept, lost)
    told, lost = given_back("kept", MALLOC_TRIM_THRESHOLD_="131072")
    assert not told and lost > 100, "the user had said something else"


PLANS = """
import psutil
import torch
from labkit.models.products import product
torch.set_num_threads(1)
x, weight, bias = torch.randn(2000, 128), torch.randn(512, 128), torch.randn(512)
resident = lambda: psutil.Process().memory_info().rss / 2**20
with torch.no_grad():
    product(x, weight, bias, "gelu")
    before = resident()
    for rows in range(1100, 1500):
        product(x[:rows], weight, bias, "gelu")
print(resident() - before)
"""


@pytest.mark.slow
def test_plans_of_sizes_that_never_come_again_are_not_kept():
    """oneDNN would keep a thousand of them, two gigabytes."""
    grown = float(subprocess.run([sys.executable, "-c", PLANS], capture_output=True, text=True, check=True).stdout)
    assert grown < 200, grown
