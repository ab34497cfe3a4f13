"""The reader: the base of the reward model, a language model that has learnt to answer, to mark, and to know its surprise.

    python -m labkit.world.reader          # rebuilds bases/reader/ from bases/medium/

The paper's reward model came from a GPT-3 that had been fine-tuned on public question-answering data sets (appendix
C.2); this one comes from the medium base and the world's graded exercises (`labkit.world.exercises`), in two courses.
First it learns to answer, by imitation of right answers. Then it learns to mark: right answers must score above wrong
ones of the same question, in one scalar at the last token, while it goes on answering, and its states must tell how
likely it found each answer so far (`labkit.world.surprise`). The corpus keeps the language in both. The scalar's weights
are thrown away: what ships is a causal LM, and a reward model begins with a fresh head.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.world.exercises import Exercise, exercises
from labkit.world.facts import World, build_world
from labkit.world.pretrain import (
    BASES,
    CONTEXT,
    VALID_ROWS,
    Recipe,
    base_path,
    circumstances,
    corpus_loss,
    optimizers,
    schedule_of,
)
from labkit.world.probe import probe_facts
from labkit.world.rows import corpus_stream, packed_rows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["ANSWERING", "MARKING", "ReaderRecipe", "train_reader"]


@dataclass(frozen=True)
class ReaderRecipe(Recipe):
    """How the reader is made; layers, width and heads are those of `start`, `rows` are corpus rows per step."""

    start: str = "medium"  # the base that it begins from
    questions: int = 32  # exercises per step
    marks: bool = True  # it learns to mark, from wrong answers too; else to answer, from right ones alone
    stray: bool = True  # whether wrong answers of the wrong kind are among them


ANSWERING = ReaderRecipe(
    layers=4, width=128, heads=4, steps=1000, questions=64, marks=False, stray=False, rows=2, lr_matrices=5e-3,
    lr=2e-3, warmup=30, weight_decay=0.0,
)  # fmt: skip
MARKING = replace(
    ANSWERING,
    start="reader",
    steps=1500,
    questions=32,
    marks=True,
    stray=True,
    rows=3,
    lr_matrices=4e-3,
    lr=1e-3,
    seed=1,
)


def train_reader(
    folder: str | Path | None = None,
    recipe: ReaderRecipe = MARKING,
    world: World | None = None,
    report: Callable[[str], None] = print,
    *,
    start: Path | None = None,
) -> dict[str, Any]:
    """One course of the reader from the base `recipe.start`, saved to `folder` (default: where it ships); returns its record."""
    import torch

    from labkit.models import load_tokenizer, new_reward_model

    world, start = world or build_world(), Path(start or base_path(recipe.start))
    folder, tokenizer = Path(folder or base_path("reader")), load_tokenizer(start)
    model = new_reward_model(start, recipe.seed, device="cpu")
    valid = packed_rows(world, tokenizer, VALID_ROWS, CONTEXT, recipe.seed, split="valid")
    held_out = taken(tokenizer, exercises(world, recipe.seed, "valid", stray=recipe.stray), 400)
    pages = exercises(world, recipe.seed, stray=recipe.stray)
    corpus = corpus_stream(world, tokenizer, recipe.rows, CONTEXT, recipe.seed + 1)
    probe = _new_probe(model)
    optimized, started, curve = optimizers(model, recipe), time.perf_counter(), {}
    optimized.append(torch.optim.AdamW(probe.parameters(), lr=recipe.lr, betas=recipe.betas, weight_decay=0.0))
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: schedule_of(step, recipe)) for o in optimized]
    for step in range(1, recipe.steps + 1):
        model.train()
        learnt = course_loss(model, probe, taken(tokenizer, pages, recipe.questions), marks=recipe.marks)
        (learnt + _language_loss(model, next(corpus))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        for optimizer, scheduler in zip(optimized, schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        if step % max(1, recipe.steps // 20) == 0 or step == recipe.steps:
            curve[step] = round((marking_accuracy if recipe.marks else likelihood_accuracy)(model, held_out), 4)
            report(
                f"step {step}/{recipe.steps}: loss {learnt.item():.3f}, held-out pairs {curve[step]:.3f}, {time.perf_counter() - started:.0f} s"
            )
    seconds = time.perf_counter() - started
    accuracies = {"likelihood_accuracy": likelihood_accuracy(model, held_out)}
    accuracies |= {"marking_accuracy": marking_accuracy(model, held_out)} if recipe.marks else {}
    language = _as_language_model(model, start)
    language.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    language.float()
    record = {
        "size": "reader",
        "parameters": language.num_parameters(),
        "recipe": asdict(recipe),
        "world_seed": world.seed,
        "tokens": recipe.steps * recipe.rows * CONTEXT,
        "exercises": recipe.steps * recipe.questions,
        "accuracies": curve,
        **accuracies,
        "valid_loss": corpus_loss(language, valid),
        "facts": probe_facts(language, tokenizer, world),
        **circumstances(seconds),
    }
    if recipe.start == "reader":
        record["before"] = json.loads((start / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


Encoded = list[
    tuple[list[int], list[list[int]], int]
]  # prompt, responses with the right ones first, how many are right


def taken(tokenizer: PreTrainedTokenizerBase, stream: Iterator[Exercise], count: int) -> Encoded:
    """The next `count` exercises as token ids."""
    from labkit.models import encode_prompt, encode_response

    return [
        (
            encode_prompt(tokenizer, e.prompt.text),
            [encode_response(tokenizer, text) for text in (*e.right, *e.wrong)],
            len(e.right),
        )
        for e in islice(stream, count)
    ]


def course_loss(model: PreTrainedModel, probe: torch.nn.Linear, found: Encoded, *, marks: bool) -> torch.Tensor:
    """What one step of a course minimises, beside the language: to answer; with `marks`, to mark and to know its surprise."""
    import torch.nn.functional as F

    from labkit.models.loading import scalar_head
    from labkit.models.shared import completion_states
    from labkit.world.surprise import Answers, logprobs_of, surprise_loss

    if not marks:
        found = [(prompt, answers[:right], right) for prompt, answers, right in found]
    states = completion_states(model, [p for p, _, _ in found], [answers for _, answers, _ in found])  # (T, d)
    answers = Answers.of(found)
    logprobs = logprobs_of(model, states, answers)
    loss = -logprobs[answers.right].mean()
    if not marks:
        return loss
    scores = scalar_head(model)(states[answers.places[answers.ends]]).squeeze(1)  # one per answer
    marked = -sum(F.logsigmoid(m).mean() for m in margins_of(scores, found)) / len(found)
    return loss + marked + surprise_loss(probe, states, logprobs, answers)


def margins_of(scores: torch.Tensor, found: Encoded) -> list[torch.Tensor]:
    """For each exercise (right, wrong) margins: the score of each right answer less that of each wrong one."""
    parts = scores.float().split([len(answers) for _, answers, _ in found])
    return [part[:right, None] - part[None, right:] for part, (_, _, right) in zip(parts, found, strict=True)]


def marking_accuracy(model: PreTrainedModel, found: Encoded) -> float:
    """Share of (right, wrong) pairs in the right order by the model's scalar."""
    from labkit.models import completion_scores

    return _accuracy(
        model, lambda part: completion_scores(model, [p for p, _, _ in part], [a for _, a, _ in part]), found
    )


