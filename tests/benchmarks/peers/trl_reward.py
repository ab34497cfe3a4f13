"""Current TRL's RewardTrainer on all pairs of each ranking: every pair is a row of its own, as that trainer has it."""

from __future__ import annotations

import itertools
import tempfile

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl import RewardConfig, RewardTrainer

from tests.benchmarks.peers.protocol import Contestant
from tests.benchmarks.workload import Workload, make_policy, make_rankings, make_tokenizer, sequence_classifier

MICRO_BATCH = 48  # pairs per pass; divides the pairs of 16 prompts for K = 4 and for K = 9


class Rounds(TrainerCallback):
    """One round is one optimiser step; between rounds the trainer waits for the referee."""

    def __init__(self, contestant: Contestant, prompts: int) -> None:
        self.contestant, self.prompts = contestant, prompts

    def on_train_begin(self, args, state, control, **kwargs):
        self.contestant.ready()
        self.contestant.await_go()

    def on_step_end(self, args, state, control, **kwargs):
        self.contestant.report(rest="update", rankings=self.prompts)
        if not self.contestant.await_go():
            raise SystemExit


def main() -> None:
    parser = Workload.parser()
    parser.add_argument("--completions", type=int, default=9)
    arguments = parser.parse_args()
    work = Workload.from_arguments(arguments)
    torch.set_num_threads(work.threads)
    contestant = Contestant()
    pairs = {"chosen_ids": [], "rejected_ids": []}
    for prompt, completions in make_rankings(work, 64 * work.minibatch, arguments.completions):
        for better, worse in itertools.combinations(completions, 2):
            pairs["chosen_ids"].append(prompt + better)
            pairs["rejected_ids"].append(prompt + worse)
    per_step = len(pairs["chosen_ids"]) // 64
    with tempfile.TemporaryDirectory() as folder:
        config = RewardConfig(
            output_dir=folder, seed=work.seed, report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True,
            use_cpu=work.device == "cpu", bf16=work.dtype == "bfloat16", gradient_checkpointing=False, max_length=None,
            per_device_train_batch_size=MICRO_BATCH, gradient_accumulation_steps=per_step // MICRO_BATCH,
            learning_rate=1e-6,
        )  # fmt: skip
        trainer = RewardTrainer(
            model=sequence_classifier(make_policy(work)),
            args=config,
            train_dataset=Dataset.from_dict(pairs),
            processing_class=make_tokenizer(work.shape),
            callbacks=[Rounds(contestant, work.minibatch)],
        )
        trainer.train()


if __name__ == "__main__":
    main()
