"""A cockpit on a toy job, the page that would hold its packets, and patience, for the tests of the boards."""

import time
from pathlib import Path

import numpy as np

from tests.toy_job import toy_job
from widgets.cockpit import Cockpit


def until(true, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


class Page:
    """What a browser would hold: the packets, laid over each other as the page does."""

    def __init__(self) -> None:
        self.curves: dict[int, dict] = {}

    def take(self, packets) -> None:
        for head, body in packets:
            if head["kind"] == "clear":
                self.curves.clear()
            elif head["kind"] == "drop":
                self.curves.pop(head["id"])
            else:
                rows = np.frombuffer(body, np.float32).reshape(-1, head["width"])
                old = self.curves.get(head["id"], {}).get("rows", rows[:0])
                assert head["start"] <= len(old), "a gap"
                self.curves[head["id"]] = {
                    "role": head["role"],
                    "name": head["name"],
                    "rows": np.vstack([old[: head["start"]], rows]),
                }
                assert len(self.curves[head["id"]]["rows"]) == head["count"]

    def steps(self, role: str) -> list[list[int]]:
        return [c["rows"][:, 0].astype(int).tolist() for c in self.curves.values() if c["role"] == role]


def board_of(tmp_path: Path, **options) -> tuple[Cockpit, list]:
    job = toy_job(tmp_path / "ppo", total=30, seconds=0.002, hostile=options.pop("hostile", False))
    board = Cockpit(job, **options)
    sent: list = []
    board.send = lambda head, buffers=None: sent.append((head, buffers[0]))
    return board, sent


def say(board: Cockpit, **message) -> None:
    board._hear(board, message)
