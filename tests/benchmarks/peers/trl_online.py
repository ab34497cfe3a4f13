"""Current TRL's RLOO or GRPO on the benchmark's workload, as the lab trains its own baselines (`labkit/baselines`).

Per round as many episodes, optimiser steps and tokens as the lab's PPO, and the same reward model; but four episodes of
each prompt instead of one, since these methods compare the answers to one prompt, and no value model.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from transformers import TrainerCallback

from labkit.baselines import OnlineSettings
from labkit.baselines.trainers import online_trainer, plain_policy
from labkit.models import score
from tests.benchmarks.peers.lab_ppo import scalar_model
from tests.benchmarks.peers.protocol import Contestant, dtypes_of
from tests.benchmarks.workload import END, PAD, Workload, as_text, make_policy, make_prompts, make_tokenizer

PER_PROMPT = 4


class Rounds(TrainerCallback):
    """One round is one batch of fresh episodes and the optimiser steps on it; between rounds the trainer waits."""

    def __init__(self, contestant: Contestant, steps: int, lengths: list[int], dtypes: dict[str, str]) -> None:
        self.contestant, self.steps, self.lengths, self.dtypes = contestant, steps, lengths, dtypes

    def on_train_begin(self, args, state, control, optimizer=None, **kwargs):
        self.contestant.count_steps(getattr(optimizer, "optimizer", optimizer))
        self.contestant.ready(dtypes=self.dtypes)
        self.contestant.await_go()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self.steps:
            return
        self.contestant.report(mean_length=sum(self.lengths) / len(self.lengths))
        self.lengths.clear()
        if not self.contestant.await_go():
            raise SystemExit


def main() -> None:
    parser = Workload.parser()
    parser.add_argument("--method", choices=("rloo", "grpo"), default="rloo")
    arguments = parser.parse_args()
    work = Workload.from_arguments(arguments)
    torch.set_num_threads(work.threads)
    policy, tokenizer, lengths = make_policy(work), make_tokenizer(work.shape), []
    judge = scalar_model(policy, work)
    ids_of = {as_text(ids): ids for ids in make_prompts(work, max(4096, work.batch))}

    def reward_model(prompts: list[str], completion_ids: list[list[int]], **_) -> list[float]:
        given = [[int(t) for t in ids if t != PAD] for ids in completion_ids]
        lengths.extend(map(len, given))
        return score(judge, [ids_of[p] for p in prompts], given).tolist()

    settings = OnlineSettings(
        steps=10_000, batch=work.batch, minibatch=work.minibatch, per_prompt=PER_PROMPT,
        max_new_tokens=work.max_response, lr=1e-6, warmup=0, seed=work.seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"prompt": text} for text in ids_of]
        policy.save_pretrained(folder)  # TRL reads its reference from where the policy came
        plain = plain_policy(folder)
        plain.generation_config.eos_token_id, plain.generation_config.pad_token_id = END, PAD
        trainer = online_trainer(arguments.method, plain, tokenizer, rows, reward_model, settings, Path(folder))
        dtypes = dtypes_of(policy=trainer.model, reward=judge) | {"passes": work.dtype}
        trainer.add_callback(Rounds(Contestant(), work.batch // work.minibatch, lengths, dtypes))
        trainer.train()


if __name__ == "__main__":
    main()
