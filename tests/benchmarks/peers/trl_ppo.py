"""PPO of TRL 1.12.0 (the last with a PPO trainer) on the benchmark's workload; runs in that version's own environment.

Given the settings that serve it best here: no gradient checkpointing, the whole batch in one `generate` and in as few
scoring passes as its memory allows. Two facts of that version decide the settings (`trl/experimental/ppo/ppo_trainer.py`):

- Its Accelerator knows no mixed precision, so `bf16=True` alone computes in fp32: for bf16 all four models are loaded in it.
- An optimiser step comes once in `gradient_accumulation_steps` micro-batches, counted across minibatches. One step per
  minibatch, as the lab takes it, needs a device batch of the whole batch, no accumulation, and batch / minibatch minibatches.
"""

from __future__ import annotations

import copy
import functools
import tempfile

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from tests.benchmarks.peers.protocol import Contestant, dtypes_of
from tests.benchmarks.workload import END, PAD, Workload, make_policy, make_prompts, make_tokenizer, sequence_classifier


class Rounds(TrainerCallback):
    """One round is one iteration; between rounds the trainer waits for the referee."""

    def __init__(self, contestant: Contestant, seen: dict) -> None:
        self.contestant, self.seen, self.dtypes = contestant, seen, {}

    def on_train_begin(self, args, state, control, **kwargs):
        self.contestant.ready(dtypes=self.dtypes)
        self.contestant.await_go()

    def on_step_end(self, args, state, control, **kwargs):
        lengths = torch.cat(self.seen.pop("lengths"))
        self.contestant.report(rest="update", mean_length=float(lengths.float().mean()))
        if not self.contestant.await_go():
            raise SystemExit


def watch_phases(contestant: Contestant, seen: dict) -> None:
    """Time the trainer's own functions: generation, and everything scored without gradients. The rest is the update."""

    def timed(name: str, phase: str) -> None:
        function = getattr(ppo_trainer, name)

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            if torch.is_grad_enabled():
                return function(*args, **kwargs)
            with contestant.phase(phase):
                result = function(*args, **kwargs)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                return result

        setattr(ppo_trainer, name, wrapped)

    timed("batch_generation", "generation")
    for name in ("forward", "get_reward", "selective_log_softmax"):
        timed(name, "scoring")
    truncate = ppo_trainer.truncate_response

    def truncate_and_count(stop, pad, responses):
        cut = truncate(stop, pad, responses)
        seen.setdefault("lengths", []).append((cut != pad).sum(1).cpu())
        return cut

    ppo_trainer.truncate_response = truncate_and_count


def main() -> None:
    parser = Workload.parser()
    parser.add_argument("--rollout_batch", type=int, default=0)
    arguments = parser.parse_args()
    work = Workload.from_arguments(arguments)
    torch.set_num_threads(work.threads)
    contestant, seen = Contestant(), {}
    policy = make_policy(work).to(work.device, getattr(torch, work.dtype))
    tokenizer = make_tokenizer(work.shape)
    scalars = [sequence_classifier(policy).to(policy.device, policy.dtype) for _ in range(2)]
    watch_phases(contestant, seen)
    rounds = Rounds(contestant, seen)
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            output_dir=folder, seed=work.seed, report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, use_cpu=work.device == "cpu", bf16=False, gradient_checkpointing=False,
            per_device_train_batch_size=work.batch, gradient_accumulation_steps=1,
            num_mini_batches=work.batch // work.minibatch, num_ppo_epochs=1, total_episodes=10_000 * work.batch,
            local_rollout_forward_batch_size=arguments.rollout_batch or work.batch, num_sample_generations=0,
            response_length=work.max_response, stop_token="eos", temperature=1.0, missing_eos_penalty=1.0,
            kl_coef=0.02, learning_rate=1e-6,
        )  # fmt: skip
        trainer = PPOTrainer(
            args=config,
            processing_class=tokenizer,
            model=policy,
            ref_model=copy.deepcopy(policy),
            reward_model=scalars[0],
            value_model=scalars[1],
            train_dataset=Dataset.from_dict({"input_ids": make_prompts(work, max(4096, work.batch))}),
            callbacks=[rounds],
        )
        contestant.count_steps(trainer.optimizer.optimizer)
        rounds.dtypes = dtypes_of(
            policy=trainer.model.policy, value=scalars[1], reference=trainer.ref_model, reward=scalars[0]
        ) | {"passes": work.dtype}
        assert (trainer.processing_class.eos_token_id, trainer.processing_class.pad_token_id) == (END, PAD)
        trainer.train()


if __name__ == "__main__":
    main()
