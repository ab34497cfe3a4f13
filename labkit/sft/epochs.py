"""After each epoch: validation loss, RM score of sampled responses, and which epoch to keep.

The paper chooses the final SFT model by RM score on validation prompts, not by validation loss: the loss overfits
after one epoch while the preference for the samples goes on rising (section 3.5). Both numbers are recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from labkit.errors import DataError, InvariantError, RunError
from labkit.models import CONTEXT, context_of, load_policy, load_tokenizer, response_logprobs, score
from labkit.sampling import sample
from labkit.seeds import derive_seed
from labkit.sft.data import Pieces, encode_demonstrations
from labkit.types import Demonstration

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from labkit.sft.loop import SFTState
    from labkit.sft.settings import SFTSettings

__all__ = ["Reward", "best_epoch", "keep_epoch", "restore_epoch", "score_epochs", "validation_loss", "validation_score"]

#: A reward model, or any function from prompt ids and response ids (one list per row) to (B,) scores.
Reward = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], torch.Tensor]


def validation_loss(model: PreTrainedModel, pieces: Pieces) -> float:
    """Mean negative log-probability per response token, dropout off."""
    model.eval()
    return -response_logprobs(model, pieces.prompts, pieces.responses).mean().item()


def validation_score(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, reward: Reward, pieces: Pieces, settings: SFTSettings
) -> float:
    """Mean score of one sampled response (temperature 1) to each of the first `valid_samples` validation prompts.

    The same random numbers are used after every epoch, so that epochs are compared on equal terms.
    """
    model.eval()
    prompts = pieces.prompts[: settings.valid_samples]
    seeds = [derive_seed(settings.seed, "sft", "valid", i) for i in range(len(prompts))]
    drawn = sample(
        model, prompts, max_new_tokens=settings.valid_response_tokens, eos_id=tokenizer.eos_token_id, seeds=seeds
    )
    responses = [d.ids for d in drawn]
    scores = score(reward, prompts, responses) if isinstance(reward, torch.nn.Module) else reward(prompts, responses)
    scores = torch.as_tensor(scores).float()
    if scores.shape != (len(prompts),):
        raise DataError(f"The reward returned shape {tuple(scores.shape)} for {len(prompts)} validation samples; it must return one score each.")
    value = scores.mean().item()
    if not math.isfinite(value):
        raise InvariantError("The RM score of the validation samples is not finite; check the reward model's weights.")
    return value


def best_epoch(epochs: Sequence[dict[str, Any]], choose_by: str) -> tuple[int, str] | None:
    """Number of the chosen epoch and what chose it; rm_score falls back to valid_loss, and that to the last epoch."""
    if not epochs:
        return None
    if choose_by == "rm_score" and all("rm_score" in e for e in epochs):
        return max(epochs, key=lambda e: e["rm_score"])["epoch"], "rm_score"
    if choose_by != "last" and all("valid_loss" in e for e in epochs):
        return min(epochs, key=lambda e: e["valid_loss"])["epoch"], "valid_loss"
    return epochs[-1]["epoch"], "last"


def keep_epoch(state: SFTState, settings: SFTSettings, epochs_to: Path | None) -> None:
    """Put the weights of the epoch just ended aside if it is the best so far; `epochs_to` gets every epoch's model."""
    last = state.epochs[-1]["epoch"]
    if best_epoch(state.epochs, settings.choose_by)[0] == last:
        state.kept = {n: p.detach().cpu().clone() for n, p in state.model.named_parameters()}
    if epochs_to is not None:
        state.save_model(Path(epochs_to) / f"{last:02d}")


def restore_epoch(state: SFTState, settings: SFTSettings) -> None:
    """Put the chosen epoch's weights back into the model and say in `state.chosen` which it was and why."""
    best = best_epoch(state.epochs, settings.choose_by)
    if best is None:
        return
    number, by = best
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            parameter.copy_(state.kept[name])
    state.chosen = {**next(e for e in state.epochs if e["epoch"] == number), "by": by}


def score_epochs(
    folder: Path, valid: Sequence[Demonstration], reward: Reward, settings: SFTSettings
) -> list[dict[str, Any]]:
    """Judge the saved epochs under `folder` with a reward model that came later: epoch, valid_loss, rm_score, path.

    The paper chooses the SFT model by RM score though its RM is made from SFT's samples; this closes that circle.
    """
    rows = []
    for path in sorted(p for p in Path(folder).glob("*") if p.name.isdigit()):
        model, tokenizer = load_policy(path), load_tokenizer(path)
        pieces = encode_demonstrations(tokenizer, valid, context=context_of(model) or CONTEXT)
        judged = validation_score(model, tokenizer, reward, pieces, settings)
        loss = validation_loss(model, pieces)
        rows.append({"epoch": int(path.name), "valid_loss": loss, "rm_score": judged, "path": str(path)})
    if not rows:
        raise RunError(f"{folder} holds no epochs; run SFT with epochs_to, or give the folder that it wrote.")
    return rows
