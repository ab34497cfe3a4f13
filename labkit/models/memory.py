"""Freed memory is kept for the next tensor: on a CPU the system otherwise hands out the same pages again and again.

The C library gives what lies free at the end of its heap back to the system. A pass frees its tensors and the next one
asks for as much; each page then comes by a fault, which in a virtual machine takes microseconds.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

import psutil

__all__ = ["keep_freed_memory"]

KEPT, SHARE = 2**28, 8  # bytes that may lie free at the end of the heap, but no more than an eighth of the machine's
ALONE = 32 * 2**20  # larger tensors have memory of their own as before, given back at once; glibc takes no more than this
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's numbers, from malloc.h


@cache
def keep_freed_memory() -> bool:
    """Tell glibc, once for this process; False where the C library is another one, or was told something by the user already."""
    if platform.libc_ver()[0] != "glibc" or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    library, kept = ctypes.CDLL(None), min(KEPT, psutil.virtual_memory().total // SHARE)
    return bool(library.mallopt(M_TRIM_THRESHOLD, kept)) and bool(library.mallopt(M_MMAP_THRESHOLD, ALONE))
