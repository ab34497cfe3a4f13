"""What one iteration of PPO reports: means over the batch, over all processes, and a few sampled episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object

from labkit import rl
from labkit.models import response_logits
from labkit.ppo.sharding import summed

if TYPE_CHECKING:
    from labkit.knobs import PPOKnobs
    from labkit.ppo.rollout import Rollout
    from labkit.ppo.settings import PPOSettings
    from labkit.ppo.state import State
    from labkit.ppo.update import Tally

__all__ = ["batch_rows", "exact_kl", "metrics_of", "of_processes", "sample_rows"]


def metrics_of(
    state: State,
    rollout: Rollout,
    knobs: PPOKnobs,
    settings: PPOSettings,
    tally: Tally,
    gradients: dict[str, float],
    seconds: dict[str, float],
) -> dict[str, float]:
    """The numbers of one Step; KL and lengths are per episode, losses and ratios per token."""
    mask = rollout.mask
    _, k2, k3 = rl.kl_estimates(rollout.logprobs, rollout.ref_logprobs)
    episodes = {
        "score": rollout.scores,
        "kl_k1": (rollout.kl * mask).sum(1),
        "kl_k2": (k2 * mask).sum(1),
        "kl_k3": (k3 * mask).sum(1),
        "returns": rollout.returns[:, 0],
        "response_length": mask.sum(1).float(),
        "end_token_rate": rollout.finished.float(),
    }
    if rollout.gold is not None:
        episodes["gold"] = rollout.gold
    means = _mean_over_processes(state, {name: (float(x.sum()), len(x)) for name, x in episodes.items()})
    means |= _mean_over_processes(state, {name: (total, tally.tokens) for name, total in tally.sums().items()})
    means["objective"] = means["score"] - knobs.kl_coef * means["kl_k1"]
    means["ratio_max"] = _most_of_processes(state, tally.most("ratio_max"))
    means["explained_variance"] = rl.explained_variance(
        *of_processes(state, rollout.values[mask], rollout.returns[mask])
    )
    if settings.exact_kl:
        means["kl_exact"] = exact_kl(state, rollout, knobs.temperature)
    means["lr_policy"] = state.policy_optimizer.param_groups[0]["lr"]
    means["lr_value"] = state.value_optimizer.param_groups[0]["lr"]
    means["episodes"] = float(settings.batch)
    return means | gradients | seconds


@torch.no_grad()
def exact_kl(state: State, rollout: Rollout, temperature: float, rows: int = 32) -> float:
    """KL(π ‖ π_ref) summed over the whole vocabulary at each sampled state, per episode, on the batch's first `rows`; after the update.

    Several processes share these episodes as they share the batch: of n processes each has every n-th.
    """
    accelerator = state.accelerator
    mine = max(1, len(range(accelerator.process_index, rows, accelerator.num_processes)))
    prompts, responses = rollout.prompt_ids[:mine], rollout.response_ids[:mine]
    with state.whole():
        policy = (response_logits(state.plain_policy, prompts, responses) / temperature).log_softmax(-1)
    with state.whole(), state.as_reference() as model:
        reference = (response_logits(model, prompts, responses) / temperature).log_softmax(-1)
    total = float((policy.exp() * (policy - reference)).sum())
    return _mean_over_processes(state, {"kl_exact": (total, len(prompts))})["kl_exact"]


def sample_rows(rollout: Rollout, count: int) -> tuple[dict[str, Any], ...]:
    """The first `count` episodes of the batch as plain rows for tables and run records."""
    count = min(count, len(rollout))
    columns = {
        "prompt_id": [p.id for p in rollout.prompts[:count]],
        "prompt": [p.text for p in rollout.prompts[:count]],
        "response": rollout.texts(count),
        "score": _rounded(rollout.scores[:count]),
        "kl": _rounded((rollout.kl * rollout.mask).sum(1)[:count]),
        "length": [len(ids) for ids in rollout.response_ids[:count]],
        "finished": rollout.finished[:count].tolist(),
    }
    if rollout.gold is not None:
        columns["gold"] = _rounded(rollout.gold[:count])
    return tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def batch_rows(state: State) -> list[dict[str, Any]] | None:
    """All episodes of the newest batch, in its order, each also with its token ids and its seed.

    With several processes all must ask, and the first one gets the rows of all of them; the others get None.
    """
    rollout, accelerator = state.rollout, state.accelerator
    rows = [
        row | {"token_ids": list(ids), "seed": seed}
        for row, ids, seed in zip(sample_rows(rollout, len(rollout)), rollout.response_ids, rollout.seeds, strict=True)
    ]
    if accelerator.num_processes == 1:
        return rows
    every = gather_object(rows)  # process after process; of n each took every n-th episode
    share = len(every) // accelerator.num_processes
    return [every[i] for k in range(share) for i in range(k, len(every), share)] if accelerator.is_main_process else None


def _rounded(values: torch.Tensor) -> list[float]:
    return [round(x, 4) for x in values.tolist()]


def _mean_over_processes(state: State, sums: dict[str, tuple[float, int]]) -> dict[str, float]:
    """(sum, count) pairs of this process -> means over all processes."""
    flat = summed(state.accelerator, torch.tensor([[s, float(n)] for s, n in sums.values()], dtype=torch.float64))
    return {name: float(s / n) for name, (s, n) in zip(sums, flat.tolist(), strict=True)}


def _most_of_processes(state: State, value: float) -> float:
    return float(state.accelerator.gather(torch.tensor([value], device=state.accelerator.device)).max())


def of_processes(state: State, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """(N,) tensors of this process -> those of all processes end to end, on the CPU."""
    accelerator = state.accelerator
    if accelerator.num_processes == 1:
        return list(tensors)
    packed = torch.stack(tensors).T.contiguous().to(accelerator.device)  # (N, number of tensors)
    counts = accelerator.gather(torch.tensor([len(packed)], device=accelerator.device)).tolist()
    padded = accelerator.pad_across_processes(packed, dim=0)
    parts = accelerator.gather(padded).cpu().split(len(padded))
    return list(torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)]).T)
