"""The Experiment: which data, which models and which settings make one run, and the jobs that carry it out.

Everything it makes lies in the run folder; a stage finds what it needs there, so notebooks may run one by one, and
`ensure` makes what is missing first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import ppo, reward, sft
from labkit.data.prepare import drop_long
from labkit.disk import read_all, write_json, write_jsonl
from labkit.errors import DataError, RunError, SettingsError
from labkit.experiment import needs
from labkit.experiment.amounts import amounts
from labkit.experiment.batches import with_batches_kept
from labkit.experiment.checked import check_given
from labkit.experiment.epochs import drop_superseded, with_epochs_kept
from labkit.experiment.own import join_by_hand, own_splits, prepared, ranked_by_hand
from labkit.experiment.shown import completions_to_rank
from labkit.experiment.sources import FolderSource, Source, WorldSource
from labkit.experiment.vocabulary import shared_tokenizer
from labkit.jobs import Job, by_hand_every
from labkit.knobs import Dial, RewardKnobs, Schedule, SFTKnobs
from labkit.models import (
    context_of,
    encode_prompt,
    encode_response,
    load_policy,
    load_reward_model,
    model_hash,
    save_model,
)  # fmt: skip
from labkit.presets import preset
from labkit.runs import FACTS, Run, StageFolder
from labkit.seeds import checked_seed, derive_seed
from labkit.types import Demonstration, Prompt, Ranking, Step
from labkit.world.pretrain import model_path, own_folder, usual_judge

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Experiment"]

USES = ("sft", "reward", "ppo")  # the paper's three sets of training prompts


class Experiment:
    """One run of the method.

    run: where everything lies. scale: smoke, tour or full. model: what the policy starts from, a size of the world's base
    (small, medium, large), a folder or a hub name. reward_base: the same for the reward and value model, or "reader",
    the world's base that has learnt to answer and to mark; as in the paper one kind of RM serves policies of every size.
    data: "world" or a folder of your own files. What is not given is what the run was prepared with; else "tour", 0,
    "medium", the reader for the world's bases and the model itself for others, and "world".
    """

    def __init__(
        self,
        run: Run,
        *,
        scale: str | None = None,
        seed: int | None = None,
        model: str | Path | None = None,
        reward_base: str | Path | None = None,
        data: str | Path | None = None,
    ) -> None:
        if not isinstance(run, Run):
            raise SettingsError(f"An experiment lies in a run, not in {run!r:.60}; give Run({str(run)!r:.60}) of labkit.runs.")
        recorded = run.facts
        scale = recorded.get("scale", "tour") if scale is None else scale
        seed = recorded.get("seed", 0) if seed is None else checked_seed(seed)
        self.run, self.scale, self.seed = run, scale, seed
        self.preset, self.amounts = preset(scale), amounts(scale)
        model = str(model or recorded.get("model", "medium"))
        reward_base = str(reward_base or recorded.get("reward_base", usual_judge(model)))
        data = str(data or recorded.get("data", "world"))
        given = {"scale": scale, "seed": seed, "model": model, "reward_base": reward_base, "data": data}
        self.facts = {name: own_folder(name, value) for name, value in given.items()}
        self._check_same(recorded)
        self.data, self.model, self.reward_base = self.facts["data"], *(model_path(self.facts[name]) for name in ("model", "reward_base"))
        self._said: set[str] = set()

    # -- data ---------------------------------------------------------------------------------------------------

    @cached_property
    def source(self) -> Source:
        """Where the data come from."""
        return WorldSource() if self.data == "world" else FolderSource(self.data)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's, whose ids the reward model is asked about too; ModelError where that one has another vocabulary."""
        return shared_tokenizer(self.model, self.reward_base)

    @property
    def max_new_tokens(self) -> int:
        """Length limit of a response, in tokens."""
        return self.source.max_new_tokens or self.preset.ppo.max_new_tokens

    @cached_property
    def longest_prompt(self) -> int | None:
        """Most tokens of a prompt: half the context, as in the paper, or what a response leaves of it; None: no limit."""
        contexts = [c for c in map(context_of, (self.model, self.reward_base)) if c]
        return min((min(c // 2, c - self.max_new_tokens) for c in contexts), default=None)

    def prepare(self) -> Any:
        """Draw and prepare the prompts, have demonstrations written; returns the report of the preparation."""
        prompts, report = self.source.prompts(self.amounts, self.seed)
        if self.longest_prompt is not None:
            prompts, report = drop_long(
                prompts, report, self.longest_prompt, lambda text: len(encode_prompt(self.tokenizer, text))
            )
        check_given(self, prompts)
        folder = self.run.path / "prompts"
        write_json(self.run.path / FACTS, self.facts)
        for split in ("train", "valid", "test"):
            write_jsonl(folder / f"{split}.jsonl", (p.to_json() for p in prompts if p.split == split))
        for split, limit in (("train", self.amounts.demonstrations), ("valid", self.amounts.valid_prompts)):
            chosen = self.prompts(split, "sft")[:limit]
            written = self.source.demonstrations(chosen, self.seed)
            write_jsonl(self.run.path / "demonstrations" / f"{split}.jsonl", (d.to_json() for d in written))
        return report

    def prompts(self, split: str = "train", use: str | None = None) -> list[Prompt]:
        """Prepared prompts of a split; with `use` (sft, reward, ppo) that stage's share of the world's, as in the paper's Table 6."""
        if use is not None and use not in USES:
            raise SettingsError(f"There is no use {use!r} of prompts; the uses are {', '.join(USES)}.")
        rows = read_all(Prompt, self._prepared("prompts", split))
        if use is None or split != "train" or isinstance(self.source, FolderSource):
            return rows
        drawn = self.run.facts.get("data_seed", self.seed)  # a sweep over seeds trains anew on the same shares
        return [p for p in rows if USES[derive_seed(drawn, "use", p.id) % len(USES)] == use]

    def demonstrations(self, split: str = "train") -> list[Demonstration]:
        """The labelers' demonstrations."""
        return read_all(Demonstration, self._prepared("demonstrations", split))

    def rankings(self, split: str = "train") -> list[Ranking]:
        """The rankings made for the reward model; those labeled by hand in this run (labels/) join the training ones.

        A label by hand whose prompt, or its customer, is held out does not join; how many is said once.
        """
        home = self.run.path / "rankings"
        file = home / f"{split}.jsonl"
        if not file.exists():
            raise RunError(f"{file} does not exist: no completions were ranked in this run. Run 03_rank first (in code: lab.rank()).")
        made, by_hand = read_all(Ranking, file), ranked_by_hand(self) if split == "train" else []
        if not by_hand:
            return made
        held = [r.prompt for r in read_all(Ranking, home / "valid.jsonl")] if (home / "valid.jsonl").exists() else []
        joined, left_out = join_by_hand(made, by_hand, [*held, *prepared(self, "test")])
        if left_out:
            held_out = "take no part in training: their prompt, or its customer, is held out."
            self._say_once(f"{left_out} of the {len(by_hand)} rankings by hand {held_out}")
        return joined

    def pretraining_rows(self, ptx_row: int | None = None) -> torch.Tensor:
        """(M, ptx_row) packed token ids of pretraining text for PPO-ptx; ptx_row: by default the preset's."""
        import torch

        length, wanted = ptx_row or self.preset.ppo.ptx_row, self.amounts.pretraining_rows
        ids: list[int] = []
        for text in self.source.pretraining(wanted * 4, derive_seed(self.seed, "pretraining")):
            ids += encode_response(self.tokenizer, text)
            if len(ids) >= wanted * length:
                break
        rows = min(wanted, len(ids) // length)
        if rows == 0:
            raise DataError(
                f"The pretraining text has {len(ids)} tokens, less than one row of {length}; give more text."
            )
        return torch.tensor(ids[: rows * length]).view(rows, length)

    # -- stages -------------------------------------------------------------------------------------------------

    def sft_job(
        self, *, init: bool = False, name: str = "", schedule: Schedule | None = None, epochs: int | None = None, **changes: Any
    ) -> Job:
        """SFT on demonstrations, or (init) the PPO init model, with pretraining text mixed in.

        name: the stage's folder, for variants. epochs: None or 0: as many as the scale says. `changes` change single settings.
        """
        changes |= {"epochs": epochs} if epochs else {}
        name = name or ("ppo_init" if init else "sft")
        _ = self.tokenizer  # models that cannot go together are refused here, before anything is trained
        settings = (self.preset.ppo_init if init else self.preset.sft).but(seed=self.seed, **changes)
        state, folder = sft.start(self.model), self.run.stage(name)
        train, valid = self.demonstrations("train"), self.demonstrations("valid")
        if init and not self._has_pretraining(False):
            settings = settings.but(pretrain_share=0.0)
            self._say_once(f"{self.data} has no pretraining.txt, so the PPO init learns from demonstrations alone.")
        mixed = {"pretraining": self._texts_for_init(settings)} if init else {}
        loop, total = sft.init_loop if init else sft.loop, sft.total_steps(state, train, settings)

        def steps(knobs: Schedule) -> Iterator[Step]:
            found = loop(state, train, knobs, settings, valid=valid, **mixed)
            return found if init else with_epochs_kept(found, state, lambda: job.folder)

        def finish(to: StageFolder) -> sft.SFTState:
            state.save_model(to.model)
            write_json(to.path / "epochs.json", {"epochs": state.epochs, "chosen": state.chosen})
            drop_superseded(to, state)
            return state

        origins = ("base", "pretraining") if mixed.get("pretraining") else ("base",)
        job = Job(
            steps, folder=folder, schedule=schedule or Dial(SFTKnobs()), total=total, snapshot_every=by_hand_every(total),
            settings=settings.to_json(), seed=self.seed, parents=needs.fingerprints(self.run, "demonstrations", *origins), state=state, finish=finish,
        )  # fmt: skip
        return job

    def _texts_for_init(self, settings: sft.SFTSettings) -> list[str]:
        wanted = self.amounts.pretraining_texts
        return self.source.pretraining(wanted, derive_seed(self.seed, "init")) if settings.pretrain_share else []

    def choose_sft_epoch(self) -> dict[str, Any]:
        """Choose the SFT epoch by RM score on validation prompts, as the paper does, and make it the SFT model."""
        folder = self.run.stage("sft")
        judge = load_reward_model(self._model_of("reward"))
        rows = sft.score_epochs(
            folder.path / "epochs", self.demonstrations("valid"), judge, self.preset.sft.but(seed=self.seed)
        )
        best = max(rows, key=lambda row: row["rm_score"])
        save_model(load_policy(best["path"]), self.tokenizer, folder.model)
        chosen = {"epochs": rows, "chosen": {**best, "by": "rm_score"}}
        write_json(folder.path / "epochs.json", chosen)
        return chosen

    def rank(
        self, policies: dict[str, PreTrainedModel] | None = None, *, splits: Sequence[str] = ("train", "valid")
    ) -> dict[str, list[Ranking]]:
        """Sample K completions per prompt and have the simulated labelers rank them; returns the rankings by split.

        policies: name -> model, the main one last; by default the untrained base and the SFT model.
        """
        if isinstance(self.source, FolderSource):
            return self._split_own_rankings()
        policies = policies or {"base": load_policy(self.model), "sft": load_policy(self.run.stage("sft").model)}
        made = {}
        for split in splits:
            wanted = self.amounts.rankings if split == "train" else self.amounts.valid_rankings
            prompts = self.prompts(split, "reward")[:wanted]
            demonstrations = self.source.demonstrations(prompts, derive_seed(self.seed, "shown"))
            shown = completions_to_rank(
                policies, self.tokenizer, prompts, demonstrations, self.amounts,
                max_new_tokens=self.max_new_tokens, seed=derive_seed(self.seed, "rank", split),
            )  # fmt: skip
            made[split] = [
                self.source.rank(p, c, self.seed) for p, c in zip(prompts, shown, strict=True) if len(c) >= 2
            ]
            write_jsonl(self.run.path / "rankings" / f"{split}.jsonl", (r.to_json() for r in made[split]))
        return made

    def reward_job(
        self,
        *,
        name: str = "reward",
        schedule: Schedule | None = None,
        rankings: Sequence[Ranking] | None = None,
        **changes: Any,
    ) -> Job:
        """The reward model: learnt from whole rankings, centred on the demonstrations. name, changes: as for `sft_job`.

        rankings: to learn from in place of the run's training rankings, as where members of an ensemble are to differ.
        """
        settings, folder = self.preset.reward.but(**{"seed": self.seed, **changes}), self.run.stage(name)
        _ = self.tokenizer  # as in `sft_job`
        state = reward.start(self.reward_base, seed=settings.seed)
        train = list(rankings) if rankings is not None else self.rankings("train")
        valid, written = self.rankings("valid"), self.demonstrations("train")
        total = reward.total_steps(state, train, settings)

        def finish(to: StageFolder) -> reward.RewardState:
            state.centre_on(written)  # where it was stopped before the loop came to it
            state.check_saved(state.save_model(to.model), written)
            return state

        parents = needs.fingerprints(self.run, "demonstrations", "rankings", "labels", "reward_base")
        return Job(
            lambda knobs: reward.loop(state, train, knobs, settings, valid=valid, demonstrations=written),
            folder=folder, schedule=schedule or Dial(RewardKnobs()), total=total, snapshot_every=by_hand_every(total),
            settings=settings.to_json(), seed=self.seed, parents=parents, state=state, finish=finish,
        )  # fmt: skip

    def ppo_job(
        self,
        *,
        ptx: bool = True,
        name: str = "",
        schedule: Schedule | None = None,
        steps: int | None = None,
        init: str = "ppo_init",
        score: ppo.Reward | None = None,
        **changes: Any,
    ) -> Job:
        """PPO (ptx=False: γ = 0) or PPO-ptx from the PPO init model against the reward model.

        init: the stage to start from, which is also the reference of the KL penalty. score: a reward in place of the
        reward model (which the value model still starts from), such as an ensemble. changes: single knobs (kl_coef=0.1)
        and settings (lora_rank=8, gradient_checkpointing=True); no name is both.
        """
        name = name or ("ppo_ptx" if ptx else "ppo")
        own = {k: v for k, v in changes.items() if k in ppo.PPOSettings.__dataclass_fields__}  # settings; the others are knobs
        knobs = {k: v for k, v in changes.items() if k not in own}
        own |= {"steps": steps} if steps else {}
        settings = self.preset.ppo.but(**{"max_new_tokens": self.max_new_tokens, "seed": self.seed, **own})
        start = self.preset.ppo_knobs.turned(**({} if ptx else {"ptx_coef": 0.0}) | knobs)
        folder, judged, begun = self.run.stage(name), self._model_of("reward"), self._model_of(init)
        value, judge = (load_reward_model(judged, tokenizer=self.tokenizer) for _ in range(2))
        policy = load_policy(begun)
        weights, state = model_hash(policy), ppo.State(policy, value, self.tokenizer, settings)
        score = score or ppo.from_model(judge.requires_grad_(False), max_tokens=settings.score_tokens)
        pretraining = self.pretraining_rows(settings.ptx_row) if self._has_pretraining(start.ptx_coef > 0) else None
        locked = {} if pretraining is not None else {"ptx_coef": f"{self.data} has no pretraining.txt to take gradients from"}
        prompts = self.prompts("train", "ppo")

        def finish(to: StageFolder) -> ppo.State:
            averaged = state.averaged_policy()  # by every process: each may hold a share of the weights
            if state.accelerator.is_main_process:
                save_model(averaged, self.tokenizer, to.model)
                if state.uses_adapters:  # merged in `model`, and by themselves here
                    state.save_adapters(to.path / "adapters")
            return state

        parents = needs.fingerprints(self.run, "prompts", init, "reward", *([] if pretraining is None else ["pretraining"]))
        told = {"policy": {"stage": init, "weights": weights}, "sampling": {"max_new_tokens": settings.max_new_tokens, "seed": settings.seed}}

        def steps(knobs: Schedule) -> Iterator[Step]:
            found = ppo.loop(state, prompts, score, knobs, settings, pretraining=pretraining, gold=self.source.gold, stage="ppo")
            return with_batches_kept(found, state, lambda: job.folder, told)

        job = Job(
            steps, folder=folder, schedule=schedule or Dial(start, locked=locked), total=settings.steps, settings=settings.to_json(), seed=self.seed,
            parents=parents, state=state, finish=finish, snapshot_every=self.amounts.snapshot_every,
        )  # fmt: skip
        return job

    def ensure(self, *wanted: str, say: Callable[[str], None] = print) -> None:
        """Make what is missing of these, and of what they need: prompts, sft, ppo_init, rankings, reward, ppo, ppo_ptx.

        What is there stays; where it was made from something that has changed since, a line says so.
        """
        needs.ensure(self, *wanted, say=say)

    def policy(self, stage: str) -> PreTrainedModel:
        """The model a stage left behind, or the untrained base."""
        if stage == "base":
            return load_policy(self.model, tokenizer=self.tokenizer)
        if not needs.is_there(self.run, stage):
            raise RunError(f"{self.run.path / stage} has no finished model; run that stage first.")
        return load_policy(self.run.stage(stage).model)

    # -- small parts --------------------------------------------------------------------------------------------

    def _check_same(self, recorded: dict[str, Any]) -> None:
        """A run folder holds one experiment: other data or another seed under the same name would mix two."""
        for name, value in self.facts.items():
            if recorded and own_folder(name, recorded.get(name)) != value:
                raise RunError(
                    f"{self.run.path} was prepared with {name} = {recorded.get(name)!r}, now it is {value!r}. "
                    "Use another run name, or the same value; nothing was changed."
                )

    def _prepared(self, folder: str, split: str) -> Path:
        file = self.run.path / folder / f"{split}.jsonl"
        if not file.exists():
            raise RunError(f"{file} does not exist: the prompts of this run were not prepared. Run 01_prompts first (in code: lab.prepare()).")
        return file

    def _model_of(self, stage: str) -> Path:
        if not self.run.stage(stage).model.is_dir():
            made_by = {"reward": "04_reward", "ppo_init": "02_sft", "sft": "02_sft"}.get(stage, "that stage")
            raise RunError(f"{self.run.path / stage} has no finished model; run {made_by} first.")
        return self.run.stage(stage).model

    def _has_pretraining(self, needed: bool) -> bool:
        return needed or isinstance(self.source, WorldSource) or self.source.has_pretraining

    def _say_once(self, line: str) -> None:
        """Print a line that was not printed before."""
        if line not in self._said:
            self._said.add(line)
            print(line)

    def _split_own_rankings(self) -> dict[str, list[Ranking]]:
        """One's own comparisons, or without any the labels by hand; a tenth is held out, no prompt or user cut apart."""
        made, told = own_splits(self)
        for line in told:
            self._say_once(line)
        for split, rows in made.items():
            write_jsonl(self.run.path / "rankings" / f"{split}.jsonl", (r.to_json() for r in rows))
        return made
