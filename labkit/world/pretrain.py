"""Pretrain the world's base models: GPT-2 shapes in three sizes, from the corpus, by one command.

    python -m labkit.world.pretrain small medium large

The bases ship inside the package (`bases/<size>/`: fp16 safetensors, tokenizer, `recipe.json`), so that a run begins
from a pretrained model as the paper does; the command rebuilds them. `probe_facts` measures what a base knows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import SettingsError
from labkit.seeds import derive_seed
from labkit.world.facts import World, build_world
from labkit.world.probe import probe_facts
from labkit.world.rows import corpus_stream, packed_rows
from labkit.world.tokenizer import train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["CONTEXT", "RECIPES", "SHIPPED", "Recipe", "base_path", "corpus_loss", "model_path", "new_model", "own_folder", "pretrain", "usual_judge"]

CONTEXT = 256
BASES = Path(__file__).with_name("bases")
VALID_ROWS = 64


@dataclass(frozen=True)
class Recipe:
    """How one base is made; saved beside it."""

    layers: int
    width: int
    heads: int
    steps: int
    rows: int = 16  # rows of CONTEXT tokens per step
    lr_matrices: float = 2e-2  # Muon, for the weight matrices inside the blocks
    lr: float = 3e-3  # AdamW, for embeddings, norms and biases
    warmup: int = 50
    lr_end: float = 0.1  # the cosine ends at this share of the peak
    weight_decay: float = 0.02  # of the matrices
    momentum: float = 0.95  # Muon, Nesterov
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    seed: int = 0


#: Muon instead of AdamW for the matrices: after 300 steps of the small base the held-out loss was 1.37 against 2.15.
RECIPES: dict[str, Recipe] = {
    "small": Recipe(layers=4, width=64, heads=4, steps=1000, lr=5e-3),
    "medium": Recipe(layers=4, width=128, heads=4, steps=1500, lr=3e-3),
    "large": Recipe(layers=6, width=192, heads=6, steps=1600, lr_matrices=1e-2, lr=1e-3),
}


#: The bases that ship with the package: a size, or the reward model's.
SHIPPED = (*RECIPES, "reader")


def usual_judge(model: str) -> str:
    """What the reward model of a policy starts from where nothing else is asked: the reader for the world's bases, else the same model."""
    return "reader" if model in RECIPES else model


#: Parameters that may name a folder of one's own -> the names that are the lab's, whatever lies in the folder at hand.
NOT_FOLDERS = {"model": SHIPPED, "judge": SHIPPED, "reward_base": SHIPPED, "data": ("world",)}


def own_folder(name: str, value: Any) -> Any:
    """The value of a parameter, or of a run's fact: of a folder that is there its whole path, so that it is the same one from everywhere.

    The lab's names, hub names and folders that are gone stay as they are, and so does all that is called otherwise.
    """
    may_be_one = isinstance(value, str) and value not in ("", *NOT_FOLDERS.get(name, (value,)))
    return os.path.realpath(value) if may_be_one and os.path.isdir(value) else value


def base_path(size: str = "small") -> Path:
    """The folder of a shipped base, a size or "reader"; it loads with plain `AutoModelForCausalLM.from_pretrained`."""
    if size not in SHIPPED:
        raise SettingsError(f"There is no base {size!r}; the world's bases are {', '.join(SHIPPED)}.")
    return BASES / size


def model_path(model: str) -> str:
    """The folder of a shipped base; anything else is a folder or hub name already."""
    return str(base_path(model)) if model in SHIPPED else model


