"""When a response has ended: at its end token, at a sequence of tokens, or as soon as its text holds a string.

One rule says where (`length`), for every engine: the response ends with the first token that completes a stop, and that
token belongs to it, so that it is scored and trained on as it was sampled. Only a text is cut further (`shown`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from labkit.errors import DataError

__all__ = ["Stops"]

MARGIN = 4  # tokens more than a stop string can have: a letter whose first bytes are cut off, a space that a tokenizer drops


@dataclass(frozen=True)
class Stops:
    """The end token, and what else ends a response."""

    eos_id: int
    sequences: tuple[tuple[int, ...], ...] = ()  # of token ids
    strings: tuple[str, ...] = ()
    text_of: Callable[[list[int]], str] | None = None  # ids -> text, for strings

    @classmethod
    def of(
        cls, eos_id: int, stop: Sequence[Sequence[int] | str] = (), text_of: Callable[[list[int]], str] | None = None
    ) -> Stops:
        """Sorts strings from sequences of ids; raises DataError on an empty stop, and on a string without `text_of`."""
        if isinstance(stop, str) or not all(isinstance(s, Sequence) for s in stop):
            raise DataError(f"stop is {stop!r}; give a list of strings and of lists of ids, as in stop=['\\n', [13]].")
        if not all(len(s) for s in stop):
            raise DataError("A stop is empty, so that every response would end before it begins; leave it out.")
        strings = tuple(s for s in stop if isinstance(s, str))
        if strings and text_of is None:
            raise DataError(
                f"The stop {strings[0]!r} is text, which ids do not hold; give tokenizer= as well, or stop at token ids."
            )
        return cls(eos_id, tuple(tuple(map(int, s)) for s in stop if not isinstance(s, str)), strings, text_of)

    @property
    def more(self) -> bool:
        """Whether anything but the end token ends a response."""
        return bool(self.sequences or self.strings)

    def length(self, ids: Sequence[int]) -> int | None:
        """How many of these tokens the response has: up to and with the one that ends it; None: it has not ended."""
        end = ids.index(self.eos_id) + 1 if self.eos_id in ids else None
        if self.sequences:
            end = next((n for n in range(1, (end or len(ids)) + 1) if self._by_ids(ids, n)), None)
        if not self.by_text(ids[:end]):
            return end
        places = range(1, (end or len(ids)) + 1)  # a string that is there stays there: halving finds where it came
        return places[bisect_left(places, True, key=lambda n: self.by_text(ids[:n]))]

    def newest_ends(self, ids: Sequence[int]) -> bool:
        """Whether the last of these tokens ends a response that had not ended before it."""
        return self._by_ids(ids, len(ids)) or self.by_text(ids, since=len(ids) - 1)

    def _by_ids(self, ids: Sequence[int], n: int) -> bool:
        """Whether the n-th token is the end token, or completes a sequence."""
        return ids[n - 1] == self.eos_id or any(tuple(ids[max(0, n - len(s)) : n]) == s for s in self.sequences)

    def by_text(self, ids: Sequence[int], since: int = 0) -> bool:
        """Whether the text of these ids holds a stop string. The first `since` of them are known to hold none.

        Then only the newest are read, and all of them where these hold one: a piece may read otherwise than in its text.
        Where special tokens, which have no text, stretch a string beyond that, its row ends later, and `length` cuts it.
        """
        if not self.strings:
            return False
        begin = since - max(len(s.encode()) for s in self.strings) - MARGIN  # a token is one byte of a text, or more
        if begin > 0 and self._first_string(self.text_of(list(ids[begin:]))) is None:
            return False
        return self._first_string(self.text_of(list(ids))) is not None

    def _first_string(self, text: str) -> int | None:
        """Where the first stop string begins."""
        return min((at for s in self.strings if (at := text.find(s)) >= 0), default=None)

    def shown(self, text: str) -> str:
        """The text up to a stop string, without it."""
        return text[: self._first_string(text)]

    def detector(self, device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """(B, R) ids and (1,) the place of the newest -> (B,) bool: it ends its row. Nothing passes through the host.

        Strings are not seen, since text is for the host: rows that they end go on until someone looks.
        """
        patterns = [(torch.tensor(s, device=device), torch.arange(1 - len(s), 1, device=device)) for s in self.sequences]

        def ended(ids: torch.Tensor, newest: torch.Tensor) -> torch.Tensor:
            found = ids.index_select(1, newest).squeeze(1) == self.eos_id
            for pattern, back in patterns:
                places = newest + back  # may begin before the response, where nothing can match
                same = ids.index_select(1, places.clamp(min=0)) == pattern
                found = found | (same & (places >= 0)).all(1)
            return found

        return ended
