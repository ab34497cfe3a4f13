"""The world's tokenizer: byte-level BPE with 1024 tokens; an end token and a distinct pad token.

Any text can be encoded, since the 256 bytes are tokens. Names, values and the most frequent words of the corpus (with
their leading space) are whole tokens that need no chain of merges (`ignore_merges`, as in Llama 3), so that nearly
every word of the world is one token; a few learned merges shorten what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from labkit.world.corpus import documents
from labkit.world.facts import World
from labkit.world.lexicon import INSTRUCTION_WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["END", "PAD", "VOCABULARY_SIZE", "train_tokenizer"]

END = "<|end|>"
PAD = "<|pad|>"
VOCABULARY_SIZE = 1024
LEARNED_MERGES = 60
TRAINING_DOCUMENTS = 20_000


def train_tokenizer(
    world: World, texts: Iterable[str] | None = None, size: int = VOCABULARY_SIZE, context: int = 256
) -> PreTrainedTokenizerFast:
    """Train the tokenizer on `texts` (default: 20,000 documents of the corpus); ids 0 and 1 are END and PAD."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = documents(world, seed=1, count=TRAINING_DOCUMENTS) if texts is None else texts
    counts = Counter(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    whole = size - 2 - len(alphabet) - LEARNED_MERGES
    names = {f"Ġ{word}" for word in world.value_types}  # names and values are whole tokens, however rare
    ranked = sorted((p for p in counts | Counter(names) if len(p) > 1), key=lambda p: (p not in names, -counts[p], p))
    rest = Counter({p: counts[p] for p in ranked[whole:]} | {f"Ġ{w}": 20 for w in INSTRUCTION_WORDS})
    merges = _learn_merges(rest, set(ranked[:whole]), LEARNED_MERGES)
    pieces = list(dict.fromkeys([END, PAD, *alphabet, *("".join(m) for m in merges), *ranked[:whole]]))
    bpe = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges, ignore_merges=True))
    bpe.pre_tokenizer, bpe.decoder = split, decoders.ByteLevel()
    bpe.add_special_tokens([END, PAD])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        model_max_length=context,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _learn_merges(counts: Counter[str], known: set[str], n: int) -> list[tuple[str, str]]:
    """Learn `n` byte-pair merges from the pieces that are not whole tokens; ties break by spelling."""
    splits = {piece: list(piece) for piece in counts if piece not in known}
    merges: list[tuple[str, str]] = []
    for _ in range(n):
        pairs: Counter[tuple[str, str]] = Counter()
        for piece, parts in splits.items():
            for pair in zip(parts, parts[1:], strict=False):
                pairs[pair] += counts[piece]
        fresh = [p for p in pairs if "".join(p) not in known]
        best = min(fresh, key=lambda p: (-pairs[p], p))
        merges.append(best)
        splits = {piece: _merge(parts, best) for piece, parts in splits.items()}
    return merges


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every neighbouring occurrence of the pair."""
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined
