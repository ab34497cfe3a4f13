"""Everything that a stage built on a Trainer changes, and its snapshots.

A snapshot is a folder of safetensors and JSON; loading it and running the loop again continues the run number for
number on CPU. Nothing is pickled.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from labkit.errors import RunError
from labkit.models import save_model
from labkit.models.files import new_folder, read_snapshot, write_facts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["TrainState"]

TRAINER_FILE = "trainer_state.json"  # the Trainer reads its own step count from a file of this name


@dataclass
class TrainState:
    """Model, tokenizer, how far training is; subclasses add what their stage measures (`facts`) and keeps (`kept`)."""

    model: PreTrainedModel = field(repr=False)  # no page of weights where a notebook shows a result
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    step: int = 0
    knobs: dict[str, float] = field(default_factory=dict)  # in force at the last step
    trainer: Any = field(default=None, repr=False)  # the live Trainer, set by the loop
    snapshot: Path | None = None  # the folder this state was loaded from, until training goes on
    kept: dict[str, torch.Tensor] | None = field(default=None, repr=False)  # weights put aside, e.g. those of the best epoch so far
    _moments: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def facts(self) -> dict[str, Any]:
        """What else a snapshot records, as JSON; `set_facts` takes it back."""
        return {}

    def set_facts(self, facts: dict[str, Any]) -> None:
        """Take back what `facts` gave."""

    def save_model(self, folder: str | Path) -> Path:
        """Save model and tokenizer so that plain `transformers` loads them."""
        return save_model(self.model, self.tokenizer, folder)

    def save(self, folder: str | Path) -> Path:
        """Write a snapshot, between two steps; the folder appears only when it is complete."""
        folder = Path(folder)
        with new_folder(folder, "snapshot") as scratch:
            for name, tensors in self._tensors().items():
                save_file(tensors, scratch / f"{name}.safetensors")
            if self.snapshot is not None:  # loaded, and no step taken since
                shutil.copy(self.snapshot / TRAINER_FILE, scratch / TRAINER_FILE)
            elif self.step:
                self.trainer.state.log_history = []
                self.trainer.state.save_to_json(str(scratch / TRAINER_FILE))
            write_facts(scratch, {"step": self.step, "knobs": self.knobs, **self.facts()})
        return folder

    def load(self, folder: str | Path) -> TrainState:
        """Continue from a snapshot: weights now, the optimiser's moments when the loop is started again."""
        folder = Path(folder)
        facts, tensors = read_snapshot(folder, ["model.safetensors"], after_a_step=["optimizer.safetensors", TRAINER_FILE])
        weights = tensors["model"]
        own = dict(self.model.named_parameters())
        if {n: p.shape for n, p in own.items()} != {n: t.shape for n, t in weights.items()}:
            raise RunError(f"The snapshot {folder} belongs to another model; load it with the model of its run.json.")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])
        self.step, self.knobs = facts.pop("step"), facts.pop("knobs")
        self.set_facts(facts)
        self._moments, self.kept = tensors.get("optimizer", {}), tensors.get("kept")
        self.snapshot = folder if (folder / TRAINER_FILE).exists() else None
        return self

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the loaded moments to a fresh optimiser over the same parameters."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in self._moments.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        self._moments = {}

    def _tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """All tensors of a snapshot, by file; tied weights once."""
        tensors = {"model": {n: p.detach() for n, p in self.model.named_parameters()}}
        tensors["optimizer"] = self._moments
        if not self._moments and self.step:
            state = self.trainer.optimizer.state_dict()["state"]
            tensors["optimizer"] = {f"{i}.{k}": torch.as_tensor(v) for i, m in state.items() for k, v in m.items()}
        if self.kept is not None:
            tensors["kept"] = self.kept
        return {name: {k: v.contiguous().clone() for k, v in found.items()} for name, found in tensors.items() if found}
