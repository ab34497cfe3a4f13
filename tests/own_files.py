"""A folder of one's own data in the README's forms, made from a run of the world so that it needs no download."""

from __future__ import annotations

from pathlib import Path

from labkit.disk import write_jsonl
from labkit.experiment import Experiment


def own_files(lab: Experiment, folder: Path) -> Path:
    """Write demonstrations, comparisons (pairs, as TRL's) and pretraining text to `folder`, which is returned."""
    folder.mkdir(parents=True)
    write_jsonl(
        folder / "demonstrations.jsonl",
        ({"prompt": d.prompt.text, "completion": d.text} for d in lab.demonstrations()[:60]),
    )
    pairs = [
        {"prompt": r.prompt.text, "chosen": texts[a], "rejected": texts[b]}
        for r in lab.rankings()
        for texts in [{c.id: c.text for c in r.completions}]
        for a, b in r.pairs()[:2]
    ]
    write_jsonl(folder / "comparisons.jsonl", pairs)
    (folder / "pretraining.txt").write_text("\n\n".join(lab.source.pretraining(400, 1)), encoding="utf-8")
    return folder
