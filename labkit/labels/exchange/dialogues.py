"""Dialogues as prompt and response: HH transcripts and message lists, in one text convention.

A dialogue's prompt is its transcript up to and with the last "\\n\\nAssistant:"; the response is what follows, so that
prompt + response is the transcript again, character for character. Message lists are written down in the same form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import commonprefix
from typing import Any

from labkit.errors import DataError

__all__ = ["is_messages", "last_turn", "messages_text", "shared_prompt", "text_of"]

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_ROLES = {"user": f"{HUMAN} ", "human": f"{HUMAN} ", "assistant": f"{ASSISTANT} ", "gpt": f"{ASSISTANT} ", "system": ""}


def shared_prompt(chosen: str, rejected: str, where: str) -> tuple[str, str, str]:
    """(prompt, chosen response, rejected response) of two HH transcripts, cut at the last turn mark that they share."""
    common = commonprefix([chosen, rejected])
    cut = common.rfind(ASSISTANT)
    if cut < 0:
        raise DataError(f"{where}: 'chosen' and 'rejected' share no 'Assistant:' turn; give a 'prompt' field as well.")
    cut += len(ASSISTANT)
    return common[:cut], chosen[cut:], rejected[cut:]


def last_turn(transcript: str, where: str) -> tuple[str, str]:
    """(prompt, response) of one HH transcript: the response is the last Assistant turn."""
    cut = transcript.rfind(ASSISTANT)
    if cut < 0:
        raise DataError(f"{where}: the dialogue has no 'Assistant:' turn to learn from.")
    cut += len(ASSISTANT)
    return transcript[:cut], transcript[cut:]


def is_messages(value: Any) -> bool:
    """Whether `value` is a list of chat messages."""
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(m, Mapping) for m in value)


def messages_text(messages: Sequence[Mapping[str, Any]], where: str) -> str:
    """Messages as an HH transcript; `role` and `content`, or `from` and `value`."""
    parts = []
    for message in messages:
        role = str(message.get("role") or message.get("from") or "").lower()
        content = message.get("content") if message.get("content") is not None else message.get("value")
        if role not in _ROLES or not isinstance(content, str):
            raise DataError(f"{where}: a message needs 'role' (user, assistant or system) and 'content' as text.")
        parts.append(_ROLES[role] + content)
    return "".join(parts)


def text_of(value: Any, field: str, where: str) -> str:
    """A text field as it is; a message list as a transcript, open for the assistant where the user spoke last."""
    if isinstance(value, str):
        return value
    if not is_messages(value):
        raise DataError(f"{where}: field {field!r} is {value!r:.60}; it must be text or a list of messages.")
    text, last = messages_text(value, where), str(value[-1].get("role") or value[-1].get("from")).lower()
    return text if last in ("assistant", "gpt") else text + ASSISTANT
