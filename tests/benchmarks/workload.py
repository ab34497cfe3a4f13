"""The work that every contestant does: models built from configs, a tokenizer and prompts made up on the spot.

Nothing is downloaded and nothing of the lab is imported: this file also runs in the peers' own environments.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

__all__ = [
    "SHAPES",
    "Workload",
    "make_policy",
    "make_prompts",
    "make_rankings",
    "make_tokenizer",
    "sequence_classifier",
]

#: name -> (family, layers, width, heads, vocabulary, context)
SHAPES: dict[str, tuple[str, int, int, int, int, int]] = {
    "tiny": ("gpt2", 2, 32, 2, 128, 128),
    "1M": ("gpt2", 4, 128, 4, 1024, 256),
    "3M": ("gpt2", 4, 256, 4, 1024, 256),
    "10M": ("gpt2", 6, 384, 6, 1024, 256),
    "124M": ("gpt2", 12, 768, 12, 50257, 1024),
    "0.5B": ("qwen2", 24, 896, 14, 151936, 2048),
}
END, PAD = 0, 1


@dataclass(frozen=True)
class Workload:
    """One PPO workload. Responses end by themselves at `mean_response` tokens on average, at most at `max_response`."""

    shape: str = "1M"
    batch: int = 512
    minibatch: int = 64
    mean_prompt: int = 28
    mean_response: float = 12.0
    max_response: int = 32
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    seed: int = 0

    def arguments(self) -> list[str]:
        """The command line that `from_arguments` reads."""
        return [f"--{name}={value}" for name, value in asdict(self).items()]

    @classmethod
    def parser(cls) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser()
        for f in fields(cls):
            parser.add_argument(f"--{f.name}", type=type(f.default), default=f.default)
        return parser

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Workload:
        return cls(**{f.name: getattr(arguments, f.name) for f in fields(cls)})


def make_tokenizer(shape: str) -> PreTrainedTokenizerFast:
    """One token per word; token 0 ends a text and token 1 pads it."""
    vocabulary = SHAPES[shape][4]
    words = {"<end>": END, "<pad>": PAD, **{f"w{i}": i for i in range(2, vocabulary)}}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<pad>", padding_side="left")


def make_policy(work: Workload, *, meta: bool = False, **kwargs: Any) -> torch.nn.Module:
    """A random causal LM in which each token ends the text with about the probability that `mean_response` asks for.

    meta: only the shape is wanted (made inside `torch.device("meta")`).
    """
    torch.manual_seed(work.seed)
    family, layers, width, heads, vocabulary, context = SHAPES[work.shape]
    if family == "gpt2":
        config = GPT2Config(
            vocab_size=vocabulary, n_positions=context, n_embd=width, n_layer=layers, n_head=heads,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=END, eos_token_id=END, pad_token_id=PAD,
            **kwargs,
        )  # fmt: skip
        model, norm = GPT2LMHeadModel(config), "transformer.ln_f"
    else:
        config = Qwen2Config(
            vocab_size=vocabulary, max_position_embeddings=context, hidden_size=width, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=2, intermediate_size=4864, tie_word_embeddings=True,
            bos_token_id=END, eos_token_id=END, pad_token_id=PAD, **kwargs,
        )  # fmt: skip
        model, norm = Qwen2ForCausalLM(config), "model.norm"
    if meta:
        return model
    end_texts(model, model.get_submodule(norm), stop_probability(work.mean_response, work.max_response))
    model.generation_config.pad_token_id = PAD
    return model.eval()


def sequence_classifier(policy: torch.nn.Module) -> torch.nn.Module:
    """A one-label sequence classifier on the policy's backbone, as TRL's trainers expect of reward and value models."""
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(config)
    model.base_model.load_state_dict(policy.base_model.state_dict())
    return model


@torch.no_grad()
def end_texts(model: torch.nn.Module, norm: torch.nn.Module, probability: float) -> None:
    """Make the end token come with about `probability` at every position, whatever the text.

    Coordinate 0 of the final norm's output is kept near a constant; of all tokens only the end token weighs it.
    """
    embeddings = model.get_input_embeddings().weight
    if getattr(norm, "bias", None) is not None:
        norm.weight[0], norm.bias[0] = 0.0, 4.0
        embeddings[:, 0] = 0.0
    else:
        embeddings[:, 0] = 0.1
    seen: list[torch.Tensor] = []
    hook = norm.register_forward_hook(lambda module, inputs, output: seen.append(output[..., 0]))
    model(torch.arange(2, 2 + 64)[None])
    hook.remove()
    logit = math.log(probability / (1 - probability) * (len(embeddings) - 1))
    embeddings[END] = 0.0
    embeddings[END, 0] = embeddings[2, 0] + logit / float(seen[0].mean())


def stop_probability(mean: float, longest: int) -> float:
    """Per-token end probability whose truncated geometric length has this mean."""
    if mean >= longest:
        return 1e-6
    low, high = 1e-6, 1.0
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if (1 - (1 - p) ** longest) / p > mean else (low, p)
    return p


def make_prompts(work: Workload, count: int = 4096) -> list[list[int]]:
    """`count` prompts of random words, of `mean_prompt` tokens on average, from half to one and a half of that."""
    generator = random.Random(work.seed)
    vocabulary = SHAPES[work.shape][4]
    spread = range(work.mean_prompt // 2, work.mean_prompt + (work.mean_prompt + 1) // 2 + 1)
    return [[generator.randrange(2, vocabulary) for _ in range(generator.choice(spread))] for _ in range(count)]


def make_rankings(work: Workload, prompts: int, completions: int) -> list[tuple[list[int], list[list[int]]]]:
    """(prompt, its completions best first), completions ending as the policy's responses do."""
    generator = random.Random(work.seed + 1)
    stop = stop_probability(work.mean_response, work.max_response)
    rows = []
    for prompt in make_prompts(work, prompts):
        drawn = []
        for _ in range(completions):
            response = [generator.randrange(2, SHAPES[work.shape][4])]
            while len(response) < work.max_response - 1 and generator.random() > stop:
                response.append(generator.randrange(2, SHAPES[work.shape][4]))
            drawn.append([*response, END])
        rows.append((prompt, drawn))
    return rows


def as_text(ids: list[int]) -> str:
    """The text that the tokenizer turns back into these ids."""
    return " ".join(f"w{i}" for i in ids)
