"""The lab's reward model on the same rankings: each completion is read once, all pairs of a prompt in one element."""

from __future__ import annotations

import torch

from labkit.knobs import RewardKnobs, constant
from labkit.reward import RewardSettings, RewardState, loop
from labkit.types import Completion, Prompt, Ranking
from tests.benchmarks.peers.lab_ppo import scalar_model
from tests.benchmarks.peers.protocol import Contestant
from tests.benchmarks.workload import Workload, as_text, make_policy, make_rankings, make_tokenizer


def as_ranking(number: int, prompt: list[int], completions: list[list[int]]) -> Ranking:
    """A strict ranking, best first."""
    made = tuple(
        Completion(f"{number}-{i}", str(number), as_text(ids[:-1]), token_ids=tuple(ids), finished=True)
        for i, ids in enumerate(completions)
    )
    return Ranking(Prompt(str(number), as_text(prompt)), made, tuple((c.id,) for c in made))


def main() -> None:
    parser = Workload.parser()
    parser.add_argument("--completions", type=int, default=9)
    arguments = parser.parse_args()
    work = Workload.from_arguments(arguments)
    torch.set_num_threads(work.threads)
    contestant = Contestant()
    rankings = [
        as_ranking(i, *row) for i, row in enumerate(make_rankings(work, 64 * work.minibatch, arguments.completions))
    ]
    state = RewardState(scalar_model(make_policy(work), work), make_tokenizer(work.shape))
    settings = RewardSettings(batch_size=work.minibatch, lr=1e-6)
    steps = loop(state, rankings, constant(RewardKnobs()), settings)
    contestant.ready()
    while contestant.await_go():
        next(steps)
        contestant.report(rest="update", rankings=work.minibatch)
    steps.close()


if __name__ == "__main__":
    main()
