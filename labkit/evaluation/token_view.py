"""One response, token by token: what policy, reference, value model and reward model think at each of its tokens.

Every model is optional; a column is there when its models are. The numbers are those that PPO trains on: the same
masks, the same KL, the same rewards and advantages (before whitening), so that a strange advantage can be traced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from labkit import rl
from labkit.errors import DataError
from labkit.models import encode_prompt, response_logprobs, response_values, text_values
from labkit.reward.attribution import gradient_x_input, occlusion
from labkit.reward.scorer import response_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["COLUMNS", "TokenView", "token_view"]

#: Name of each column, with one sentence on how to read it.
COLUMNS: dict[str, str] = {
    "log π": "Log-probability of the token under the policy.",
    "log π_ref": "Log-probability of the token under the PPO init model.",
    "KL (k1)": "log π − log π_ref: what β taxes. Positive where the policy has grown fonder of the token.",
    "ratio": "π / π_ref: how many times likelier the token has become.",
    "prefix reward": "The reward model's score if the text ended after this token.",
    "change of reward": "How much this token moved the prefix reward.",
    "value": "What the value model expects from here, before the token is chosen.",
    "reward": "−β·KL, and the score on the last token: what PPO receives here.",
    "advantage": "How much better than expected the token turned out (GAE, before whitening).",
    "gradient × input": "First-order share of the score; one backward pass.",
    "occlusion": "Score minus the score without this token.",
}


@dataclass(frozen=True)
class TokenView:
    """The tokens of one response as text, and one list of numbers per column, each as long as the tokens."""

    tokens: tuple[str, ...]
    columns: dict[str, tuple[float, ...]]
    score: float | None = None
    prompt: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.columns.items():
            if len(values) != len(self.tokens):
                raise DataError(f"{name} has {len(values)} numbers for {len(self.tokens)} tokens; give one per token.")


def token_view(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    response: str | Sequence[int],
    *,
    policy: PreTrainedModel | None = None,
    reference: PreTrainedModel | None = None,
    value: PreTrainedModel | None = None,
    reward: PreTrainedModel | None = None,
    finished: bool = True,
    kl_coef: float = 0.02,
    gae_lambda: float = 0.95,
    temperature: float = 1.0,
    missing_end_penalty: float = 0.0,
    attribute: bool = True,
) -> TokenView:
    """Look at `response` (text, or its sampled ids, which are better) with whatever models there are.

    reward, value: token-classification models with one label. kl_coef, gae_lambda, temperature: those of the step.
    missing_end_penalty: what PPO takes off the score of a response without end token; it shows in the reward of the last
    token and in the advantages.
    attribute: also gradient x input and occlusion of the reward model's score.
    """
    head = encode_prompt(tokenizer, prompt)
    ids = response_ids(tokenizer, response, finished) if isinstance(response, str) else [int(i) for i in response]
    if not ids:
        raise DataError("The response has no tokens; there is nothing to look at.")
    columns: dict[str, torch.Tensor] = {}
    if policy is not None:
        columns["log π"] = response_logprobs(policy, [head], [ids], temperature=temperature)
    if reference is not None:
        columns["log π_ref"] = response_logprobs(reference, [head], [ids], temperature=temperature)
    if policy is not None and reference is not None:
        columns["KL (k1)"] = columns["log π"] - columns["log π_ref"]
        columns["ratio"] = columns["KL (k1)"].clamp(-20, 20).exp()
    final = _reward_columns(columns, reward, head, ids)
    if value is not None:
        columns["value"] = response_values(value, [head], [ids])
    if value is not None and final is not None and "KL (k1)" in columns:
        paid = final - missing_end_penalty * (ids[-1] != tokenizer.eos_token_id)
        _advantage_columns(columns, paid, kl_coef, gae_lambda)
    if reward is not None and attribute:
        columns["gradient × input"] = torch.tensor(gradient_x_input(reward, head, ids)[len(head) :])
        columns["occlusion"] = torch.tensor(occlusion(reward, head, ids)[len(head) :])
    ordered = {name: tuple(columns[name].float().cpu().tolist()) for name in COLUMNS if name in columns}
    return TokenView(
        tuple(_pieces(tokenizer, ids)), ordered, final, prompt, {"finished": ids[-1] == tokenizer.eos_token_id}
    )


def _reward_columns(
    columns: dict[str, torch.Tensor], reward: PreTrainedModel | None, head: list[int], ids: list[int]
) -> float | None:
    if reward is None:
        return None
    prefixes = text_values(reward, [[*head, *ids]])[0][len(head) - 1 :]  # from the bare prompt on
    columns["prefix reward"] = prefixes[1:]
    columns["change of reward"] = prefixes.diff()
    return float(prefixes[-1])


def _advantage_columns(columns: dict[str, torch.Tensor], final: float, kl_coef: float, gae_lambda: float) -> None:
    kl, values = columns["KL (k1)"][None], columns["value"][None].to(columns["KL (k1)"].device)  # (1, R)
    mask = torch.ones_like(kl, dtype=torch.bool)
    rewards = rl.token_rewards(torch.tensor([final], device=kl.device), kl, mask, kl_coef)
    columns["reward"] = rewards[0]
    columns["advantage"] = rl.gae(rewards, values, mask, gae_lambda)[0][0]


def _pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text of each token by itself; special tokens by their names."""
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    special = set(getattr(tokenizer, "all_special_ids", []) or [tokenizer.eos_token_id])
    pieces = []
    for token in ids:
        text = tokenizer.decode([token], skip_special_tokens=False)
        if token in special and convert is not None:
            text = str(convert(token))
        elif token in special:
            text = "<end>"
        pieces.append(text)
    return pieces
