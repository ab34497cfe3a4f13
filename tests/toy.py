"""A toy to run the real method on: models of a few thousand weights, a tokenizer whose words are numbers, a reward one can count."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from labkit.models import load_policy, new_reward_model
from labkit.ppo import PPOSettings, State
from labkit.types import Prompt

VOCABULARY, END = 40, 2
SPECIALS = {"bos_token_id": 1, "eos_token_id": END}
ROPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
ARCHITECTURES = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=32, n_layer=2, n_head=4, **SPECIALS)
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(**ROPE, num_key_value_heads=2, max_position_embeddings=64, **SPECIALS)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(
        Qwen2Config(**ROPE, num_key_value_heads=2, max_position_embeddings=64, **SPECIALS)
    ),
}


class NumberTokenizer:
    """Text "3 17 5" is the ids [3, 17, 5]; id 2 ends a response."""

    eos_token_id = END

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}

    def decode(self, ids: list[int], **_: object) -> str:
        return " ".join(str(i) for i in ids if i != END)


def save_toy(folder: Path, architecture: str = "gpt2", seed: int = 0, spread: float = 0.0) -> Path:
    """Save a freshly initialised toy model; `spread` adds noise to its weights so that its predictions are not flat."""
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture]()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(spread * torch.randn_like(p))
    model.save_pretrained(folder)
    return folder


def toy_rows(count: int, low: int, high: int, seed: int = 0) -> list[list[int]]:
    """`count` rows of random ids, of unequal lengths in [low, high]."""
    rng = random.Random(seed)
    return [[rng.randrange(3, VOCABULARY) for _ in range(rng.randint(low, high))] for _ in range(count)]


def toy_prompts(count: int, seed: int = 0) -> list[Prompt]:
    return [Prompt(id=f"p{i}", text=" ".join(map(str, row))) for i, row in enumerate(toy_rows(count, 3, 9, seed))]


def even_share(prompts: list[list[int]], responses: list[list[int]]) -> torch.Tensor:
    """A reward that a policy can learn in a few steps: the share of even ids."""
    return torch.tensor([sum(t % 2 == 0 for t in r) / len(r) for r in responses])


def toy_state(folder: Path, settings: PPOSettings) -> State:
    return State(
        load_policy(folder, device="cpu"), new_reward_model(folder, 0, device="cpu"), NumberTokenizer(), settings
    )
