"""Everything that PPO changes: policy, value model, their optimisers, the weight average, the step count.

A snapshot is a folder of safetensors and one JSON file; loading it makes the run continue number for number on CPU.
Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from labkit.errors import ModelError, RunError, SettingsError
from labkit.models import choose_device
from labkit.models.adapters import merged, with_adapters
from labkit.models.checkpointing import checkpoint_layers
from labkit.models.files import new_folder, read_snapshot, write_facts
from labkit.models.graphs import graphs_pay
from labkit.models.packed import reads_as_they_lie
from labkit.models.stepping import unhindered
from labkit.ppo.graphed import GradientGraphs
from labkit.ppo.sharding import accelerator_on, copy_whole, is_sharded, whole, whole_weights
from labkit.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from labkit.ppo.rollout import Rollout
    from labkit.ppo.settings import PPOSettings

__all__ = ["State"]


_FILES = ("policy", "value", "ema", "policy_optimizer", "value_optimizer")


class State:
    """The state of one PPO run.

    policy: the causal LM to train, as the PPO init model; with `lora_rank` in the settings it gets adapters here.
    reference: the frozen model of the KL penalty, a copy of the policy by default; for a policy with adapters it is the
    same weights with the adapters off. value: a one-label token classifier, given as a copy of the reward model (paper,
    appendix C.4). ema: the averaged policy, the run's result.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        value: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: PPOSettings,
        *,
        reference: PreTrainedModel | None = None,
    ) -> None:
        for name, model, load in (("policy", policy, "load_policy"), ("value", value, "load_reward_model")):
            if not isinstance(model, torch.nn.Module):
                raise ModelError(f"The {name} is {model!r:.60}, no model; give {load}(path, tokenizer=tokenizer).")
        if reference is not None and reference is policy:
            raise SettingsError("The reference is the policy itself, which would be frozen with it; leave it out, and the State makes a copy.")
        device, self.dtype = choose_device()
        self.settings = settings  # models and optimisers are made from these
        self.accelerator = accelerator_on(device)
        self.tokenizer = tokenizer
        if settings.lora_rank and not hasattr(policy, "disable_adapter"):
            policy = _adapted(policy, settings)
        self.uses_adapters = hasattr(policy, "disable_adapter")
        if reference is None and not self.uses_adapters:
            reference = copy.deepcopy(policy)
        self.reference = None if reference is None else reference.to(self.accelerator.device).eval().requires_grad_(False)
        if settings.gradient_checkpointing:  # after the copy: the reference has no backward pass
            policy, value = checkpoint_layers(policy), checkpoint_layers(value)
        adam: dict[str, Any] = {
            "lr": 0.0,
            "betas": (settings.adam_beta1, settings.adam_beta2),
            "eps": settings.adam_eps,
            "weight_decay": settings.weight_decay,
            "fused": True,  # one kernel for all weights
        }
        # eval mode throughout: dropout off in policy and value model, so that ratio = 1 at every first minibatch
        policy_optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], **adam)
        value_optimizer = torch.optim.AdamW([p for p in value.parameters() if p.requires_grad], **adam)
        self.policy, self.policy_optimizer = self.accelerator.prepare(policy.eval(), policy_optimizer)
        self.value, self.value_optimizer = self.accelerator.prepare(value.eval(), value_optimizer)
        unhindered(self.policy_optimizer)
        unhindered(self.value_optimizer)
        #: without the wrappers of distributed training
        self.plain_policy, self.plain_value = (self.accelerator.unwrap_model(m) for m in (self.policy, self.value))
        if self.uses_adapters and is_sharded(self.plain_policy):
            raise SettingsError("Adapters cannot be sharded; set lora_rank to 0, or launch without FSDP: they need little memory.")
        self.ema = [p.detach().clone() for p in self.trained()]
        self.graphs = self._graphs(settings)  # of backward passes; None: they run kernel by kernel
        self.step = 0
        self.knobs: dict[str, float] = {}  # in force at the last step
        self.rollout: Rollout | None = None  # the newest batch, to look inside

    def _graphs(self, settings: PPOSettings) -> GradientGraphs | None:
        """Recorded backward passes, where flash attention reads packed rows as they lie and nothing else is in the way."""
        device, models = self.accelerator.device, (self.plain_policy, self.plain_value)
        plain = self.policy is self.plain_policy and not is_sharded(self.plain_policy)  # no wrapper of distributed training
        alone = self.accelerator.num_processes == 1 and plain and not settings.gradient_checkpointing
        if not (alone and graphs_pay(device) and self.dtype == torch.bfloat16 and all(map(reads_as_they_lie, models))):
            return None
        return GradientGraphs([p for m in models for p in m.parameters() if p.requires_grad], device)

    @contextlib.contextmanager
    def as_reference(self) -> Iterator[PreTrainedModel]:
        """The frozen reference model; for adapters, the policy with them switched off."""
        if self.reference is not None:
            yield self.reference
        else:
            with self.plain_policy.disable_adapter():
                yield self.plain_policy

    def forward_precision(self) -> torch.autocast:
        """Autocast to bf16 where the state's dtype says so; the weights stay fp32."""
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, policy and value model may be run by each process on its own, without gradients, also under FSDP."""
        with whole_weights(self.plain_policy), whole_weights(self.plain_value):
            yield

    def trained(self) -> list[torch.nn.Parameter]:
        """The policy's parameters that learn: all of them, or those of its adapters."""
        return [p for p in self.plain_policy.parameters() if p.requires_grad]

    def move_average(self, decay: float) -> None:
        """One step of the exponential moving average of the policy's weights."""
        torch._foreach_lerp_(self.ema, [p.detach() for p in self.trained()], 1.0 - decay)

    def averaged_policy(self) -> PreTrainedModel:
        """A plain model that holds the averaged weights, adapters merged in: what the paper keeps as the trained model.

        With sharded weights every process must call this, and each gets a whole model.
        """
        return merged(self._averaged()) if self.uses_adapters else self._averaged()

    def save_adapters(self, folder: Path) -> Path:
        """Write the averaged adapters alone, for `peft.PeftModel.from_pretrained(base, folder)`; returns the folder."""
        with new_folder(Path(folder), "adapters") as scratch:
            self._averaged().save_pretrained(scratch)
        return Path(folder)

    def _averaged(self) -> PreTrainedModel:
        """A copy of the policy with the averaged weights in place of its own."""
        sharded = is_sharded(self.plain_policy)  # then the reference is the one whole copy at hand
        model = copy.deepcopy(self.reference).requires_grad_() if sharded else copy.deepcopy(self.plain_policy)
        with torch.no_grad():
            for p, average in zip((p for p in model.parameters() if p.requires_grad), self.ema, strict=True):
                p.copy_(whole(average))
        return model

    def save(self, folder: Path) -> Path:
        """Write a snapshot, by the first process for all; the folder appears only when it is complete."""
        folder, contents = Path(folder), self._tensors()
        try:
            if self.accelerator.is_main_process:
                with new_folder(folder, "snapshot") as scratch:
                    for name, tensors in contents.items():
                        save_file(tensors, scratch / f"{name}.safetensors")
                    write_facts(scratch, {"step": self.step, "knobs": self.knobs})
        finally:
            self.accelerator.wait_for_everyone()  # also where it could not be written: the others wait for the first
        return folder

    def load(self, folder: Path) -> State:
        """Continue from a snapshot: weights, optimiser moments, average and step; a missing or foreign one is an error."""
        folder = Path(folder)
        facts, saved = read_snapshot(folder, [f"{name}.safetensors" for name in _FILES])
        targets = {
            "policy": self._policy_weights(),
            "value": dict(self.plain_value.named_parameters()),
            "ema": {str(i): t for i, t in enumerate(self.ema)},
        }
        for name, target in targets.items():  # all of them before the first weight changes
            _check_same(target, saved[name], folder)
        with torch.no_grad():
            for name, target in targets.items():
                for key, tensor in target.items():
                    copy_whole(tensor, saved[name][key])
        for optimizer in (self.policy_optimizer, self.value_optimizer):
            optimizer.zero_grad(set_to_none=True)  # an iteration that an error ended may have left some
        _restore_optimizer(self.policy_optimizer, saved["policy_optimizer"])
        _restore_optimizer(self.value_optimizer, saved["value_optimizer"])
        self.step, self.knobs, self.rollout = facts["step"], facts["knobs"], None
        return self

    def _policy_weights(self) -> dict[str, torch.nn.Parameter]:
        """The policy's weights by name; of one with adapters only these: the rest never changes."""
        return {n: p for n, p in self.plain_policy.named_parameters() if p.requires_grad or not self.uses_adapters}

    def _tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        return {
            "policy": {n: whole(p.detach()).contiguous() for n, p in self._policy_weights().items()},
            "value": {n: whole(p.detach()).contiguous() for n, p in self.plain_value.named_parameters()},
            "ema": {str(i): whole(t).contiguous() for i, t in enumerate(self.ema)},
            "policy_optimizer": _optimizer_tensors(self.policy_optimizer),
            "value_optimizer": _optimizer_tensors(self.value_optimizer),
        }


def _adapted(policy: PreTrainedModel, settings: PPOSettings) -> PreTrainedModel:
    """The policy with adapters as the settings ask for them."""
    return with_adapters(
        policy, rank=settings.lora_rank, alpha=settings.lora_alpha, targets=settings.lora_targets,
        seed=derive_seed(settings.seed, "lora"),
    )  # fmt: skip


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": whole(torch.as_tensor(value)).contiguous() for i, moments in state.items() for key, value in moments.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Moments take the form of their parameter: on its device, sharded as it is."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        if tensor.dim():
            moment = torch.zeros_like(parameters[int(index)].detach())
            copy_whole(moment, tensor)
            tensor = moment
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _check_same(target: dict[str, torch.Tensor], saved: dict[str, torch.Tensor], folder: Path) -> None:
    if {n: t.shape for n, t in target.items()} != {n: t.shape for n, t in saved.items()}:
        raise RunError(f"The snapshot {folder} belongs to another model: names or shapes of its weights differ. Load it with the model of its run.json.")