def likelihood_accuracy(model: PreTrainedModel, found: Encoded) -> float:
    """Share of (right, wrong) pairs in which the model finds the right answer likelier, by the mean over its tokens."""
    from labkit.models.shared import completion_states
    from labkit.world.surprise import Answers, logprobs_of, running_means

    def means(part: Encoded) -> torch.Tensor:
        states, answers = completion_states(model, [p for p, _, _ in part], [a for _, a, _ in part]), Answers.of(part)
        return running_means(logprobs_of(model, states, answers), answers.lengths)[answers.ends]

    return _accuracy(model, means, found)


def _accuracy(model: PreTrainedModel, judge: Callable[[Encoded], torch.Tensor], found: Encoded) -> float:
    """Share of (right, wrong) pairs that `judge`, which gives each answer of some exercises a number, orders right."""
    import torch

    model.eval()
    with torch.no_grad():
        parts = [found[start : start + 50] for start in range(0, len(found), 50)]
        margins = [m for part in parts for m in margins_of(judge(part), part)]
    return float(sum((m > 0).sum() for m in margins) / sum(m.numel() for m in margins))


def _new_probe(model: PreTrainedModel) -> torch.nn.Linear:
    """(d -> 2), zero: what an answer's tokens must tell of its log-probability."""
    import torch

    from labkit.models.loading import scalar_head

    probe = torch.nn.Linear(scalar_head(model).in_features, 2)
    torch.nn.init.zeros_(probe.weight)
    torch.nn.init.zeros_(probe.bias)
    return probe


def _language_loss(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss on corpus rows (B, T), through the tied embeddings."""
    import torch.nn.functional as F

    hidden = model.base_model(input_ids=ids).last_hidden_state  # (B, T, d)
    logits = hidden[:, :-1] @ model.get_input_embeddings().weight.T
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _as_language_model(model: PreTrainedModel, start: Path) -> PreTrainedModel:
    """The trained body as a causal LM with tied embeddings, as the base was."""
    from labkit.models import load_policy

    language = load_policy(start, device="cpu")
    language.base_model.load_state_dict(model.base_model.state_dict())
    return language


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the reward model's base from the medium one and the world's graded exercises."""
    parser = argparse.ArgumentParser(prog="python -m labkit.world.reader", description=main.__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of steps")
    parser.add_argument("--folder", type=Path, default=BASES / "reader", help="where to put it (default: the package)")
    options = parser.parse_args(arguments)
    for recipe in (ANSWERING, MARKING):
        shorter = replace(recipe, steps=max(1, round(recipe.steps * options.scale)))
        train_reader(options.folder, shorter, start=options.folder if recipe.start == "reader" else None)


if __name__ == "__main__":
    main()
