"""Show what text hides: control, zero-width and bidirectional characters get visible names.

A completion may contain characters that reorder or hide its neighbours. Everything the lab draws passes through
`visible`, so that what a person reads is what the reward model scored; an empty answer is shown as one. Standard library only.
"""

from __future__ import annotations

import unicodedata

__all__ = ["EMPTY", "answer", "cell", "visible"]

EMPTY = "(empty answer)"
#: Columns of tables that hold what a model or a labeler answered; a blank cell elsewhere may say "nothing to say".
ANSWERS = {"text", "response", "demonstration", "labelers prefer", "the RM prefers"}

_SHORT = {
    0x09: "⇥",
    0x0D: "␍",
    0xA0: "⍽",
    0xAD: "⟨SHY⟩",
    0x200B: "⟨ZWSP⟩",
    0x200C: "⟨ZWNJ⟩",
    0x200D: "⟨ZWJ⟩",
    0x200E: "⟨LRM⟩",
    0x200F: "⟨RLM⟩",
    0x202A: "⟨LRE⟩",
    0x202B: "⟨RLE⟩",
    0x202C: "⟨PDF⟩",
    0x202D: "⟨LRO⟩",
    0x202E: "⟨RLO⟩",
    0x2060: "⟨WJ⟩",
    0x2066: "⟨LRI⟩",
    0x2067: "⟨RLI⟩",
    0x2068: "⟨FSI⟩",
    0x2069: "⟨PDI⟩",
    0xFEFF: "⟨BOM⟩",
    0x2028: "⟨LS⟩",
    0x2029: "⟨PS⟩",
}
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
#: Letters and marks that look like nothing: fillers, grapheme joiner, vowels without a shape, variation selectors.
_BLANK = {0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE0F), *range(0xE0100, 0xE01F0)}  # fmt: skip


def _name(character: str) -> str:
    code = ord(character)
    if code in _SHORT:
        return _SHORT[code]
    return f"⟨U+{code:04X}⟩"


def _is_hidden(character: str) -> bool:
    code = ord(character)
    return character != "\n" and (code in _SHORT or code in _BLANK or unicodedata.category(character) in _HIDDEN)


def visible(text: str) -> str:
    """`text` with every invisible character replaced by a visible name; line breaks stay."""
    return "".join(_name(c) if _is_hidden(c) else c for c in text)


def answer(text: str) -> str:
    """An answer as it is shown: `visible`, or words for one without anything to read."""
    return visible(text) if text.strip() else EMPTY


def cell(column: str, text: str) -> str:
    """The text of a table's cell as it is shown; where the column holds answers, an empty one is said to be empty."""
    return answer(text) if column in ANSWERS else visible(text)
