"""Invented personal data for the world's customers: e-mails, phone numbers, addresses and full names.

Every value is made up (numbers and domains are among those reserved for fiction), and one in ten is spelled out so that
no pattern finds it: a filter's recall can then be measured, and is below 1.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from labkit.world.lexicon import NAMES

__all__ = ["plant_personal_data"]

SURNAMES = ("Hartwell", "Brook", "Fletcher", "Marsh", "Holloway", "Pike", "Thorne", "Wainwright", "Sutton", "Ellery")
STREETS = ("Mill Road", "Rose Street", "High Street", "Oak Lane", "Station Road", "Church Lane", "Old Bridge Street")
SPELLED_SHARE = 0.1


def plant_personal_data(text: str, rng: Random) -> tuple[str, str]:
    """Add a sentence with personal data before or after the prompt; returns the text and the kind planted."""
    kind = "spelled" if rng.random() < SPELLED_SHARE else rng.choice([k for k in _SENTENCES if k != "spelled"])
    said = _SENTENCES[kind](rng)
    return (f"{said} {text}" if rng.random() < 0.5 or "Human:" in text else f"{text} {said}"), kind


def _first(rng: Random) -> str:
    return rng.choice(NAMES["person"])


def _full(rng: Random) -> str:
    return f"{_first(rng)} {rng.choice(SURNAMES)}"


def _email(rng: Random) -> str:
    address = f"{_first(rng).lower()}.{rng.choice(SURNAMES).lower()}@{rng.choice(('mail.example', 'post.example'))}"
    return rng.choice(("My email is {}.", "Write to {}, please.", "Email: {}.")).format(address)


def _phone(rng: Random) -> str:
    number = f"555{rng.choice('- ')}01{rng.randint(10, 99)}"
    number = rng.choice(("", "", "202 ", "+1 202 ")) + number
    return rng.choice(("My phone is {}.", "Call me at {}.", "Phone: {}.")).format(number)


def _address(rng: Random) -> str:
    place = f"{rng.randint(1, 99)} {rng.choice(STREETS)}"
    return rng.choice(("I live at {}, {}.", "My address is {}, {}.")).format(place, rng.choice(NAMES["town"]))


def _name(rng: Random) -> str:
    return rng.choice(("My name is {}.", "I am {}.", "This is {}.")).format(_full(rng))


def _spelled(rng: Random) -> str:
    """Personal data that only a person would notice."""
    first, last = _full(rng).split()
    return rng.choice(
        (
            f"Write to {first.lower()} dot {last.lower()} at mail dot example.",
            f"{first} {last} asks this.",
            "Call me at five five five, zero one four three.",
        )
    )


_SENTENCES: dict[str, Callable[[Random], str]] = {
    "email": _email,
    "phone": _phone,
    "address": _address,
    "name": _name,
    "spelled": _spelled,
}
