"""Prompts of the closed world: the paper's ten use cases in Table 1's proportions, from customers and labelers.

    prompts = sample_prompts(build_world(0), 4000, seed=0)

Customers send what they like, at very different rates (Zipf); some send a prompt again with a tail, or many prompts on
one long template, and some give away personal data. Labelers write plain, few-shot and user-based prompts. Every user
belongs to one split; only test prompts use held-out phrasings and held-out facts. `Prompt.meaning` is what the judge
reads; its "planted" entry says what the preparation (`labkit.data.prepare`) should find.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from random import Random
from typing import Any

from labkit.data.use_cases import USE_CASES
from labkit.errors import SettingsError
from labkit.seeds import derive_seed
from labkit.types import Prompt
from labkit.world.constraints import add_constraint
from labkit.world.facts import World
from labkit.world.personal import plant_personal_data
from labkit.world.phrasings import FEW_SHOT_HEADERS, PERSONAS, PHRASINGS, RESPECTFUL, TASKS
from labkit.world.responses import ideal_response
from labkit.world.tasks import draw_task

__all__ = ["SOURCES", "sample_prompts"]

#: Where prompts come from, with their shares (the paper's reward-model data: one in five by labelers).
SOURCES: dict[str, float] = {"customer": 0.64, "labeler_plain": 0.14, "labeler_fewshot": 0.12, "labeler_user": 0.10}

LABELERS = 40
HELD_OUT = 0.35  # share of test prompts with a held-out phrasing, and (drawn apart) with a held-out fact
CONSTRAINED = 0.6  # share of prompts with an explicit constraint, among the tasks that can have one
RESPECTFUL_SHARE = 0.04
PERSONAL_SHARE = 0.03  # of customers' prompts
DUPLICATE_SHARE = 0.08  # of customers' prompts
TRIES = 40  # draws for a text that nobody has sent before

_TAILS = ("", " Please.", " Thank you.", " Please help.", " Thank you, friend.", " Tell me now.")
_TEMPLATES = (
    "We write a book for children of our village and the book has one page for each thing in the world. "
    "Here is the next task for this page of the book. {}",
    "You are a kind assistant in the town library and you answer the letters that people write to us every day "
    "of the week. The next letter says this. {}",
    "This is a game for two friends. One friend says what to do and the other friend must do it at once with no "
    "more than a few words. Here it is. {}",
)


def sample_prompts(
    world: World, n: int, seed: int = 0, *, split: str | None = None, sources: Mapping[str, float] | None = None
) -> list[Prompt]:
    """Draw `n` prompts; the same (world, n, seed) gives the same prompts.

    `split` keeps to the users of "train", "valid" or "test"; `sources` replaces the shares of `SOURCES`.
    Raises SettingsError for an unknown split or source.
    """
    shares = dict(SOURCES if sources is None else sources)
    if unknown := sorted(set(shares) - set(SOURCES)):
        raise SettingsError(f"There is no prompt source {unknown[0]!r}; the sources are {', '.join(SOURCES)}.")
    if split not in (None, "train", "valid", "test"):
        raise SettingsError(f"There is no split {split!r}; the splits are train, valid and test.")
    writer = _Writer(world, n, seed, split)
    rng = Random(derive_seed(seed, "prompts", split or "all"))
    return [writer.write(rng.choices(list(shares), list(shares.values()))[0], rng) for _ in range(n)]


class _Writer:
    """Writes prompts one by one and remembers what was written, so that copies are copies on purpose."""

    def __init__(self, world: World, n: int, seed: int, split: str | None) -> None:
        self.world, self.seed, self.only = world, seed, split
        self.users = {"customer": self._pool("customer", max(24, n // 12)), "labeler": self._pool("labeler", LABELERS)}
        self.zipf = list(accumulate(1 / rank for rank in range(1, len(self.users["customer"]) + 1)))
        self.sent: dict[str, list[Prompt]] = {}  # by user
        self.first: dict[str, str] = {}  # bare text -> id of the first prompt with it
        self.count = 0

    def _pool(self, kind: str, size: int) -> list[tuple[str, str]]:
        """(user, split) pairs; after the five largest, which train, every seventh is valid and every seventh test."""
        pool = [(f"{kind}_{i:0{3 if kind == 'customer' else 2}d}", _split_of(i)) for i in range(size)]
        return [(user, split) for user, split in pool if self.only in (None, split)]

    def write(self, source: str, rng: Random) -> Prompt:
        """One prompt of this source."""
        if source == "customer":
            user, split = rng.choices(self.users["customer"], cum_weights=self.zipf)[0]
        else:
            user, split = rng.choice(self.users["labeler"])
        self.count += 1
        blank = Prompt(f"w{self.seed}-{self.only or ''}{self.count:05d}", "", source=source, user=user, split=split)
        earlier = self.sent.get(user, [])
        if source == "customer" and earlier and rng.random() < DUPLICATE_SHARE:
            prompt = _send_again(blank, rng.choice(earlier), rng)
        else:
            prompt = self._new(blank, rng)
        if len(prompt.text.split()) >= 5:
            self.sent.setdefault(user, []).append(prompt)
        return prompt

    def _new(self, blank: Prompt, rng: Random) -> Prompt:
        for _ in range(TRIES):
            use_case, task = _draw_use_case(blank.source, rng)
            meaning, bare = self._word(blank, task, rng)
            if bare not in self.first:
                break
        meaning["planted"] = {"duplicate_of": self.first.setdefault(bare, blank.id), "personal": []}
        if meaning["planted"]["duplicate_of"] == blank.id:
            meaning["planted"]["duplicate_of"] = None
        text = _dress(self.world, bare, meaning, blank, rng)
        if blank.source == "customer":
            text = self._on_template(text, meaning, blank, rng)
        if blank.source == "customer" and rng.random() < PERSONAL_SHARE:
            text, kind = plant_personal_data(text, rng)
            meaning["planted"]["personal"] = [kind]
        prompt = replace(blank, text=text + "\n", use_case=use_case, meaning=meaning)
        return _few_shot(self.world, prompt, bare, rng) if blank.source == "labeler_fewshot" else prompt

    def _word(self, blank: Prompt, task: str, rng: Random) -> tuple[dict[str, Any], str]:
        """A meaning and its bare wording, held out where the split is test and chance will have it."""
        unseen = blank.split == "test"
        held_out = {"phrasing": unseen and rng.random() < HELD_OUT, "fact": unseen and rng.random() < HELD_OUT}
        meaning = draw_task(self.world, task, rng, held_out["fact"])
        held_out["fact"] = (meaning.get("entity"), meaning.get("relation")) in self.world.held_out
        phrasing = PHRASINGS[task]
        worded = rng.choice(phrasing.held_out if held_out["phrasing"] else phrasing.usual).format(**meaning["slots"])
        return {**meaning, "held_out": held_out}, worded

    def _on_template(self, text: str, meaning: dict[str, Any], blank: Prompt, rng: Random) -> str:
        """A few prompts are one of many on a long template: near-duplicates of the first one on it."""
        if rng.random() >= DUPLICATE_SHARE / 8 or len(text.split()) > 16 or "Human:" in text:
            return text
        template = rng.choice(_TEMPLATES)
        original = self.first.setdefault(template, blank.id)
        meaning["planted"]["duplicate_of"] = original if original != blank.id else None
        return template.format(text)


def _split_of(rank: int) -> str:
    if rank < 5:
        return "train"
    return {1: "valid", 4: "test"}.get(rank % 7, "train")


def _draw_use_case(source: str, rng: Random) -> tuple[str, str]:
    use_case = rng.choices(list(USE_CASES), list(USE_CASES.values()))[0]
    tasks = TASKS[use_case]
    shots = {task: share for task, share in tasks.items() if task in FEW_SHOT_HEADERS}
    if source == "labeler_fewshot" and shots:
        tasks = shots
    return use_case, rng.choices(list(tasks), list(tasks.values()))[0]


def _dress(world: World, bare: str, meaning: dict[str, Any], blank: Prompt, rng: Random) -> str:
    """Add what may surround a bare instruction: a constraint, a wish for respect, who asks."""
    text = bare
    if blank.source == "labeler_fewshot":
        return text
    if rng.random() < CONSTRAINED:
        text = add_constraint(world, text, meaning, rng, held_out=meaning["held_out"]["phrasing"])
    if meaning["task"] in ("about", "describe", "story", "rude") and rng.random() < RESPECTFUL_SHARE:
        meaning["respectful"] = True
        text = f"{rng.choice(RESPECTFUL)} {text}"
    if blank.source == "labeler_user" and "Human:" not in text:
        text = f"{rng.choice(PERSONAS)} {text}"
    meaning.pop("slots", None)
    return text


def _few_shot(world: World, prompt: Prompt, bare: str, rng: Random) -> Prompt:
    """Put an instruction and two query/response pairs of the same task in front, where the task has a few-shot form."""
    task, meaning = prompt.meaning["task"], dict(prompt.meaning)
    slots = meaning.pop("slots", None)
    if task not in FEW_SHOT_HEADERS or slots is None:
        return replace(prompt, source="labeler_plain", meaning=meaning)
    phrasing = PHRASINGS[task]
    wordings = phrasing.held_out if meaning["held_out"]["phrasing"] else phrasing.usual
    worded = next(w for w in wordings if w.format(**slots) == bare)
    lines = [FEW_SHOT_HEADERS[task]]
    while len(lines) < 5:
        shown = draw_task(world, task, rng)
        query = worded.format(**shown.pop("slots"))
        answer = ideal_response(replace(prompt, meaning=shown, split="train"), rng)
        if query not in lines and query != bare:
            lines += [query, answer]
    return replace(prompt, text="\n".join([*lines, bare]) + "\n", meaning=meaning)


def _send_again(blank: Prompt, earlier: Prompt, rng: Random) -> Prompt:
    """The same customer sends a prompt again, exactly or with a tail."""
    tail = "" if "Assistant:" in earlier.text else rng.choice(_TAILS)
    planted = earlier.meaning["planted"]
    again = {**planted, "duplicate_of": planted["duplicate_of"] or earlier.id}
    text = earlier.text.rstrip("\n") + tail + "\n"
    return replace(blank, text=text, use_case=earlier.use_case, meaning={**earlier.meaning, "planted": again})
