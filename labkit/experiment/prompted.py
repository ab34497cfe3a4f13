"""The base as "GPT-3 (prompted)": examples before the instruction, chosen in a competition.

The paper (section 3.5) put a few-shot prefix before GPT-3's prompts. It was found in a competition: several prefixes were
written, and the one whose answers to validation prompts the reward model scored highest won. Here the candidates are
written by a program: some layouts of question and answer, with demonstrations of the run as examples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from labkit.disk import write_json
from labkit.models import encode_prompt, load_reward_model, model_hash, score
from labkit.reward.data import response_ids
from labkit.sampling import complete
from labkit.sampling.engine import context_of_model
from labkit.seeds import derive_seed
from labkit.types import Completion, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.experiment.lab import Experiment

__all__ = ["FEW_SHOT", "RULES", "Contest", "Prompting", "hold_contest", "prompted_answers"]

FEW_SHOT = "few-shot"  # the name of the prompted base among the models of an evaluation

#: What stands before an instruction, and before its answer. The first one serves where nobody can judge.
LAYOUTS = {
    "Question / Answer": ("Question: ", "Answer:"),
    "Human / Assistant": ("Human: ", "Assistant:"),
    "- / Answer": ("", "Answer:"),
    "plain": ("", ""),
}
EXAMPLES = (2, 4)  # demonstrations before the instruction
DRAWS = 2  # of examples, for each layout and number
PROMPTS = 64  # validation prompts that every candidate answers
POOL, SHORT = 400, 0.25  # examples are the shortest quarter of the first demonstrations: the instruction needs the room
RULES = (LAYOUTS, EXAMPLES, DRAWS, PROMPTS, POOL, SHORT)  # all that decides who takes part

SEPARATOR = "\n"  # ends an answer: what a base writes after it is the next example


@dataclass(frozen=True)
class Prompting:
    """One few-shot prompt: a layout and its examples, each an instruction and its answer."""

    layout: str
    examples: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return f"{self.layout}, {len(self.examples)} examples"

    def around(self, instruction: str, fits: Callable[[str], bool] = lambda text: True) -> str:
        """The text that the base is to continue. Where it does not fit, examples are left out, the first ones first."""
        ask, reply = LAYOUTS[self.layout]
        asked = f"{ask}{instruction.strip()}{SEPARATOR}{reply}"
        shown = [
            f"{ask}{one.strip()}{SEPARATOR}{reply}{' ' * bool(reply)}{answer}{SEPARATOR}"
            for one, answer in self.examples
        ]
        texts = ("".join(shown[k:]) + asked for k in range(len(shown) + 1))
        return next((text for text in texts if fits(text)), asked)


@dataclass(frozen=True)
class Contest:
    """Who took part and who won."""

    candidates: tuple[Prompting, ...]
    scores: tuple[float, ...] = ()  # mean RM score of each; none where there is no reward model or no validation prompt

    @property
    def winner(self) -> Prompting:
        """The candidate with the highest score; without scores the first."""
        scores = self.scores or (0.0,)
        return self.candidates[max(range(len(scores)), key=scores.__getitem__)]

    def table(self) -> list[dict[str, Any]]:
        """One row per candidate, best first: layout, number of examples, mean RM score, and the prompt from its last example on."""
        scores = self.scores or ("not judged",) * len(self.candidates)
        rows = [
            {
                "layout": candidate.layout,
                "examples": len(candidate.examples),
                "RM score": score if isinstance(score, str) else round(score, 2),
                "ends": replace(candidate, examples=candidate.examples[-1:]).around("…"),
                "chosen": "yes" if candidate is self.winner else "",
            }
            for candidate, score in zip(self.candidates, scores, strict=True)
        ]
        return sorted(rows, key=lambda row: -row["RM score"]) if self.scores else rows

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Contest:
        named = [Prompting(c["layout"], tuple((a, b) for a, b in c["examples"])) for c in row["candidates"]]
        return cls(tuple(named), tuple(row["scores"]))


def prompted_answers(lab: Experiment, prompts: Sequence[Prompt], **options: Any) -> list[Completion]:
    """One answer of the prompted base to each prompt; options are those of `labkit.sampling.complete`."""
    return _answers(lab, lab.policy("base"), hold_contest(lab).winner, prompts, **options)


def hold_contest(lab: Experiment) -> Contest:
    """Let every candidate answer the same validation prompts, scored by the run's reward model.

    Written to runs/<name>/prompted.json, and read from there as long as nothing that it rests on has changed. Without
    a reward model, or without validation prompts, nobody is scored and the first candidate serves.
    """
    candidates, prompts = _candidates(lab), lab.prompts("valid")[:PROMPTS]
    folder = lab.run.stage("reward").model
    if not prompts or not folder.is_dir():
        return Contest(candidates)
    policy, judge = lab.policy("base"), load_reward_model(folder)
    texts = repr((candidates, [p.text for p in prompts]))
    rests_on = [model_hash(policy), model_hash(judge), derive_seed(lab.seed, texts)]
    file = lab.run.path / "prompted.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if known.get("rests_on") == rests_on:
        return Contest.from_json(known)
    asked = [encode_prompt(lab.tokenizer, p.text) for p in prompts]
    scores = []
    for candidate in candidates:  # the same random numbers for all
        drawn = _answers(lab, policy, candidate, prompts, seed=derive_seed(lab.seed, "contest"))
        scores.append(float(score(judge, asked, [response_ids(lab.tokenizer, c) for c in drawn]).mean()))
    contest = Contest(candidates, tuple(scores))
    write_json(file, {"rests_on": rests_on, **contest.to_json()})
    return contest


def _candidates(lab: Experiment) -> tuple[Prompting, ...]:
    """Every layout with every number of examples, some draws of each."""
    pool = sorted(lab.demonstrations("train")[:POOL], key=lambda d: len(d.prompt.text) + len(d.text))
    pool = pool[: max(max(EXAMPLES), round(SHORT * len(pool)))]
    found = []
    for layout in LAYOUTS:
        for number in EXAMPLES:
            for draw in range(DRAWS):
                rng = Random(derive_seed(lab.seed, "examples", number, draw))  # every layout with the same ones
                chosen = rng.sample(pool, min(number, len(pool)))
                found.append(Prompting(layout, tuple((d.prompt.text.strip(), d.text.strip()) for d in chosen)))
    return tuple(found)


def _answers(
    lab: Experiment, policy: PreTrainedModel, prompting: Prompting, prompts: Sequence[Prompt], **options: Any
) -> list[Completion]:
    """What the base writes after each prompt as `prompting` lays it out, up to where the next example would begin."""
    limit = context_of_model(policy)
    options = {"max_new_tokens": lab.max_new_tokens, "name": FEW_SHOT} | options

    def fits(text: str) -> bool:
        return limit is None or len(encode_prompt(lab.tokenizer, text)) + options["max_new_tokens"] <= limit

    shown = [replace(p, text=prompting.around(p.text, fits)) for p in prompts]
    drawn = complete(policy, lab.tokenizer, shown, stop=[SEPARATOR], **options)
    return [replace(c, text=c.text.strip(), sampling={**c.sampling, "prompted": prompting.name}) for (c,) in drawn]
