"""Where prompts, demonstrations, labelers and pretraining text come from: the embedded world, or a folder of your own files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from labkit.data.prepare import Report, prepare
from labkit.errors import DataError
from labkit.experiment.amounts import Amounts
from labkit.labels.exchange.rows import short_hash
from labkit.seeds import derive_seed
from labkit.types import Completion, Demonstration, Prompt, Ranking

__all__ = ["FolderSource", "Source", "WorldSource"]


class Source(Protocol):
    """What an experiment asks of its data. `gold` and `rank` are None where nobody can judge (no world, no labelers)."""

    name: str
    max_new_tokens: int | None  # length limit of a response; None: the preset's

    def prompts(self, amounts: Amounts, seed: int) -> tuple[list[Prompt], Report]: ...
    def demonstrations(self, prompts: Sequence[Prompt], seed: int, by_prompt: bool = False) -> list[Demonstration]: ...
    def rank(self, prompt: Prompt, completions: Sequence[Completion], seed: int) -> Ranking: ...
    def pretraining(self, count: int, seed: int) -> list[str]: ...


class WorldSource:
    """The closed English world: everything is simulated, and the truth is known."""

    name = "world"
    max_new_tokens: int | None = None

    def __init__(self) -> None:
        from labkit.world.facts import build_world
        from labkit.world.labelers import hire_labelers

        self.world = build_world(0)
        staff = hire_labelers()
        self.labelers = [x for x in staff if x.group == "train"]
        self.held_out_labelers = [x for x in staff if x.group != "train"]

    def prompts(self, amounts: Amounts, seed: int) -> tuple[list[Prompt], Report]:
        """Prompts after the paper's preparation, with the report of what it removed."""
        from labkit.world.prompts import sample_prompts

        return prepare(sample_prompts(self.world, amounts.raw_prompts, seed))

    def demonstrations(self, prompts: Sequence[Prompt], seed: int, by_prompt: bool = False) -> list[Demonstration]:
        """One demonstration per prompt, the training labelers in turn; by_prompt: each by lot of (seed, prompt) alone."""
        lot = [derive_seed(seed, "who writes", p.id) if by_prompt else i for i, p in enumerate(prompts)]
        return [self.labelers[n % len(self.labelers)].demonstrate(p, seed) for n, p in zip(lot, prompts, strict=True)]

    def rank(self, prompt: Prompt, completions: Sequence[Completion], seed: int) -> Ranking:
        """One training labeler's ranking; who gets a prompt depends on (seed, prompt) alone."""
        return self.labelers[derive_seed(seed, "who ranks", prompt.id) % len(self.labelers)].rank(
            prompt, completions, seed
        )

    def pretraining(self, count: int, seed: int) -> list[str]:
        """Documents of the kind that the base was pretrained on."""
        from labkit.world.corpus import documents

        return list(documents(self.world, seed, count))

    def gold(self, prompts: Sequence[Prompt], texts: Sequence[str], finished: Sequence[bool]) -> list[float]:
        """The judge's gold utility of each response."""
        from labkit.world.judge import judge

        return [judge(p, t, f).utility for p, t, f in zip(prompts, texts, finished, strict=True)]


def by_text(prompts: Sequence[Prompt]) -> list[Prompt]:
    """One prompt per text: what the first leaves open (user, split, use case) the later ones say.

    Two texts with one id, as where two files number their rows, get ids of their own.
    """
    found: dict[str, Prompt] = {}
    for prompt in prompts:
        first = found.setdefault(prompt.text, prompt)
        told = {
            name: getattr(prompt, name)
            for name, open_ in (("user", ""), ("split", ""), ("use_case", "other"))
            if getattr(first, name) == open_
        }
        found[prompt.text] = replace(first, **told)
    ids = Counter(p.id for p in found.values())
    return [p if ids[p.id] == 1 else replace(p, id=f"{p.id}-{short_hash(p.text)}") for p in found.values()]


