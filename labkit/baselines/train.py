"""Train one of the other methods in a run, as a stage of its own."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.baselines.data import pairs_of, prompts_of, single_answers
from labkit.baselines.settings import OFFLINE, OfflineSettings, OnlineSettings, settings_of
from labkit.errors import RunError

if TYPE_CHECKING:
    from labkit.experiment import Experiment
    from labkit.runs import StageFolder

__all__ = ["train"]

START = "ppo_init"  # the model that PPO starts from, and the reference


def train(
    lab: Experiment, method: str, settings: OfflineSettings | OnlineSettings | None = None, *, start: str = START
) -> StageFolder:
    """Train `method` ("dpo", "kto", "rloo" or "grpo") from a stage's model; the result is runs/<name>/<method>/model.

    Metrics are TRL's own names. Raises RunError where the run has no such start, rankings or reward model yet.
    """
    from labkit.experiment.needs import fingerprints

    settings = settings or settings_of(lab, method)
    beginning = lab.run.stage(start).model
    if not beginning.is_dir():
        raise RunError(f"{beginning} does not exist: {method} starts from {start}. Make it first (05_ppo_ptx does).")
    folder = lab.run.stage(method)
    learnt_from = ("rankings", "labels") if method in OFFLINE else ("prompts", "reward")
    folder.begin(settings=settings.to_json(), seed=lab.seed, parents=fingerprints(lab.run, start, *learnt_from))
    began = time.time()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            trainer = _trainer(lab, method, settings, beginning, Path(scratch))
            _run(trainer, lab, folder)
    except BaseException as error:
        folder.finish("failed", error=str(error))
        raise
    folder.finish("done", seconds=time.time() - began)
    return folder


def _trainer(
    lab: Experiment, method: str, settings: OfflineSettings | OnlineSettings, beginning: Path, scratch: Path
) -> Any:
    from labkit.baselines import trainers

    model = trainers.plain_policy(beginning)
    for config in (model.config, model.generation_config):
        config.pad_token_id, config.eos_token_id = lab.tokenizer.pad_token_id, lab.tokenizer.eos_token_id
    if method in OFFLINE:
        pairs = pairs_of(lab.rankings("train"), settings.pairs_per_prompt, settings.seed)
        rows = pairs if method == "dpo" else single_answers(pairs)
        return trainers.offline_trainer(method, model, lab.tokenizer, rows, settings, scratch)
    judge = lab.run.stage("reward").model
    if not judge.is_dir():
        raise RunError(f"{judge} does not exist: {method} is paid by the reward model. Run 04_reward first.")
    reward = trainers.reward_function(judge, lab.tokenizer, settings.missing_end_penalty)
    rows = prompts_of(lab.prompts("train", "ppo"))
    return trainers.online_trainer(method, model, lab.tokenizer, rows, reward, settings, scratch)


def _run(trainer: Any, lab: Experiment, folder: StageFolder) -> None:
    from labkit.baselines.trainers import StepWriter
    from labkit.models import save_model

    trainer.add_callback(StepWriter(folder.path.name, folder.append_step))
    trainer.train()
    save_model(trainer.accelerator.unwrap_model(trainer.model).eval(), lab.tokenizer, folder.model)
