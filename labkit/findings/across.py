"""Models of different sizes on the same prompts: does a small aligned model beat a far larger unaligned one?

All sizes of one seed share their prompts, and their evaluations kept the answers; so the answers of the smallest
PPO-ptx model can be laid before held-out labelers beside those of the largest base, prompted base and SFT models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.disk import read_jsonl
from labkit.evaluation.winrate import Judgment, judgments_of, win_rate
from labkit.experiment import WorldSource
from labkit.findings.plan import Plan
from labkit.runs import Run
from labkit.seeds import derive_seed
from labkit.types import Completion, Prompt

__all__ = ["ALIGNED", "UNALIGNED", "compare_sizes"]

ALIGNED, UNALIGNED = "ppo_ptx", ("base", "few-shot", "sft")


def compare_sizes(plan: Plan, home: Path, seed: int) -> dict[str, Any]:
    """Win rates of the smallest aligned model over the largest unaligned ones: {"small", "large", "rows": [...]}."""
    small, large = plan.sizes[0], plan.sizes[-1]
    run = plan.cell(small, seed, home)
    prompts = {row["id"]: Prompt.from_json(row) for row in read_jsonl(run.path / "prompts" / "test.jsonl")}
    ours = _answers(run, (ALIGNED,), small)
    theirs = _answers(plan.cell(large, seed, home), UNALIGNED, large)
    judgments: list[Judgment] = []
    labelers = WorldSource().held_out_labelers
    for prompt_id, own in ours.items():
        labeler = labelers[derive_seed(seed, "across", prompt_id) % len(labelers)]
        shown = [*own, *theirs[prompt_id]]
        judgments += judgments_of([labeler.rank(prompts[prompt_id], shown, derive_seed(seed, "across"))])
    rows = [
        {"against": model, **win_rate(judgments, f"{small} {ALIGNED}", f"{large} {model}").to_json()}
        for model in UNALIGNED
    ]
    return {"small": small, "large": large, "rows": rows}


def _answers(run: Run, models: tuple[str, ...], size: str) -> dict[str, list[Completion]]:
    """Answers of the evaluation by prompt id; each model is named with its size."""
    found: dict[str, list[Completion]] = {}
    for row in read_jsonl(run.path / "evaluate" / "samples.jsonl"):
        completion = Completion.from_json(row)
        if completion.model in models:
            named = replace(completion, id=f"{size}-{completion.id}", model=f"{size} {completion.model}")
            found.setdefault(completion.prompt_id, []).append(named)
    return found