class FolderSource:
    """A folder of your own data, in any form that `labkit.data.sources` reads.

    demonstrations.jsonl (needed), comparisons.jsonl (for the reward model; else what is ranked by hand), prompts.jsonl (for PPO; else the
    demonstrations' prompts), pretraining.txt (for PPO-ptx; documents apart by blank lines). There may be few of them, so
    that all stages learn from the same prompts; those of the test split are kept from all of them.
    """

    gold = None

    def __init__(self, folder: str | Path, *, max_new_tokens: int | None = None) -> None:
        self.folder = Path(folder)
        self.name = str(folder)
        self.max_new_tokens = max_new_tokens
        if not self.folder.is_dir():
            raise DataError(
                f"There is no folder {self.folder}; give one that holds demonstrations.jsonl and comparisons.jsonl, or 'world'."
            )

    def prompts(self, amounts: Amounts, seed: int) -> tuple[list[Prompt], Report]:
        """All prompts of the folder after the paper's preparation."""
        from labkit.data.sources import load_prompts

        file = self.folder / "prompts.jsonl"
        found = load_prompts(file) if file.exists() else []
        return prepare(by_text([*found, *(d.prompt for d in self._demonstrations())]))

    def demonstrations(self, prompts: Sequence[Prompt], seed: int, by_prompt: bool = False) -> list[Demonstration]:
        """The folder's own demonstrations of these prompts, told by their texts: each file may number its rows."""
        wanted = {p.text: p for p in prompts}
        return [
            Demonstration(wanted[d.prompt.text], d.text, d.labeler)
            for d in self._demonstrations()
            if d.prompt.text in wanted
        ]

    @property
    def has_pretraining(self) -> bool:
        """Whether the folder brings pretraining text."""
        return (self.folder / "pretraining.txt").exists()

    @property
    def has_rankings(self) -> bool:
        """Whether the folder brings comparisons of its own."""
        return (self.folder / "comparisons.jsonl").exists()

    def rankings(self) -> list[Ranking]:
        """The folder's comparisons, as rankings with all their pairs.

        What an export of a labeling tool leaves open (which field is the prompt, in which order buckets stand) may lie
        beside it in comparisons.options.json.
        """
        from labkit.data.sources import load_rankings, read_options

        beside = self.folder / "comparisons.options.json"
        options = read_options(beside) if beside.exists() else {}
        try:
            return load_rankings(self._file("comparisons.jsonl", "the reward model learns from it"), **options)
        except DataError as error:
            if not error.option:
                raise
            raise DataError(f"{error} In a folder of data it stands in {beside}, as {{\"{error.option}\": ...}}.") from None

    def pretraining(self, count: int, seed: int) -> list[str]:
        """Documents of pretraining.txt."""
        file = self._file("pretraining.txt", "PPO-ptx mixes it in, with ptx_coef = 0 it is not needed")
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{file} is not UTF-8 text; save it as UTF-8.") from None
        found = [part.strip() for part in text.split("\n\n") if part.strip()]
        if not found:
            raise DataError(
                f"{self.folder / 'pretraining.txt'} is empty; put text into it, documents apart by blank lines."
            )
        return found[:count]

    def _demonstrations(self) -> list[Demonstration]:
        from labkit.data.sources import load_demonstrations

        return load_demonstrations(self._file("demonstrations.jsonl", "SFT learns from it"))

    def _file(self, name: str, purpose: str) -> Path:
        file = self.folder / name
        if not file.exists():
            form = "Documents apart by blank lines" if file.suffix == ".txt" else "Any JSONL form that labkit.data.sources reads"
            raise DataError(f"{file} is missing: {purpose}. {form} will do.")
        return file

    def __getattr__(self, name: str) -> Any:
        if name in ("rank", "labelers", "held_out_labelers"):
            raise DataError(
                f"{self.folder} has no simulated labelers; rank completions by hand with RankingBoard, or give comparisons.jsonl."
            )
        raise AttributeError(name)