def new_model(recipe: Recipe, vocabulary: int, eos_id: int, pad_id: int) -> PreTrainedModel:
    """A fresh GPT-2 of the recipe's shape, initialised from its seed."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=CONTEXT,
        n_layer=recipe.layers,
        n_embd=recipe.width,
        n_head=recipe.heads,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=eos_id,
        eos_token_id=eos_id,
        pad_token_id=pad_id,
    )
    torch.manual_seed(derive_seed(recipe.seed, "base", "weights"))
    return GPT2LMHeadModel(config)


def pretrain(
    size: str,
    folder: str | Path | None = None,
    recipe: Recipe | None = None,
    world: World | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train one base, save it to `folder` (default: where the shipped base lies) and return its record.

    Without `tokenizer`, the world's is trained first. The same recipe on the same machine and versions gives the
    same weights.
    """
    if recipe is None and size not in RECIPES:
        raise SettingsError(f"There is no base {size!r}; the world's bases are {', '.join(RECIPES)}.")
    recipe, world = recipe or RECIPES[size], world or build_world()
    folder = Path(folder) if folder else base_path(size)
    tokenizer = tokenizer or train_tokenizer(world)
    model = new_model(recipe, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    valid = packed_rows(world, tokenizer, VALID_ROWS, CONTEXT, recipe.seed, split="valid")
    started = time.perf_counter()
    losses = _train(model, corpus_stream(world, tokenizer, recipe.rows, CONTEXT, recipe.seed), valid, recipe, report)
    seconds = time.perf_counter() - started
    model = model.half()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = probe_facts(model.float(), tokenizer, world)
    record = {
        "size": size,
        "parameters": model.num_parameters(),
        "recipe": asdict(recipe),
        "world_seed": world.seed,
        "tokens": recipe.steps * recipe.rows * CONTEXT,
        "valid_losses": losses,
        "valid_loss": corpus_loss(model, valid),
        "facts": facts,
        **circumstances(seconds),
    }
    (folder / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")
    report(f"{size}: valid loss {record['valid_loss']:.3f}, {facts} in {seconds:.0f} s -> {folder.name}")
    return record


def corpus_loss(model: PreTrainedModel, rows: torch.Tensor, batch: int = 32) -> float:
    """Mean next-token loss in nats over packed rows (N, T)."""
    import torch

    model.eval()
    with torch.no_grad():
        losses = [_loss(model, part).item() * len(part) for part in rows.split(batch)]
    return sum(losses) / len(rows)


def _loss(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss of a batch of rows (B, T); logits in fp32."""
    import torch.nn.functional as F

    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()  # (B, T - 1, V)
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _train(model: PreTrainedModel, batches: Any, valid: torch.Tensor, recipe: Recipe, report: Callable[[str], None]):
    """The training loop; returns {step: held-out loss}."""
    import torch

    chosen = optimizers(model, recipe)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: schedule_of(step, recipe)) for o in chosen]
    losses = {0: round(corpus_loss(model, valid), 4)}
    for step, ids in zip(range(1, recipe.steps + 1), batches, strict=False):
        model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_bf16(recipe)):
            loss = _loss(model, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        for optimizer, scheduler in zip(chosen, schedulers, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        if step % max(1, recipe.steps // 20) == 0 or step == recipe.steps:
            losses[step] = round(corpus_loss(model, valid), 4)
            report(f"step {step}/{recipe.steps}: loss {loss.item():.3f}, held-out {losses[step]:.3f}")
    return losses


def optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    import torch

    from labkit.world.muon import Muon

    named = list(model.named_parameters())
    matrices = [p for name, p in named if ".h." in name and p.dim() == 2]
    others = [p for name, p in named if ".h." not in name or p.dim() != 2]
    muon = Muon(matrices, lr=recipe.lr_matrices, weight_decay=recipe.weight_decay, momentum=recipe.momentum)
    return [muon, torch.optim.AdamW(others, lr=recipe.lr, betas=recipe.betas, weight_decay=0.0)]


def schedule_of(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine from 1 to `lr_end`."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr_end + (1 - recipe.lr_end) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _bf16(recipe: Recipe) -> bool:
    """bf16 matrix products where they measured faster: from width 128 on, on a CPU that has them in hardware."""
    import torch

    return recipe.width >= 128 and torch.cpu._is_amx_tile_supported()


def circumstances(seconds: float) -> dict[str, Any]:
    """How long it took, on what, with which versions: the end of a base's record."""
    import torch

    return {
        "seconds": round(seconds, 1),
        "hardware": f"{platform.machine()}, {_processor()}, {torch.get_num_threads()} thread(s)",
        "versions": _versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"python": platform.python_version()} | {n: version(n) for n in ("torch", "transformers", "tokenizers")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the named bases, all three without a name."""
    parser = argparse.ArgumentParser(prog="python -m labkit.world.pretrain", description=main.__doc__)
    parser.add_argument("sizes", nargs="*", metavar="size", help=f"any of {', '.join(RECIPES)}")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of steps")
    parser.add_argument("--folder", type=Path, default=BASES, help="where to put the bases (default: the package)")
    options = parser.parse_args(arguments)
    for size in options.sizes or RECIPES:
        base_path(size)
        recipe = replace(RECIPES[size], steps=max(1, round(RECIPES[size].steps * options.scale)))
        pretrain(size, options.folder / size, recipe)


if __name__ == "__main__":
    main()
