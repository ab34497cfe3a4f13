"""Answers on their way to the board: what a callback returned as rows, work beside the job, spans of time in words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

__all__ = ["answer_rows", "in_thread", "short", "span"]

LONGEST_TEXT = 4000  # characters of a text that go to the page


def answer_rows(value: Any, prompts: Sequence[str]) -> list[dict[str, Any]]:
    """What a callback returned, as table rows of short texts and numbers."""
    if isinstance(value, Mapping):
        return [{"measure": str(k).replace("_", " "), "value": short(v)} for k, v in _with_interval(value).items()]
    if isinstance(value, str):
        return [{"answer": short(value)}]
    rows = []
    for place, item in enumerate(value):
        row = dict(item) if isinstance(item, Mapping) else {"response": item}
        prompt = {"prompt": prompts[place]} if place < len(prompts) and "prompt" not in row else {}
        rows.append({str(k): short(v) for k, v in {**prompt, **row}.items()})
    return rows


def _with_interval(values: Mapping[str, Any]) -> dict[str, Any]:
    """A win rate and the ends of its interval as one line of the table."""
    told = [values.get(key) for key in ("win_rate", "low", "high")]
    if not all(isinstance(v, (int, float)) for v in told):
        return dict(values)
    rate, low, high = told
    kept = {key: value for key, value in values.items() if key not in ("low", "high")}
    return {**kept, "win_rate": f"{100 * rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"}


def short(value: Any) -> Any:
    """A plain JSON value: numbers rounded to five places, what is not finite as text, texts cut."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return round(float(value), 5) if value == value and abs(value) != float("inf") else str(value)
    return str(value)[:LONGEST_TEXT]


def in_thread(work: Callable[[], Any]) -> Future:
    """Run `work` in a thread of its own."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def span(seconds: float) -> str:
    """Seconds in words: 40 s, 12 min, 1.5 h."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
