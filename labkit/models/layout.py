"""Where packed tokens stand while attention looks at them: on small grids, each of rows of about one length.

Rows of unequal length lie end to end in a packed row. Attention alone needs them side by side, so they are moved to
grids and back, once per layer. Rows stand at the left of a grid, so causality alone hides the padding at their right.
A kernel that knows where rows end reads them as they lie; it asks for `ends`, and no grid is laid out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby

import numpy as np
import torch

__all__ = ["Ends", "Layout", "Places"]

#: A grid takes rows up to this much longer than its shortest, and a few tokens more. On a CPU several small grids cost
#: less than the padding of one (attention of 64 rows of 17 to 74 tokens: a third); on a GPU one kernel for all is best.
STRETCH, SLACK = 1.25, 4
#: Rows of one length that lie side by side are a grid as they are. On a CPU that is best where a run has so many rows
#: (for each thread, as they share its rows): more calls of the kernel, but no padding, and nothing moves.
ALIKE = 4


@dataclass(frozen=True)
class Places:
    """Where each of T packed tokens stands on grids whose G places are numbered end to end."""

    grids: tuple[tuple[int, int], ...]  # (rows, longest) of each grid
    rows: tuple[int, ...]  # which row each row of the grids is
    where: torch.Tensor | None  # (G,) the packed token at each place, any on padding; None: the packed row is the grids already
    slots: torch.Tensor | None  # (T,) the place of each packed token
    padding: torch.Tensor | None  # (P,) places that hold none

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Places:
        """The places of rows of these lengths, whatever their order."""
        runs = [(len(list(run)), length) for length, run in groupby(lengths)]
        enough = ALIKE * torch.get_num_threads() * len(runs)
        if len(runs) == 1 or (device.type == "cpu" and len(lengths) >= enough):
            return cls(tuple(runs), tuple(range(len(lengths))), None, None, None)
        long = torch.tensor(lengths)
        starts = long.cumsum(0) - long
        where, real, grids, order = [], [], [], []
        for rows in _alike(lengths, math.inf if device.type == "cuda" else STRETCH):
            longest = lengths[rows[-1]]
            grids.append((len(rows), longest))
            order += rows
            where.append((starts[rows, None] + torch.arange(longest)).flatten())
            real.append((torch.arange(longest) < long[rows, None]).flatten())
        places, present = torch.cat(where), torch.cat(real)
        slots = torch.empty(int(long.sum()), dtype=torch.long)
        slots[places[present]] = present.nonzero().squeeze(1)
        places[~present] = 0
        tensors = (t.to(device) for t in (places, slots, (~present).nonzero().squeeze(1)))
        return cls(tuple(grids), tuple(order), *tensors)


@dataclass(frozen=True)
class Layout:
    """Rows of these lengths, end to end in a packed row of T tokens on `device`."""

    lengths: tuple[int, ...]
    device: torch.device
    keep: torch.Tensor | None = None  # (N,) places in the packed row where results of attention are wanted; None: all

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Layout:
        return cls(tuple(lengths), device)

    @cached_property
    def places(self) -> Places:
        return Places.of(self.lengths, self.device)

    @cached_property
    def runs(self) -> tuple[tuple[int, int, int], ...] | None:
        """Where the packed row is the grids already: (rows, length, first place of a row at which a result is wanted) of each."""
        if self.places.where is not None:
            return None
        grids = self.places.grids
        firsts = [0] * len(grids) if self.keep is None else _firsts(grids, self.keep.numpy())
        return tuple((*grid, first) for grid, first in zip(grids, firsts, strict=True))

    @cached_property
    def ends(self) -> torch.Tensor:
        """(rows + 1,) int32: where each row begins in the packed row, and where the last one ends."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32).to(self.device)

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def spread(self, packed: torch.Tensor) -> list[torch.Tensor]:
        """(1, H, T, d) packed -> for each grid (rows, H, longest, d)."""
        _, heads, tokens, width = packed.shape
        flat, places = packed[0].transpose(0, 1).reshape(tokens, heads * width), self.places
        if places.where is not None:
            flat = _Move.apply(flat, places.where, places.slots, None)
        parts = flat.split([rows * longest for rows, longest in places.grids])
        return [p.view(*grid, heads, width).transpose(1, 2) for p, grid in zip(parts, places.grids, strict=True)]

    def gather(self, grids: Sequence[torch.Tensor]) -> torch.Tensor:
        """For each grid (rows, H, longest, d) -> (1, T, H, d) packed."""
        heads, width = grids[0].shape[1], grids[0].shape[3]
        flat, places = torch.cat([g.transpose(1, 2).reshape(-1, heads * width) for g in grids]), self.places
        if places.where is not None:
            flat = _Move.apply(flat, places.slots, places.where, places.padding)
        return flat.view(1, -1, heads, width)


@dataclass(frozen=True)
class Ends:
    """Rows of which only the ends are known, not their number or lengths: enough for a kernel that reads them as they lie."""

    ends: torch.Tensor  # (rows + 1,) int32; a row may be empty
    longest: int  # no row is longer


class _Move(torch.autograd.Function):
    """x[places]; the gradient comes back by plain reading too, since every token has one place and padding none."""

    @staticmethod
    def forward(ctx, x, places, back, blank):
        ctx.save_for_backward(back, blank)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx, grad):
        back, blank = ctx.saved_tensors
        grad = grad.index_select(0, back)
        return (grad if blank is None else grad.index_fill_(0, blank, 0.0)), None, None, None


def _firsts(grids: Sequence[tuple[int, int]], keep: np.ndarray) -> list[int]:
    """For each grid, of rows end to end, the least place within a row that a kept place (N,) has; the last where none has."""
    rows, lengths = np.array(grids).T
    starts = np.cumsum(rows * lengths) - rows * lengths
    grid = np.searchsorted(starts, keep, side="right") - 1
    firsts = lengths - 1
    np.minimum.at(firsts, grid, (keep - starts[grid]) % lengths[grid])
    return firsts.tolist()


def _alike(lengths: Sequence[int], stretch: float) -> list[list[int]]:
    """Row indices, shortest rows first; the longest of a group is at most `stretch` times its shortest, plus slack."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups and lengths[i] <= stretch * lengths[groups[-1][0]] + SLACK:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
