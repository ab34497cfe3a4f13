"""Whose turn it is where several jobs train in one process: all step at once, but one that begins does so alone.

What a first Step builds (a Trainer's arguments, accelerate's state) is one for the whole process and is taken apart for a
moment while it is built anew; a step of another job that looked at it then would fail.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["in_turns", "turn"]

T = TypeVar("T")

_changed = threading.Condition()
_stepping = 0
_beginning = False


def in_turns(steps: Iterable[T]) -> Iterator[T]:
    """Steps that no job makes, beside those of jobs: the first alone, each other beside theirs."""
    found, first = iter(steps), True
    while True:
        with turn(first):
            try:
                step = next(found)
            except StopIteration:
                return
        first = False
        yield step


@contextlib.contextmanager
def turn(first: bool) -> Iterator[None]:
    """Inside, the calling job makes one Step; with `first` no other job makes one meanwhile."""
    global _stepping, _beginning
    with _changed:
        _changed.wait_for(lambda: not _beginning)
        if first:
            _beginning = True  # before the wait, so that others' next steps cannot keep it waiting for ever
            _changed.wait_for(lambda: not _stepping)
        else:
            _stepping += 1
    try:
        yield
    finally:
        with _changed:
            if first:
                _beginning = False
            else:
                _stepping -= 1
            _changed.notify_all()
