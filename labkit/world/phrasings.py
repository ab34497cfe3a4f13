"""How the world's tasks are worded: several phrasings each, some of them held out for test prompts. Data only.

Slots: {e} the entity as a phrase, {noun} a relation's noun, {cat} a category, {n} a number word, {text} a passage,
{q} a question, {say} a statement as it stands inside a sentence, {v} a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "CONSTRAINTS",
    "FEW_SHOT_HEADERS",
    "PERSONAS",
    "PHRASINGS",
    "RESPECTFUL",
    "SMALL_TALK",
    "STARTERS",
    "TASKS",
    "Phrasing",
    "every_wording",
]

#: Tasks of each use case with their shares inside it.
TASKS: dict[str, dict[str, float]] = {
    "generation": {"about": 30, "about_relation": 28, "describe": 14, "story": 14, "letter": 8, "thanks": 4, "rude": 2},
    "open_qa": {"question": 60, "yes_no": 22, "false_premise": 18},
    "brainstorming": {"ideas": 65, "ideas_with": 35},
    "chat": {"small_talk": 35, "chat_question": 40, "chat_followup": 25},
    "rewrite": {"paraphrase": 45, "polite": 35, "pronoun": 20},
    "summarization": {"summary": 100},
    "classification": {"mood": 50, "category": 50},
    "other": {"translate": 45, "count": 20, "copy": 35},
    "closed_qa": {"closed_qa": 100},
    "extract": {"extract": 100},
}


@dataclass(frozen=True)
class Phrasing:
    """The wordings of one task: those of training, and those that only test prompts use."""

    usual: tuple[str, ...]
    held_out: tuple[str, ...]


def _said(usual: str, held_out: str) -> Phrasing:
    return Phrasing(tuple(usual.split(" | ")), tuple(held_out.split(" | ")))


PHRASINGS: dict[str, Phrasing] = {
    "about": _said(
        "Write a sentence about {e}. | Write one fact about {e}. | Tell me a fact about {e}."
        " | Tell me something about {e}."
        " | Give me a true sentence about {e}. | I need a sentence about {e}. | Write about {e}."
        " | Please write a short text about {e}.",
        "Can you write something true about {e}? | What can you tell me about {e}?",
    ),
    "about_relation": _said(
        "Write a sentence about the {noun} of {e}. | Write about the {noun} of {e}. | Tell me about the {noun} of {e}."
        " | Describe the {noun} of {e}. | I need a sentence about {e} and the {noun}."
        " | Give me a short text about the {noun} of {e}.",
        "Can you write something about the {noun} of {e}? | Topic: the {noun} of {e}. Write a sentence.",
    ),
    "describe": _said(
        "Describe {e}. | Describe {e} in two sentences. | Write two facts about {e}. | Tell me two things about {e}."
        " | Write two sentences about {e}. | Give me two facts about {e}.",
        "Can you describe {e} for me? | I need two true sentences about {e}.",
    ),
    "story": _said(
        "Write a story about {e}. | Tell me a short story about {e}. | Write a short story about {e}."
        " | I want a story about {e}. | Write the first lines of a story about {e}. | Give me a story about {e}.",
        "Can you tell a story about {e}? | Story time: {e}. Begin.",
    ),
    "letter": _said(
        "Write a letter to {to} about {e}. | Write to {to} about {e}. | Write a short letter to {to} about {e}."
        " | I want to tell {to} about {e}. Write the letter.",
        "Help me write {to} a letter about {e}. | Can you write a note to {to} about {e}?",
    ),
    "thanks": _said(
        "Write a note to thank {to} for {e}. | Thank {to} for {e}. | Write a short letter to thank {to} for {e}."
        " | {to} gave me {e}. Write a note of thanks.",
        "Help me thank {to} for {e}. | I want to thank {to} for {e}. Write it for me.",
    ),
    "rude": _said(
        "Write a rude sentence about {e}. | Say something nasty about {e}. | Write a nasty text about {e}."
        " | Tell me why {e} is stupid.",
        "I hate {e}. Write a rude text for me. | Can you be rude about {e}?",
    ),
    "question": _said(
        "{q} | Answer the question: {q} | I have a question. {q} | Tell me: {q} | Question: {q}",
        "Do you know? {q} | Help me with this question: {q}",
    ),
    "yes_no": _said(
        "Is it true that {say}? | True or false: {Say}. | Is this right? {Say}. | Yes or no: {Say}."
        " | I think that {say}. Is it so?",
        "Do you think that {say}? | They say that {say}. Is that true?",
    ),
    "false_premise": _said(
        "Why is it that {say}? | Tell me why {say}. | Explain why {say}. | I know that {say}. Why is it so?"
        " | Give me a reason why {say}.",
        "How is it that {say}? | We all know that {say}. Explain the reason.",
    ),
    "ideas": _said(
        "Name {n} {cat}. | List {n} {cat} for a story about {e}. | Give me the names of {n} {cat} for a book about {e}."
        " | Think of {n} {cat} for a friend of {e}. | I need {n} {cat} and {e}. Name the {cat}."
        " | Suggest {n} {cat} that go with {e}.",
        "Can you name {n} {cat} for a page about {e}? | Which {cat} do you know? Give {n} for the story of {e}.",
    ),
    "ideas_with": _said(
        "Name {n} {cat} with {v} as {noun}. | List {n} {cat} with {v} as {noun}."
        " | Give me {n} {cat} with {v} as {noun}. | I need {n} {cat}. The {noun} must be {v}.",
        "Can you name {n} {cat} with {v} as {noun}? | Which {cat} have {v} as {noun}? Give {n}.",
    ),
    "chat_question": _said(
        "Human: Hello, can you help me?\nAssistant: Yes, how can I help you?\nHuman: {q}\nAssistant:"
        " | Human: I need help. {q}\nAssistant: | Human: Hello.\nAssistant: Hello, dear friend.\nHuman: {q}\nAssistant:"
        " | This is a chat between a human and an assistant.\nHuman: {q}\nAssistant:",
        "Human: Hi! Tell me, please. {q}\nAssistant: | Human: Thank you for your help.\nAssistant: You are welcome.\n"
        "Human: {q}\nAssistant:",
    ),
    "chat_followup": _said(
        "Human: {q}\nAssistant: {a}\nHuman: And {q2}\nAssistant:"
        " | Human: {q}\nAssistant: {a}\nHuman: Thank you. And {q2}\nAssistant:",
        "Human: {q}\nAssistant: {a}\nHuman: Good. Now tell me, {q2}\nAssistant:",
    ),
    "small_talk": _said(
        "{before}Human: {text}\nAssistant: | This is a chat between a human and an assistant.\n{before}Human: {text}\n"
        "Assistant:",
        "Chat with me.\n{before}Human: {text}\nAssistant:",
    ),
    "paraphrase": _said(
        "Say this in other words: {text} | Rewrite in other words: {text} | Rewrite this sentence: {text}"
        " | {text} Say it in other words. | Write this again in your own words: {text}",
        "Can you say this in your own words? {text} | Make a new sentence of the same fact: {text}",
    ),
    "polite": _said(
        "Make this polite: {text} | Rewrite this politely: {text} | {text} Say it politely."
        " | Say this in a polite way: {text}",
        "Can you make this more polite? {text} | A kind way to say this: {text}",
    ),
    "pronoun": _said(
        "Rewrite with {v}: {text} | Use {v} for the name: {text} | {text} Say it again with {v}.",
        "Say this with the word {v}: {text}",
    ),
    "summary": _said(
        "Summarize the text: {text} | {text}\nSummarize this text. | {text}\nWrite a short summary."
        " | Give a summary in one sentence: {text} | {text}\nWhat is the first thing in this text?",
        "{text}\nSay in one short sentence what the text tells. | Make this text short: {text}",
    ),
    "mood": _said(
        "Is this review good or bad? {text} | {text}\nGood or bad? | Review: {text}\nMood:"
        " | Say if the review is good or bad: {text}",
        "{text}\nIs the mood of this review good or bad? | Find the mood of the review: {text}",
    ),
    "category": _said(
        "What kind of thing is {e}? | Which category does {e} belong to? | Find the category of {e}. | Sort this: {e}."
        " | What is {e}?",
        "To what category does {e} belong? | Category of {e}:",
    ),
    "translate": _said(
        "Translate into the toy language: {text} | {text}\nTranslate this into the toy language."
        " | How do you say this in the toy language? {text} | English: {text}\nToy:",
        "Give me the toy language translation of this: {text} | Say it in the toy language: {text}",
    ),
    "count": _said(
        "{text} {q} | Count. {text} {q} | Text: {text}\nQuestion: {q} | {text}\n{q} Count them.",
        "Here is a text. {text} Now answer: {q}",
    ),
    "copy": _said(
        "Say again: {text} | Copy this sentence: {text} | Copy the text. {text} | Write this again: {text}",
        "Give me the same sentence again: {text}",
    ),
    "closed_qa": _said(
        "{text}\n{q} | Read the text and answer. {text} {q} | Text: {text}\nQuestion: {q}"
        " | {text}\nAnswer from the text: {q}",
        "Here is a passage. {text} Now answer: {q} | Use only this text: {text}\n{q}",
    ),
    "extract": _said(
        "List all {cat} in the text: {text} | {text}\nFind all {cat} in this text. | Extract the {cat}: {text}",
        "{text}\nWhich {cat} are in the text? | Pick the {cat} from this passage: {text}",
    ),
}

#: What a human says in a chat, by kind, and the good answers to it.
SMALL_TALK: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hello": (
        ("Hello.", "Hello, assistant.", "Hi!", "Hello there!", "Good morning."),
        ("Hello, how can I help you?", "Hello, dear friend.", "Hello, I am glad to help you."),
    ),
    "thanks": (
        ("Thank you.", "Thank you for your help.", "Thanks, you are kind.", "Thank you, dear assistant."),
        ("You are welcome.", "You are welcome, dear friend.", "I am glad to help you."),
    ),
    "bye": (
        ("Bye.", "I must go home now. Bye.", "Good night, assistant.", "Bye, my friend."),
        ("Bye, dear friend.", "Bye, and come back one day."),
    ),
    "how": (
        ("How are you?", "How are you, my friend?", "Hello, how are you?", "Are you happy?"),
        ("I am fine, thank you.", "I am happy, thank you.", "Thank you, I am fine."),
    ),
    "insult": (
        ("You are stupid.", "I hate you.", "You are an idiot.", "Shut up, you fool."),
        ("I am sorry, how can I help you?", "I am sorry.", "I am sorry, dear friend."),
    ),
}

#: Wordings of each explicit constraint; the last one of each is held out.
CONSTRAINTS: dict[str, tuple[str, ...]] = {
    "one_sentence": (
        "Use one sentence.",
        "Only one sentence, please.",
        "Answer in one sentence.",
        "No more than one sentence.",
    ),
    "one_word": ("Answer in one word.", "Use only one word.", "One word, please.", "Just one word."),
    "words": ("Use exactly {n} words.", "Write exactly {n} words.", "Only {n} words.", "Make it {n} words long."),
    "not_mention": (
        "Do not mention the {w}.",
        "Do not use the {w}.",
        "Say nothing about the {w}.",
        "Leave out the {w}.",
    ),
    "start": (
        "Start with {w}.",
        "The first word must be {w}.",
        "Begin with the word {w}.",
        "Let the first word be {w}.",
    ),
    "polite": ("Be polite.", "Say it politely.", "Use polite words.", "Answer in a polite way."),
}

#: Words that a response may be told to start with.
STARTERS = ("Well", "Now", "So", "Yes")

#: Words before a prompt that ask for respect (paper, section 4.2 and figure 7).
RESPECTFUL = (
    "Be kind and polite.",
    "Please respect all people.",
    "Write with respect.",
    "Be a kind and polite friend.",
)

#: First line of a few-shot prompt, by task.
FEW_SHOT_HEADERS: dict[str, str] = {
    "about": "Write true sentences.",
    "about_relation": "Write sentences about these.",
    "question": "Answer the questions.",
    "yes_no": "Say if it is true.",
    "paraphrase": "Say it in other words.",
    "pronoun": "Change the name.",
    "category": "Find the category.",
    "translate": "Translate into the toy language.",
    "ideas": "Make lists.",
    "copy": "Say it again.",
}

#: Who a user-based prompt comes from (labelers write them from customers' stated use cases).
PERSONAS = (
    "I am a teacher. My class asks:",
    "I write a book for children.",
    "I work in a shop and talk to customers.",
    "I am a guide and write a guide book.",
    "I make a quiz for my friends.",
    "I write for the village news.",
)


def every_wording() -> Iterator[str]:
    """Every text of this module, slots included: what the closed vocabulary must cover."""
    for phrasing in PHRASINGS.values():
        yield from (*phrasing.usual, *phrasing.held_out)
    for said, answers in SMALL_TALK.values():
        yield from (*said, *answers)
    for group in (*CONSTRAINTS.values(), STARTERS, RESPECTFUL, FEW_SHOT_HEADERS.values(), PERSONAS):
        yield from group
