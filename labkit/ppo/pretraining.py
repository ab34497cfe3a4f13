"""The pretraining rows of PPO-ptx, made ready by a thread while the minibatch before them computes.

A minibatch's rows are addressed by its number, so it does not matter who makes them ready or when: a resumed run, and one
whose γ was turned on late, draw what they would have drawn anyway.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from labkit.errors import DataError
from labkit.ppo.rollout import addressed_rows

if TYPE_CHECKING:
    from accelerate import Accelerator

    from labkit.knobs import PPOKnobs
    from labkit.ppo.settings import PPOSettings

__all__ = ["Pretraining"]

WATCHED = 16  # rows on which the language loss is measured where γ is 0; one for each process, if there are more


class Pretraining:
    """Fresh rows for each minibatch, on the training device, one minibatch ahead of their use."""

    def __init__(self, rows: torch.Tensor | None, settings: PPOSettings, accelerator: Accelerator) -> None:
        self.rows, self.settings, self.device = rows, settings, accelerator.device
        self.watched = max(WATCHED, accelerator.num_processes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pretraining")
        self._ahead: tuple[int, Future[torch.Tensor]] | None = None

    def rows_of(self, number: int, inner: int, place: int, knobs: PPOKnobs, *, watch: bool) -> torch.Tensor | None:
        """(n, ptx_row) rows of a minibatch: all that are due where γ > 0, else a few to `watch` the loss on, else None."""
        if self.rows is None:
            if knobs.ptx_coef > 0:
                raise DataError(
                    "ptx_coef is above 0 but no pretraining rows were given; pass `pretraining`, or set ptx_coef to 0 for plain PPO."
                )
            return None
        if knobs.ptx_coef == 0 and not watch:
            return None
        minibatches = self.settings.batch // self.settings.minibatch
        minibatch = ((number - 1) * self.settings.inner_epochs + inner) * minibatches + place
        return self._take(minibatch) if knobs.ptx_coef > 0 else self._draw(minibatch)[: self.watched]

    def _take(self, minibatch: int) -> torch.Tensor:
        """The rows of this minibatch, from the thread if it has them; it begins on the next ones."""
        ahead, future = self._ahead or (None, None)
        rows = future.result() if ahead == minibatch else self._draw(minibatch)
        self._ahead = minibatch + 1, self._thread.submit(self._draw, minibatch + 1)
        return rows

    def _draw(self, minibatch: int) -> torch.Tensor:
        count = self.settings.ptx_rows
        places = addressed_rows(len(self.rows), minibatch * count, count, self.settings.seed, "pretraining")
        rows = self.rows[places]
        if self.device.type == "cuda":  # from pinned memory, behind the work under way: nobody waits for the copy
            rows = rows.pin_memory().to(self.device, non_blocking=True)
        return rows
