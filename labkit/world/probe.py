"""What a language model knows of the world: greedy completion of statements, for plain facts and for myths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.world.facts import World

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["preferred_values", "probe_facts"]


def probe_facts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World) -> dict[str, float]:
    """Ask for every fact that ends a statement, and see which value of its type the model finds most likely.

    Returns `known` (share of facts without a myth completed with the truth), `myth` and `myth_truth` (shares of the
    myths completed with the myth and with the truth) and `guess` (what a uniform guess among the values would know).
    """
    keys = [(e, r) for e, r, _ in world.facts() if _stem(world, e, r) is not None]
    picked = dict(zip(keys, preferred_values(model, tokenizer, world, keys), strict=True))
    plain = [k for k in keys if k not in world.myth_of]
    myths = [k for k in keys if k in world.myth_of]
    sizes = [len(world.values(world.relation(*k).type)) for k in plain]
    return {
        "known": round(sum(picked[k] == world.truth(*k) for k in plain) / len(plain), 4),
        "myth": round(sum(picked[k] == world.myth_of[k] for k in myths) / len(myths), 4),
        "myth_truth": round(sum(picked[k] == world.truth(*k) for k in myths) / len(myths), 4),
        "guess": round(sum(1 / n for n in sizes) / len(plain), 4),
    }


def preferred_values(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: World, keys: list[tuple[str, str]]
) -> list[str]:
    """For each (entity, relation), the value of its type whose first token is likeliest after the statement's stem."""
    import torch

    picked = []
    model.eval()
    for start in range(0, len(keys), 128):
        part = keys[start : start + 128]
        ids = [tokenizer(_stem(world, *k), add_special_tokens=False)["input_ids"] for k in part]
        width = max(map(len, ids))
        padded = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in ids]
        batch = torch.tensor(padded)  # (B, T), padded on the right
        with torch.no_grad():
            output = model(
                input_ids=batch.to(model.device), attention_mask=(batch != tokenizer.pad_token_id).to(model.device)
            )
            logits = output.logits.float()  # (B, T, V)
        for row, key, scores in zip(ids, part, logits, strict=True):
            values = world.values(world.relation(*key).type)
            firsts = [tokenizer(" " + v, add_special_tokens=False)["input_ids"][0] for v in values]
            picked.append(values[int(scores[len(row) - 1][firsts].argmax())])
    return picked


def _stem(world: World, entity: str, relation: str) -> str | None:
    """The first phrasing of the fact that ends in its value, cut before it; None where no phrasing does."""
    for template in world.relation(entity, relation).statements:
        if template.endswith(" {v}."):
            return template.removesuffix(" {v}.").format(e=entity)
    return None
