"""The numbers of Ouyang et al. 2022 (InstructGPT, arXiv 2203.02155), each with the place where the paper states it.

`DATA` is what the stages learn from; `SFT`, `PPO_INIT`, `REWARD` and `PPO` mirror the names of the lab's settings and
knobs, so that a table can set "paper" beside "here". What the paper leaves open is listed in `NOT_IN_PAPER` with where
the lab's default comes from: no value of ours is ever shown as the paper's. Sizes differ by model; `value` is that of
the 1.3B model and `note` has the others. Table 1 is in `labkit.data.use_cases`. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "DATA",
    "DERIVED",
    "NOT_IN_PAPER",
    "PPO",
    "PPO_INIT",
    "REWARD",
    "SFT",
    "Fact",
    "Gap",
    "gap",
    "stage_facts",
]


@dataclass(frozen=True)
class Fact:
    """One number of the paper: its value, where it is stated, and what else to know."""

    value: Any
    where: str
    note: str = ""


@dataclass(frozen=True)
class Gap:
    """One number that the paper does not give: the stage and setting it concerns, and where our default comes from."""

    stage: str
    name: str
    origin: str


@dataclass(frozen=True)
class DataFacts:
    """Prompts, demonstrations, labelers and their rankings (sections 3.2 to 3.4, Table 6)."""

    per_user: Fact = Fact(200, "3.2", "prompts kept of one customer")
    demonstrations: Fact = Fact(12_725, "Table 6", "11,295 prompts of labelers, 1,430 of customers")
    rankings: Fact = Fact(33_207, "Table 6", "prompts: 6,623 of labelers, 26,584 of customers")
    valid_rankings: Fact = Fact(17_887, "Table 6", "prompts: 3,488 and 14,399")
    ppo_prompts: Fact = Fact(31_144, "Table 6", "of customers only")
    completions: Fact = Fact("4 to 9", "3.5", "K, ranked on one screen")
    labelers: Fact = Fact("about 40", "3.4")
    agreement: Fact = Fact("72.6 ± 1.5 %", "3.4", "of two training labelers' pairs")
    held_out_agreement: Fact = Fact("77.3 ± 1.3 %", "3.4", "of two held-out labelers' pairs")
    flags: Fact = Fact(11, "Table 3", "binary metadata beside the Likert scale of 1 to 7")


@dataclass(frozen=True)
class Adam:
    """Optimiser settings common to all stages."""

    adam_beta1: Fact = Fact(0.9, "App. C")
    adam_beta2: Fact = Fact(0.95, "App. C")
    lr_floor: Fact = Fact(0.1, "App. C", "cosine decay to 10 % of the peak")


@dataclass(frozen=True)
class SFTFacts(Adam):
    """Supervised fine-tuning on demonstrations (section 3.5, appendix C.1)."""

    epochs: Fact = Fact(16, "3.5, App. C.1", "validation loss overfits after one epoch, RM score still rises")
    dropout: Fact = Fact(0.2, "3.5, App. C.1", "residual dropout")
    lr: Fact = Fact(9.65e-6, "App. C.1", "1.3B and 6B; 5.03e-6 for 175B")
    batch_size: Fact = Fact(32, "App. C.1", "1.3B and 6B; 8 for 175B")
    warmup_steps: Fact = Fact(0, "App. C.1")
    choose_by: Fact = Fact("rm_score", "3.5", "final model chosen by RM score on the validation set")
    pretrain_share: Fact = Fact(0.0, "App. C.1", "no pretraining mix in SFT itself")
    max_prompt_tokens: Fact = Fact(1000, "App. C", "longer prompts are dropped")
    max_response_tokens: Fact = Fact(1000, "App. C", "context 2k")


@dataclass(frozen=True)
class InitFacts(Adam):
    """The model that PPO starts from, and its KL reference (appendix C.3)."""

    epochs: Fact = Fact(2, "App. C.3")
    pretrain_share: Fact = Fact(0.1, "App. C.3", "10 % pretraining data mixed in")
    lr: Fact = Fact(5e-6, "App. C.3", "1.3B; 1.04e-5 for 6B, 2.45e-6 for 175B")
    batch_size: Fact = Fact(32, "App. C.3")
    max_prompt_tokens: Fact = Fact(1000, "App. C", "longer prompts are dropped")
    max_response_tokens: Fact = Fact(1000, "App. C", "context 2k")


@dataclass(frozen=True)
class RewardFacts(Adam):
    """The reward model: one 6B RM serves policies of every size (section 3.5, appendix C.2)."""

    epochs: Fact = Fact(1, "3.5, App. C.2", "more overfits")
    lr: Fact = Fact(9e-6, "App. C.2")
    batch_size: Fact = Fact(64, "App. C.2", "prompts, each with all its K completions")
    batching: Fact = Fact("prompts", "3.5", "pairs shuffled apart overfit in one pass")
    normalise: Fact = Fact("all_pairs", "3.5, eq. 1", "1 / C(K,2)")
    demonstration_mean: Fact = Fact(0.0, "3.5", "a bias centres the demonstrations")
    max_prompt_tokens: Fact = Fact(1000, "App. C", "longer prompts are dropped")
    max_response_tokens: Fact = Fact(1000, "App. C", "context 2k")


@dataclass(frozen=True)
class PPOFacts:
    """PPO and PPO-ptx (section 3.5, appendix C.4)."""

    steps: Fact = Fact(500, "App. C.4", "iterations: 256k episodes of 512 a batch")
    batch: Fact = Fact(512, "App. C.4", "episodes per iteration")
    minibatch: Fact = Fact(64, "App. C.4", "8 minibatches")
    inner_epochs: Fact = Fact(1, "App. C.4")
    max_new_tokens: Fact = Fact(1000, "App. C", "context 2k")
    warmup: Fact = Fact(10, "App. C.4", "iterations, from a tenth of the peak; constant afterwards")
    ema_decay: Fact = Fact(0.992, "App. C.4")
    ptx_per_episode: Fact = Fact(8, "App. C.4", "512 examples per minibatch of 64 episodes")
    adam_beta1: Fact = Fact(0.9, "App. C")
    adam_beta2: Fact = Fact(0.95, "App. C")
    kl_coef: Fact = Fact(0.02, "App. C.4", "β; 0.01 to 0.02 is best (Fig. 36)")
    ptx_coef: Fact = Fact(27.8, "App. C.4", "γ; 0 is plain PPO")
    clip: Fact = Fact(0.2, "App. C.4")
    temperature: Fact = Fact(1.0, "App. C.4")
    value_lr: Fact = Fact(9e-6, "App. C.4", "6B value model, initialised from the RM")
    discount: Fact = Fact(1.0, "App. C.4", "no discount")
    unique_prompts: Fact = Fact(31_000, "App. C.4", "about")


DATA = DataFacts()
SFT = SFTFacts()
PPO_INIT = InitFacts()
REWARD = RewardFacts()
PPO = PPOFacts()

#: Steps that follow from the numbers above.
DERIVED: dict[str, int] = {
    "episodes": PPO.steps.value * PPO.batch.value,
    "policy_steps": PPO.steps.value * PPO.batch.value // PPO.minibatch.value,
    "pretraining_examples": PPO.steps.value * PPO.batch.value * PPO.ptx_per_episode.value,
    "reward_steps": round(DATA.rankings.value / REWARD.batch_size.value),
}

NOT_IN_PAPER: tuple[Gap, ...] = (
    Gap("sft", "adam_eps", "1e-8, torch's default"),
    Gap("sft", "weight_decay", "0, as plain Adam is named"),
    Gap("sft", "max_grad_norm", "1, as in GPT-3 (Brown et al. 2020, App. B)"),
    Gap("sft", "pretrain_tokens", "unused here: SFT itself has no pretraining mix"),
    Gap("ppo_init", "dropout", "0, as in our SFT: a model this small underfits; the paper's 0.2 is stated for SFT alone"),
    Gap("ppo_init", "choose_by", "the last epoch: nothing is said of choosing between two"),
    Gap("ppo_init", "pretrain_tokens", "short pieces, about as long as a demonstration; the paper counts examples"),
    Gap("reward", "settle_head", "on: a random head bends the body out of shape (Kumar et al. 2022)"),
    Gap("reward", "dropout", "0: not stated for the RM; the value model starts from it without dropout"),
    Gap("reward", "adam_eps", "1e-8, torch's default"),
    Gap("reward", "weight_decay", "0, as plain Adam is named"),
    Gap("reward", "max_grad_norm", "1, as in GPT-3 (Brown et al. 2020, App. B)"),
    Gap("ppo", "policy_lr", "chosen on validation prompts; only a failure without ptx above 8.05e-6 is told (E.9)"),
    Gap("ppo", "gae_lambda", "0.95, from lm-human-preferences"),
    Gap("ppo", "value_clip", "0.2, from lm-human-preferences"),
    Gap("ppo", "value_coef", "no setting of the lab: value_lr takes its place, as the models are separate"),
    Gap("ppo", "adam_eps", "1e-8, torch's default"),
    Gap("ppo", "weight_decay", "0, as plain Adam is named"),
    Gap("ppo", "max_grad_norm", "1, as in GPT-3 (Brown et al. 2020, App. B)"),
    Gap("ppo", "whiten_rewards", "off; lm-human-preferences divides by the deviation"),
    Gap("ppo", "whiten_advantages", "on, from lm-human-preferences"),
    Gap("ppo", "ema_per", "per minibatch; the paper does not say whether per minibatch or per iteration"),
    Gap(
        "ppo", "ptx_tokens", "what counts as one pretraining example: so many tokens of a packed row, which is read whole; few, so that "
        "PPO-ptx costs less than twice PPO. The paper counts examples and gives no length",
    ),
    Gap("ppo", "ptx_row", "packing of pretraining examples"),
    Gap("ppo", "ptx_reduction", "no setting of the lab: always the mean over tokens, which gives γ its scale; sum or mean is not stated"),
    Gap("ppo", "lora_rank", "adapters in place of the weights (Hu et al. 2021); the paper trains the weights"),
    Gap("ppo", "lora_alpha", "16, from QLoRA (Dettmers et al. 2023)"),
    Gap("ppo", "lora_targets", "every linear layer but the head, from QLoRA"),
    Gap("ppo", "missing_end_penalty", "a fixed penalty; what a response without end token gets is not stated"),
    Gap("ppo", "kl_target", "6 nats, from lm-human-preferences; the paper keeps β fixed"),
)


def gap(stage: str, name: str) -> Gap | None:
    """The gap that concerns one setting of one stage, or None; the PPO init is an SFT and shares its gaps."""
    found = {g.stage: g for g in NOT_IN_PAPER if g.name == name}
    return found.get(stage) or (found.get("sft") if stage == "ppo_init" else None)


def stage_facts(stage: str) -> dict[str, Fact]:
    """The paper's numbers of one stage ("sft", "ppo_init", "reward" or "ppo") by name."""
    facts = {"sft": SFT, "ppo_init": PPO_INIT, "reward": REWARD, "ppo": PPO}[stage]
    return {f.name: getattr(facts, f.name) for f in fields(facts)}
