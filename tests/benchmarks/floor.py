"""The floor: multiplications that the mathematics needs, over the rate at which this machine multiplies matrices."""

from __future__ import annotations

import time

import torch

from tests.benchmarks.workload import SHAPES, Workload, make_policy

__all__ = ["matrix_rate", "needed_for_rankings", "needed_operations"]


def matrix_rate(dtype: str = "float32", device: str = "cpu", threads: int = 1, size: int = 1024) -> float:
    """Operations per second of a square matrix product, best of several; on a GPU of a larger one."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    size = 8192 if device == "cuda" else size
    a = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    clock = time.perf_counter if device == "cuda" else time.process_time
    best = float("inf")
    for _ in range(12):
        started = clock()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - started)
    torch.set_num_threads(before)
    return 2.0 * size**3 / best


def needed_operations(work: Workload, mean_response: float) -> dict[str, float]:
    """Operations of each phase of one PPO iteration, when nothing but what the method asks for is computed.

    Every token passes all layers once per pass (a backward pass costs two more); the head and, in the last layer, the
    feed-forward block are needed at response positions only. Element-wise work, softmax and Adam count for nothing.
    """
    layers, head, width = _sizes(work)
    prompt, response = work.mean_prompt, mean_response
    tokens = prompt + response
    skipped = layers[1] * prompt  # the last feed-forward block on prompts
    attention = 2.0 * SHAPES[work.shape][1] * width * tokens**2  # causal: half of 4 n^2 d per layer
    forward = 2.0 * (layers[0] * tokens - skipped) + attention
    to_words = 2.0 * head * response
    return {
        "generation": work.batch * (forward + to_words),
        "scoring": work.batch * (3 * forward + to_words),  # reference, value model, reward model
        "update": work.batch * 3 * (2 * forward + to_words),  # policy and value model, forwards and backwards
    }


def needed_for_rankings(work: Workload, completions: int) -> float:
    """Operations of one step of a reward model: each prompt once, each completion once, forwards and backwards."""
    layers, _, width = _sizes(work)
    prompt, response = work.mean_prompt, work.mean_response
    tokens = prompt + completions * response
    seen = prompt**2 / 2 + completions * (prompt * response + response**2 / 2)  # pairs of tokens that attention joins
    attention = 4.0 * SHAPES[work.shape][1] * width * seen
    return work.minibatch * 3 * (2.0 * (layers[0] * tokens - layers[1] * (tokens - completions)) + attention)


def _sizes(work: Workload) -> tuple[tuple[int, int], int, int]:
    """((weights of all layers, of the last feed-forward block), of the head, width), without making them."""
    with torch.device("meta"):
        model = make_policy(work, meta=True)
    matrices = {n: p.numel() for n, p in model.named_parameters() if p.dim() == 2}
    last = f".{SHAPES[work.shape][1] - 1}.mlp."
    layers = sum(size for n, size in matrices.items() if ".h." in n or ".layers." in n)
    return (
        (layers, sum(s for n, s in matrices.items() if last in n)),
        model.get_input_embeddings().weight.numel(),
        SHAPES[work.shape][2],
    )
