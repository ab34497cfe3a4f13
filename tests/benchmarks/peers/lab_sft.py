"""The lab's SFT on the benchmark's demonstrations: TRL's trainer as a generator of Steps."""

from __future__ import annotations

from itertools import islice

import torch

from labkit.knobs import SFTKnobs, constant
from labkit.models import fused
from labkit.models.packed import LAB_ATTENTION
from labkit.sft import SFTSettings, SFTState, loop
from labkit.types import Demonstration, Prompt
from tests.benchmarks.peers.protocol import Contestant
from tests.benchmarks.peers.trl_sft import STEPS
from tests.benchmarks.workload import Workload, as_text, make_policy, make_rankings, make_tokenizer


def main() -> None:
    work = Workload.from_arguments(Workload.parser().parse_args())
    torch.set_num_threads(work.threads)
    contestant = Contestant()
    demonstrations = [
        Demonstration(prompt=Prompt(str(i), as_text(prompt)), text=as_text(drawn[0][:-1]))
        for i, (prompt, drawn) in enumerate(make_rankings(work, 64 * work.minibatch, 1))
    ]
    policy = fused(make_policy(work, attn_implementation=LAB_ATTENTION)).to(work.device)
    settings = SFTSettings(batch_size=work.minibatch, lr=1e-6, dropout=0.0, choose_by="last")
    steps = loop(SFTState(policy, make_tokenizer(work.shape)), demonstrations, constant(SFTKnobs()), settings)
    contestant.ready()
    while contestant.await_go():
        taken = sum(1 for _ in islice(steps, STEPS))
        contestant.report(rest="update", steps=taken)
    steps.close()


if __name__ == "__main__":
    main()
