"""Randomness by address: every random number is drawn from (seed, step, purpose), never from what ran before.

So a resumed, replayed or rolled-back run equals the uninterrupted one.
"""

import hashlib

__all__ = ["derive_seed"]


def derive_seed(seed: int, *address: int | str) -> int:
    """Return a 63-bit seed for the stream named by `address`, e.g. `derive_seed(0, 17, "sampling")`."""
    text = "/".join([str(seed), *map(str, address)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1
