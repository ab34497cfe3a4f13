"""Freed memory is kept for the next tensor: on a CPU the system otherwise hands out the same pages again and again.

The C library gives what lies free at the end of its heap back to the system. A pass frees its tensors and the next one
asks for as much; each page then comes by a fault, which in a virtual machine takes microseconds.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

__all__ = ["keep_freed_memory"]

KEPT = 2**30  # bytes that may lie free at the end of the heap
ALONE = 32 * 2**20  # larger tensors have memory of their own as before, given back at once; glibc takes no more than this
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's numbers, from malloc.h


@cache
def keep_freed_memory() -> bool:
    """Tell glibc, once for this process; False where the C library is another one. What a tensor holds is not touched."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_TRIM_THRESHOLD, KEPT)) and bool(library.mallopt(M_MMAP_THRESHOLD, ALONE))
