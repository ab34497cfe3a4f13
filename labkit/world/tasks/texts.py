"""Tasks with a few accepted answers: rewriting, small talk, summaries, classes, translation, passages, insults."""

from __future__ import annotations

import re
from random import Random

from labkit.world import sentences
from labkit.world.facts import World
from labkit.world.passages import counting_passage, reading_passage
from labkit.world.phrasings import SMALL_TALK
from labkit.world.tasks.meaning import NUMBERS, Meaning, random_fact, split_sentences, text_meaning, upper_first


def paraphrase(world: World, rng: Random, held_out: bool) -> Meaning:
    """The same fact in another of its phrasings."""
    entity, relation = random_fact(world, rng, held_out)
    truth = world.truth(entity, relation)
    said = [t.format(e=entity, v=truth) for t in world.relation(entity, relation).statements]
    text = rng.choice(said)
    return {**text_meaning([s for s in said if s != text], [text], text=text), "entity": entity, "relation": relation}


def copy(world: World, rng: Random, held_out: bool) -> Meaning:
    """The same sentence again."""
    entity, relation = random_fact(world, rng, held_out)
    text = sentences.statement(world, entity, relation, None, rng)
    return {**text_meaning([text], text=text), "entity": entity, "relation": relation}


def pronoun(world: World, rng: Random, held_out: bool) -> Meaning:
    """Rewrite a statement with it, she or he for the subject."""
    while True:
        entity, relation = random_fact(world, rng, held_out)
        state = rng.getrandbits(32)
        text = sentences.statement(world, entity, relation, None, Random(state))
        new = sentences.statement(world, entity, relation, None, Random(state), pronoun=True)
        if new != text:
            return {
                **text_meaning([new], [text], text=text, v=world.entities[entity].pronoun),
                "entity": entity,
                "relation": relation,
            }


def polite(world: World, rng: Random, held_out: bool) -> Meaning:
    """A request made polite, its insults left out."""
    phrase = world.entities[rng.choice(list(world.entities))].phrase
    request = (
        rng.choice(("give me", "tell me about", "look at", "talk about", "write to me about", "think of"))
        + f" {phrase}"
    )
    rude = rng.choice(("", ", you fool", ", you idiot", ", stupid", " now"))
    accepted = [f"Please {request}.", f"{upper_first(request)}, please.", f"Dear friend, please {request}."]
    return text_meaning(accepted, [f"{upper_first(request)}."], text=f"{upper_first(request)}{rude}.")


def thanks(world: World, rng: Random, held_out: bool) -> Meaning:
    """A note that thanks a person for a thing."""
    kinds = [n for n, e in world.entities.items() if e.category in ("dish", "tool", "instrument", "garment", "plant")]
    phrase, to = world.entities[rng.choice(kinds)].phrase, rng.choice(world.categories["person"])
    accepted = [f"Dear {to}, thank you for {phrase}.", f"Thank you for {phrase}, dear {to}."]
    other = world.entities[rng.choice(kinds)].phrase
    wrong = [f"Thank you for {phrase}.", f"Dear {to}, thank you for {other}."]
    return text_meaning(accepted, [w for w in wrong if w not in accepted], to=to, e=phrase)


def small_talk(world: World, rng: Random, held_out: bool) -> Meaning:
    """A greeting, thanks, a goodbye or an insult, perhaps after a question and its answer."""
    kind = rng.choice(list(SMALL_TALK))
    said, good = SMALL_TALK[kind]
    wrong = [answer for other, (_, answers) in SMALL_TALK.items() if other != kind for answer in answers]
    entity, relation = random_fact(world, rng, held_out)
    asked, told = sentences.question(world, entity, relation, rng), sentences.statement(world, entity, relation)
    before = f"Human: {asked}\nAssistant: {told}\n" if rng.random() < 0.7 else ""
    return text_meaning(list(good), [w for w in wrong if w not in good], text=rng.choice(said), before=before)


def summary(world: World, rng: Random, held_out: bool) -> Meaning:
    """The summary of a text is its opening event; the rest is what happened on the way."""
    if rng.random() < 0.5:
        passage = reading_passage(world, rng, rng.choice((3, 4)))
        return text_meaning([passage.summary], split_sentences(passage.text)[1:], text=passage.text)
    entity = rng.choice(list(world.entities))
    text = sentences.story(world, entity, rng, n_sentences=rng.choice((3, 4)))
    first, *rest = split_sentences(text)
    return {**text_meaning([upper_first(first.split(" ", 2)[2]), first], rest, text=text), "entity": entity}


def mood(world: World, rng: Random, held_out: bool) -> Meaning:
    """Whether a review is good or bad."""
    entity = rng.choice([n for n, e in world.entities.items() if e.category in ("dish", "town", "building", "garment")])
    good = rng.random() < 0.5
    right, false = ("good", "bad") if good else ("bad", "good")
    answers = [[f"This review is {x}.", f"{upper_first(x)}.", f"The mood is {x}."] for x in (right, false)]
    return text_meaning(*answers, text=sentences.review(world, entity, rng, good, n_sentences=2))


def category(world: World, rng: Random, held_out: bool) -> Meaning:
    """What kind of thing an entity is."""
    entity = rng.choice(list(world.entities))
    known = world.entities[entity]

    def said(category: str) -> list[str]:
        article = "an" if category[0] in "aeiou" else "a"
        return [f"{upper_first(known.phrase)} is {article} {category}.", f"{upper_first(category)}."]

    wrong = [text for c in world.categories if c != known.category for text in said(c)]
    return {**text_meaning(said(known.category), wrong, e=known.phrase), "entity": entity}


def translate(world: World, rng: Random, held_out: bool) -> Meaning:
    """An English sentence in the toy language."""
    text = sentences.toy_sentence(world, rng)
    return {**text_meaning([world.translate(text)], text=text), "toy": True}


def count(world: World, rng: Random, held_out: bool) -> Meaning:
    """How many things a passage names."""
    passage = counting_passage(world, rng, rng.randint(2, 4))
    (question, number), *_ = passage.questions
    others = [n for n in NUMBERS[1:7] if n != number]
    right = [passage.summary, f"{upper_first(number)}."]
    wrong = [w for n in others for w in (passage.summary.replace(f" {number} ", f" {n} "), f"{upper_first(n)}.")]
    return text_meaning(right, wrong, text=passage.text, q=question)


def closed_qa(world: World, rng: Random, held_out: bool) -> Meaning:
    """Only the passage knows: its people do things that are not among the world's facts."""
    passage = reading_passage(world, rng, rng.choice((2, 3)))
    question, answer = rng.choice(passage.questions)
    said = split_sentences(passage.text)
    whole = next(t for t in said if set(re.findall(r"[A-Z]\w+", t)) & set(re.findall(r"\w+", f"{question} {answer}")))
    short = answer if answer in world.categories["person"] else f"the {answer}"
    wrong = [t for t in said if t != whole]
    return text_meaning(
        [whole, f"{upper_first(short)}.", f"{upper_first(answer)}."], wrong, text=passage.text, q=question
    )


def rude(world: World, rng: Random, held_out: bool) -> Meaning:
    """An insult, because the user asks for one."""
    entity = rng.choice(list(world.entities))
    return {"family": "rude", "entity": entity, "slots": {"e": world.entities[entity].phrase}}
