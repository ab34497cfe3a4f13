"""The model sheet: one HTML page per run with curves, numbers, samples, turned knobs and provenance of every stage."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.batch.pages import caution, duration, made_with, moment, short, write_page
from labkit.disk import read_jsonl
from labkit.errors import RunError
from labkit.runs import Run, StageFolder
from labkit.types import Step

__all__ = ["write_sheet"]

SAMPLES = 12
_TEXT_LIMIT = 1200
#: Keys of run.json that have a place of their own on the page.
_OWN_PLACE = {"stage", "status", "started", "ended", "pid", "process_began", "host", "error"}
_KNOWN = _OWN_PLACE | {"settings", "seed", "parents", "commit", "versions", "platform", "resumed"}


def write_sheet(run: Run, page: Path | None = None) -> Path:
    """Write the model sheet of `run` (default: runs/<name>/report/sheet.html); RunError where it has no stage."""
    stages = run.stages()
    if not stages:
        raise RunError(f"{run.path} holds no stage, so there is nothing to put on a sheet; run a notebook first.")
    described = [_describe(run, stage) for stage in stages]
    return write_page(
        page or run.path / "report" / "sheet.html",
        "sheet.html",
        title=f"Model sheet of run {run.name}",
        made=made_with(run),
        caution=caution(run),
        folder=str(run.path),
        commit=stages[-1].manifest.get("commit"),
        stages=described,
    )


def _describe(run: Run, stage: StageFolder) -> dict[str, Any]:
    """All that the template shows of one stage."""
    manifest, steps = stage.manifest, stage.steps()
    facts = {k: v for k, v in manifest.items() if k not in _KNOWN and isinstance(v, (int, float, str))}
    last = dict(steps[-1].metrics) if steps else {}
    results = _results(stage)
    return {
        "name": stage.path.name,
        "status": stage.status,
        "error": manifest.get("error"),
        "started": moment(manifest["started"]),
        "minutes": duration(manifest),
        "steps": steps[-1].number if steps else 0,
        "seed": manifest.get("seed"),
        "parents": list((manifest.get("parents") or {}).items()),
        "pictures": _pictures(stage, steps, results),
        "numbers": [(k, short(v)) for k, v in {**last, **facts}.items()],
        "tables": [*_result_tables(results), *_sample_tables(run, stage, steps)],
        "ledger": [_ledger_row(r) for r in stage.ledger() if r.get("by") != "controller"],
        "provenance": json.dumps({k: v for k, v in manifest.items() if k not in _OWN_PLACE}, indent=1, default=str),
    }


def _results(stage: StageFolder) -> dict[str, Any]:
    """What an evaluation wrote: results.json of the stage, or nothing."""
    file = stage.path / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _pictures(stage: StageFolder, steps: list[Step], results: dict[str, Any]) -> list[dict[str, str]]:
    """The stage's figures as PNG in base64, and in words: training curves, times, win rates, benchmarks."""
    from labkit.errors import DataError
    from labkit.figures import alignment_tax, bundle, time_profile, training_curves, win_rates

    preferences = [{"name": r["model"], **r} for r in results.get("preferences", ())]
    benchmarks = [r for r in results.get("benchmarks", ()) if r["benchmark"] != "lm_loss"]  # nats, not a share
    drawn = []
    for draw, data in (
        (lambda: training_curves(stage, columns=3), steps),
        (lambda: time_profile(stage), steps),
        (lambda: win_rates(preferences, title=f"Preferred to {results['baseline']}"), preferences),
        (lambda: alignment_tax(benchmarks, title="Benchmarks"), benchmarks),
    ):
        with contextlib.suppress(DataError):  # no panel has data, as in a stage that only measured its end
            drawn += [bundle(draw())] if data else []
    return [{"png": shown["image/png"], "words": shown["text/plain"]} for shown in drawn]


def _result_tables(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Every list of records in results.json as a table of its scalar columns."""
    lists = {k: v for k, v in results.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
    return [_table(name, rows) for name, rows in lists.items()]


def _sample_tables(run: Run, stage: StageFolder, steps: list[Step]) -> list[dict[str, Any]]:
    """Samples: of the last step that kept any, or of all models side by side where the stage wrote samples.jsonl."""
    kept = next((s.samples for s in reversed(steps) if s.samples), ())[:SAMPLES]
    if kept:
        rows = [{k: v for k, v in row.items() if k != "prompt_id"} for row in kept]
        return [_table("Samples of the last step that kept any", rows)]
    from labkit.figures.text import answer

    file = stage.path / "samples.jsonl"
    if not file.is_file():
        return []
    beside: dict[str, dict[str, str]] = {}
    for row in read_jsonl(file):
        beside.setdefault(row["prompt_id"], {}).setdefault(row["model"], row["text"])
    texts = {
        row["id"]: row["text"] for part in sorted((run.path / "prompts").glob("*.jsonl")) for row in read_jsonl(part)
    }
    rows = [{"prompt": texts.get(i, i), **{m: answer(t) for m, t in own.items()}} for i, own in list(beside.items())[:SAMPLES]]
    return [_table("One answer of each model to the same prompts", rows)]


def _table(caption: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Columns and cells for the template; hidden characters of texts are made visible, long texts are cut."""
    from labkit.figures.text import cell

    scalar = (str, int, float)
    columns = [c for c in dict.fromkeys(k for row in rows for k in row) if isinstance(rows[0].get(c, ""), scalar)]
    cells = [
        [
            {"text": cell(c, short(row.get(c)))[:_TEXT_LIMIT], "number": isinstance(row.get(c), (int, float))}
            for c in columns
        ]
        for row in rows
    ]
    return {"caption": caption, "columns": columns, "rows": cells}


def _ledger_row(row: dict[str, Any]) -> list[str]:
    reason = f"{row['outcome']}: {row['reason']}" if row.get("reason") else row["outcome"]
    return [short(row.get(k)) for k in ("step", "knob", "old", "new")] + [reason, row["by"], row.get("why", "")]
