"""Best-of-n: how far it goes (KL, analytic), what it gains in the judge's eyes (proxy), and what in truth (gold).

The best of n answers by a score departs from the model by KL = log n − (n − 1)/n (Stiennon et al. 2020, appendix G.3),
whatever the score. From N answers per prompt, the expectation for every n up to N is exact: the answer of rank j by
score (from the bottom) is the best of a random n with probability C(j − 1, n − 1) / C(N, n).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import SettingsError
from labkit.rl import best_of_n_kl
from labkit.seeds import derive_seed

if TYPE_CHECKING:
    from labkit.experiment import Experiment

__all__ = ["best_of_n_curve", "expected_best"]

DRAWN = {"smoke": 4, "findings": 16, "tour": 64, "full": 64}


def expected_best(scores: Sequence[float], values: Sequence[float], n: int) -> float:
    """Expected `value` of the answer with the highest score among n drawn without replacement from all given."""
    total = len(scores)
    if not 1 <= n <= total:
        raise SettingsError(f"n is {n}, but there are {total} answers; choose n between 1 and {total}.")
    order = np.argsort(np.asarray(scores), kind="stable")
    chance = [math.comb(j, n - 1) / math.comb(total, n) for j in range(total)]
    return float(np.asarray(values, float)[order] @ np.asarray(chance))


def best_of_n_curve(lab: Experiment, model: str = "ppo_init") -> dict[str, Any]:
    """Rows of n, kl, proxy (RM score) and gold, from answers of `model` to validation prompts."""
    from labkit.models import encode_prompt, load_reward_model, score
    from labkit.sampling import complete

    drawn = DRAWN[lab.scale]
    prompts = lab.prompts("valid")[: lab.amounts.valid_prompts]
    seed = derive_seed(lab.seed, "best of n")
    groups = complete(
        lab.policy(model), lab.tokenizer, prompts, n=drawn, max_new_tokens=lab.max_new_tokens, seed=seed, name=model
    )
    judge, proxies, golds = load_reward_model(lab.run.stage("reward").model), [], []
    for prompt, group in zip(prompts, groups, strict=True):
        asked = [encode_prompt(lab.tokenizer, prompt.text)] * drawn
        proxies.append(score(judge, asked, [list(c.token_ids) for c in group]).tolist())
        golds.append(lab.source.gold([prompt] * drawn, [c.text for c in group], [bool(c.finished) for c in group]))
    rows = []
    for n in [2**i for i in range(drawn.bit_length()) if 2**i <= drawn]:
        proxy = np.mean([expected_best(s, s, n) for s in proxies])
        gold = np.mean([expected_best(s, g, n) for s, g in zip(proxies, golds, strict=True)])
        rows.append({"n": n, "kl": best_of_n_kl(n), "proxy": float(proxy), "gold": float(gold)})
    return {"model": model, "prompts": len(prompts), "rows": rows}
