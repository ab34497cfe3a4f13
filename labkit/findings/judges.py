"""Pieces about training choices of the paper: labeler groups, batching of pairs, epochs of the RM and of SFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit import reward, sft
from labkit.experiment import groups
from labkit.models import load_policy, load_reward_model
from labkit.sampling import complete
from labkit.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from labkit.experiment import Experiment

__all__ = ["epochs_of_long_sft", "labeler_groups", "ways_of_batching"]

MORE_EPOCHS = 2  # the paper: more than one epoch overfits
LONG_SFT = {"smoke": 2, "findings": 6, "tour": 8, "full": 16}  # the paper trains for 16 epochs


def labeler_groups(lab: Experiment) -> dict[str, Any]:
    """Accuracy of five reward models on labelers they never saw and on their own, on held-out prompts (section 4.1)."""
    both = [f for f in groups.labeler_groups(lab).folds if f.own and f.held_out]
    rows = [{"labelers": list(f.labelers), "own": f.own.overall.value, "held_out": f.held_out.overall.value} for f in both]
    return {"folds": rows}


def ways_of_batching(lab: Experiment) -> dict[str, Any]:
    """Validation loss and accuracy after one epoch by prompts (paper), one by shuffled pairs, two by prompts."""
    settings = lab.preset.reward.but(seed=lab.seed, epochs=1)
    found = {"prompts": _losses(lab, _by_prompts(lab, settings))}
    for name, chosen in (("pairs", settings.but(batching="pairs")), ("more epochs", settings.but(epochs=MORE_EPOCHS))):
        found[name] = _losses(lab, groups.reward_model_of(lab, lab.rankings("train"), chosen).model)
    return found


def _by_prompts(lab: Experiment, settings: reward.RewardSettings) -> PreTrainedModel:
    """The run's own reward model where it was trained in just this way: its bias moves no pair."""
    if settings == lab.preset.reward.but(seed=lab.seed):
        return load_reward_model(lab.run.stage("reward").model)
    return groups.reward_model_of(lab, lab.rankings("train"), settings).model


def _losses(lab: Experiment, model: PreTrainedModel) -> dict[str, float]:
    train, valid = (reward.accuracy(model, lab.tokenizer, lab.rankings(s)) for s in ("train", "valid"))
    return {"valid_loss": valid.loss, "valid_accuracy": valid.overall.value, "train_loss": train.loss}


def epochs_of_long_sft(lab: Experiment) -> dict[str, Any]:
    """After each epoch of a long SFT: validation loss, RM score and gold utility of samples on validation prompts."""
    epochs = LONG_SFT[lab.scale]
    lab.sft_job(name="sft-long", epochs=epochs, choose_by="last").start().result(block=True)
    folder, settings = lab.run.stage("sft-long"), lab.preset.sft.but(seed=lab.seed)
    judge = load_reward_model(lab.run.stage("reward").model)
    rows = sft.score_epochs(folder.path / "epochs", lab.demonstrations("valid"), judge, settings)
    for row in rows:
        row["gold"] = _gold(lab, row.pop("path"))
    return {"epochs": rows}


def _gold(lab: Experiment, path: str) -> float:
    """Mean gold utility of one answer of the model at `path` to each validation prompt."""
    prompts = lab.prompts("valid")[: lab.amounts.valid_prompts]
    seed = derive_seed(lab.seed, "long sft")
    drawn = complete(load_policy(path), lab.tokenizer, prompts, max_new_tokens=lab.max_new_tokens, seed=seed)
    texts, ended = [c.text for (c,) in drawn], [bool(c.finished) for (c,) in drawn]
    return sum(lab.source.gold(prompts, texts, ended)) / len(prompts)
