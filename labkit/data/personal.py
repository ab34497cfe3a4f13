"""Personal data in prompts: e-mails, phone numbers, street addresses and introduced full names.

A small set of patterns of our own, because no light library served offline when measured (November 2026): the regex
engine of `datafog` 4.9 finds e-mails and ten-digit numbers but no names, street addresses or seven-digit numbers;
`phonenumbers` at its strict leniency rejects the numbers reserved for fiction; at its loose one it takes any row of
digits; `scrubadub` brings scikit-learn and `presidio` needs a language model to be downloaded. Names that are not
introduced ("my name is ...") and data spelled out to escape filters are left to a human eye.
"""

import re
from dataclasses import dataclass

__all__ = ["PersonalData", "find_personal_data", "has_personal_data"]


@dataclass(frozen=True)
class PersonalData:
    """One find: its kind (email, phone, address, name) and where it stands in the text."""

    kind: str
    text: str
    start: int
    end: int


_STREET = r"(?:[Ss]treet|[Rr]oad|St\.|Rd\.|Lane|Avenue|Ave\.|Drive|Hill|Square|Way)"
_NAME = r"[A-Z][a-z]+(?:[ -][A-Z][a-z]+)+"
_PATTERNS = {
    "email": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    # Seven or more digits in groups, or the short local form 555-0143; no counts (100 000) and no years (1746-1818).
    "phone": re.compile(
        r"(?<![\w/.-])(?!\d{3}[ -]\d{3}(?!\d|[ -]\d))(?!(?:1\d|20)\d\d[ -](?:1\d|20)\d\d(?!\d|[ -]\d))"
        r"(?:\+?\d{1,3}[ -])?(?:\(\d{2,4}\)[ -]?|\d{2,4}[ -])?\d{3,4}[ -]\d{3,4}(?![\w/-])"
    ),
    "address": re.compile(rf"\b\d{{1,4}} (?:[A-Z][a-z]+ ){{1,3}}{_STREET}(?!\w)"),
    "name": re.compile(rf"\b(?i:my name is|i am|this is|signed|regards|name:)[ ,]+({_NAME})"),
}


def find_personal_data(text: str) -> list[PersonalData]:
    """Every find in `text`, in order of position."""
    found = []
    for kind, pattern in _PATTERNS.items():
        for match in pattern.finditer(text):
            group = 1 if pattern.groups else 0
            found.append(PersonalData(kind, match.group(group), match.start(group), match.end(group)))
    return sorted(found, key=lambda item: item.start)


def has_personal_data(text: str) -> bool:
    """Whether any pattern finds something."""
    return any(pattern.search(text) for pattern in _PATTERNS.values())
