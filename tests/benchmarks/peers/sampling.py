"""Sampling as a contestant: the lab's engine, or `generate` of transformers, on the same prompts.

The lab's engine as it chooses (`lab`), with steps that a CUDA graph replays (`graphs`; on a CPU the same steps, not
recorded), or with steps one by one (`steps`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from unittest import mock

import torch

from labkit.models import choose_device, fused
from labkit.models.packed import LAB_ATTENTION
from labkit.sampling import engine, sample
from tests.benchmarks.peers.protocol import Contestant
from tests.benchmarks.workload import END, PAD, Workload, make_policy, make_prompts


def lab(work: Workload, graphs: bool | None = None) -> Callable[[], int]:
    """A function that samples once and counts the tokens, in the precision that the lab chooses. graphs: None: as it chooses."""
    device, dtype = choose_device()  # as training does: on CUDA in bf16 the fp32 heads run as TF32
    policy = fused(make_policy(work, attn_implementation=LAB_ATTENTION)).to(device)
    prompts = make_prompts(work, work.batch)
    chosen = contextlib.nullcontext if graphs is None else lambda: mock.patch.object(engine, "graphs_pay", lambda _: graphs)

    def run() -> int:
        with chosen(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            drawn = sample(policy, prompts, max_new_tokens=work.max_response, eos_id=END, seeds=range(work.batch))
        return sum(len(s.ids) for s in drawn)

    return run


def generate(work: Workload) -> Callable[[], int]:
    """The same through `generate`, which must have its prompts padded."""
    policy = make_policy(work).to(work.device, getattr(torch, work.dtype))
    prompts = make_prompts(work, work.batch)
    longest = max(len(p) for p in prompts)
    padded = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts], device=work.device)

    def run() -> int:
        out = policy.generate(
            input_ids=padded, attention_mask=(padded != PAD).long(), max_new_tokens=work.max_response, do_sample=True,
            top_k=0, top_p=1.0, temperature=1.0, eos_token_id=END, pad_token_id=PAD,
        )  # fmt: skip
        return int((out[:, longest:] != PAD).sum())

    return run


ENGINES = {
    "lab": lab,
    "graphs": lambda work: lab(work, graphs=True),
    "steps": lambda work: lab(work, graphs=False),
    "generate": generate,
}


def main() -> None:
    parser = Workload.parser()
    parser.add_argument("--engine", choices=ENGINES, default="lab")
    arguments = parser.parse_args()
    work = Workload.from_arguments(arguments)
    torch.set_num_threads(work.threads)
    contestant = Contestant()
    run = ENGINES[arguments.engine](work)
    contestant.ready()
    while contestant.await_go():
        tokens = run()
        contestant.report(rest="generation", tokens=tokens, mean_length=tokens / work.batch)


if __name__ == "__main__":
    main()
