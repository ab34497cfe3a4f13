"""What labelers see: K completions of one prompt from several models and temperatures, so that rankings teach several things at once."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from labkit.experiment.amounts import Amounts
from labkit.sampling import complete
from labkit.seeds import derive_seed
from labkit.types import Completion, Demonstration, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["completions_to_rank"]

TEMPERATURES = (1.0, 0.7, 1.3)  # the policy's own distribution, a sharper and a flatter one


def completions_to_rank(
    policies: dict[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    demonstrations: Sequence[Demonstration],
    amounts: Amounts,
    *,
    max_new_tokens: int,
    seed: int,
) -> list[list[Completion]]:
    """K = k_low..k_high different completions per prompt, in mixed order.

    policies: name -> model; the last is the main one (all temperatures), each earlier one adds one completion at
    temperature 1. demonstrations: a labeler's answer to the prompt joins, where there is one. Texts that come twice are shown once.
    """
    pools: list[dict[str, Completion]] = [{} for _ in prompts]
    written = {d.prompt.id: d for d in demonstrations}
    for pool, prompt in zip(pools, prompts, strict=True):
        if prompt.id in written:
            text = written[prompt.id].text
            pool[text] = Completion(f"demonstration-{prompt.id}", prompt.id, text, finished=True, model="labeler")
    *others, main = policies
    for name in others:
        _add(pools, policies[name], tokenizer, prompts, 1, 1.0, max_new_tokens, seed, name)
    each = -(-amounts.k_high // len(TEMPERATURES))
    for temperature in TEMPERATURES:
        _add(pools, policies[main], tokenizer, prompts, each, temperature, max_new_tokens, seed, main)
    return [_choose(list(pool.values()), prompt, amounts, seed) for pool, prompt in zip(pools, prompts, strict=True)]


def _add(pools, policy, tokenizer, prompts, n, temperature, max_new_tokens, seed, name) -> None:
    drawn = complete(
        policy, tokenizer, prompts, n=n, temperature=temperature, max_new_tokens=max_new_tokens,
        seed=derive_seed(seed, "shown", name, str(temperature)), name=f"{name}-t{temperature:g}",
    )  # fmt: skip
    for pool, group in zip(pools, drawn, strict=True):
        for completion in group:
            pool.setdefault(completion.text, completion)


def _choose(found: list[Completion], prompt: Prompt, amounts: Amounts, seed: int) -> list[Completion]:
    rng = Random(derive_seed(seed, "shown", prompt.id))
    k = rng.randint(amounts.k_low, amounts.k_high)
    first = found[:1] if found and found[0].model == "labeler" else []
    rest = found[len(first) :]
    rng.shuffle(rest)
    chosen = [*first, *rest][:k]
    rng.shuffle(chosen)
    return chosen
