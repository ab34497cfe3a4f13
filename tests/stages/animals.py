"""A toy that SFT and the reward model can learn in seconds: animals have colours, and answers name them, or not."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from labkit.types import Completion, Demonstration, Prompt, Ranking

COLOURS = {"bear": "brown", "cat": "black", "dog": "grey", "fox": "red"}
WORDS = ["<end>", "<pad>", "<unk>", "what", "colour", "is", "the", "?", "it", "a", "good", "nice", "very"]
WORDS += [*COLOURS, *COLOURS.values()]
CONTEXT = 32
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
MODELS = {
    "gpt2": lambda ids: GPT2LMHeadModel(GPT2Config(n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4, **ids)),
    "llama": lambda ids: LlamaForCausalLM(
        LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=CONTEXT, **ids)
    ),
    "qwen2": lambda ids: Qwen2ForCausalLM(
        Qwen2Config(**SIZES, num_key_value_heads=2, max_position_embeddings=CONTEXT, **ids)
    ),
}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<pad>", unk_token="<unk>")


def save_base(folder: Path, architecture: str = "gpt2", seed: int = 0) -> Path:
    """A freshly initialised language model with its tokenizer."""
    torch.manual_seed(seed)
    ids = {"vocab_size": len(WORDS), "eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None}
    MODELS[architecture](ids).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def question(number: int, animal: str) -> Prompt:
    return Prompt(id=f"p{number}", text=f"what colour is the {animal} ?")


def demonstrations(count: int = 32) -> list[Demonstration]:
    """Right answers, in turn for each animal."""
    animals = list(COLOURS)
    return [
        Demonstration(question(i, a), f"the {a} is {COLOURS[a]}", labeler="l0")
        for i in range(count)
        for a in [animals[i % 4]]
    ]


def rankings(count: int = 60, seed: int = 0) -> list[Ranking]:
    """K of 2 to 5 answers with 0 to K - 1 friendly words; friendlier is better, equally friendly is tied."""
    rng = random.Random(seed)
    made = []
    for i in range(count):
        animal, k = rng.choice(list(COLOURS)), rng.randint(2, 5)
        friendly = [rng.randint(0, 3) for _ in range(k - 1)]
        friendly.append((friendly[0] + 1) % 4)  # never all tied
        texts = [
            " ".join([*rng.choices(["good", "nice"], k=n), "it", "is", rng.choice(["red", "grey"])]) for n in friendly
        ]
        completions = tuple(Completion(f"c{j}", f"p{i}", text) for j, text in enumerate(texts))
        groups = [tuple(f"c{j}" for j in range(k) if friendly[j] == n) for n in range(3, -1, -1)]
        made.append(Ranking(question(i, animal), completions, tuple(g for g in groups if g), labeler=f"l{i % 6}"))
    return made


def numbers(steps: list) -> list[dict[str, float]]:
    """Metrics of steps without times, which no two runs share."""
    return [{k: v for k, v in s.metrics.items() if not k.startswith("time_")} for s in steps]
