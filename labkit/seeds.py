"""Randomness by address: every random number is drawn from (seed, step, purpose), never from what ran before.

So a resumed, replayed or rolled-back run equals the uninterrupted one.
"""

import hashlib
from numbers import Integral
from typing import Any

from labkit.errors import SettingsError

__all__ = ["checked_seed", "derive_seed"]


def derive_seed(seed: int, *address: int | str) -> int:
    """Return a 63-bit seed for the stream named by `address`, e.g. `derive_seed(0, 17, "sampling")`."""
    text = "/".join([str(seed), *map(str, address)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1


def checked_seed(seed: Any, name: str = "seed") -> int:
    """The seed as Python's own number, also where it is NumPy's; raises SettingsError where it is no whole number."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise SettingsError(f"{name} is {seed!r:.60}; give a whole number, as 0.")
    return int(seed)
