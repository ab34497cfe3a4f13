"""Current TRL's SFTTrainer on the benchmark's demonstrations: as it comes, or with the lab's batches and attention."""

from __future__ import annotations

import tempfile
from functools import partial

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from labkit.models import fused
from labkit.models.packed import LAB_ATTENTION
from labkit.sft.data import Pieces, collate_packed
from tests.benchmarks.peers.protocol import Contestant
from tests.benchmarks.workload import Workload, make_policy, make_rankings, make_tokenizer

STEPS = 8  # of one round: a single one is too short to time


class Rounds(TrainerCallback):
    """One round is STEPS optimiser steps; between rounds the trainer waits for the referee."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant

    def on_train_begin(self, args, state, control, **kwargs):
        self.contestant.ready()
        self.contestant.await_go()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % STEPS:
            return
        self.contestant.report(rest="update", steps=STEPS)
        if not self.contestant.await_go():
            raise SystemExit


def main() -> None:
    parser = Workload.parser()
    parser.add_argument("--packed", action="store_true")
    arguments = parser.parse_args()
    work = Workload.from_arguments(arguments)
    torch.set_num_threads(work.threads)
    policy = make_policy(work, **({"attn_implementation": LAB_ATTENTION} if arguments.packed else {}))
    pieces = Pieces(*zip(*[(p, drawn[0]) for p, drawn in make_rankings(work, 64 * work.minibatch, 1)], strict=True))
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, seed=work.seed, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
            use_cpu=work.device == "cpu", bf16=work.dtype == "bfloat16", gradient_checkpointing=False, max_length=None,
            per_device_train_batch_size=work.minibatch, learning_rate=1e-6, dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=not arguments.packed,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=fused(policy) if arguments.packed else policy,
            args=config,
            train_dataset=Dataset.from_list(pieces.rows()),
            processing_class=make_tokenizer(work.shape),
            data_collator=partial(collate_packed, device=torch.device(work.device)) if arguments.packed else None,
            callbacks=[Rounds(Contestant())],
        )
        trainer.train()


if __name__ == "__main__":
    main()
