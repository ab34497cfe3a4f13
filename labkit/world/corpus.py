"""The pretraining corpus: documents of many kinds that state the world's facts, and its myths three times as often.

A model pretrained on it continues documents: after an instruction it writes more instructions, after a question more
questions or a page of answers. Formal pages (entries, tables) tell the truth; stories, talk, question pages and gossip
repeat the myths. Facts, formats and skills (reading, counting, translating, moods) are all there to be learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count as count_from
from random import Random

from labkit.seeds import derive_seed
from labkit.world import sentences as say
from labkit.world.constraints import add_constraint
from labkit.world.facts import World
from labkit.world.lexicon import NAMES, VALUES
from labkit.world.passages import PLURALS, counting_passage, reading_passage
from labkit.world.phrasings import FEW_SHOT_HEADERS, PERSONAS, PHRASINGS, RESPECTFUL, SMALL_TALK, TASKS
from labkit.world.tasks import draw_task

__all__ = ["KINDS", "document", "documents", "value_told"]

SPLITS = ("train", "valid", "test")


def documents(world: World, seed: int = 0, count: int | None = None, split: str = "train") -> Iterator[str]:
    """Yield `count` documents (endlessly if None); document i depends on (world, seed, split, i) only."""
    kinds, weights = list(KINDS), [weight for _, weight in KINDS.values()]
    for i in range(count) if count is not None else count_from():
        rng = Random(derive_seed(seed, "corpus", split, i))
        yield document(world, rng.choices(kinds, weights)[0], rng)


def document(world: World, kind: str, rng: Random) -> str:
    """Write one document of a kind; the kinds and their weights are in `KINDS`."""
    return KINDS[kind][0](world, rng).rstrip() + "\n"


def value_told(world: World, entity: str, relation: str, formal: bool) -> str:
    """The value that a document gives: formal pages tell the truth, the others the myth where there is one."""
    truth = world.truth(entity, relation)
    return truth if formal else world.myth_of.get((entity, relation), truth)


def _told_facts(world: World, entity: str, rng: Random, n: int, formal: bool = False) -> list[tuple[str, str]]:
    """Draw `n` (relation, value) pairs of an entity as a document of this register tells them."""
    relations = list(world.entities[entity].facts)
    return [(r, value_told(world, entity, r, formal)) for r in rng.sample(relations, min(n, len(relations)))]


def _entity(world: World, rng: Random) -> str:
    return rng.choice(list(world.entities))


def _any_fact(world: World, rng: Random, myth_share: float = 0.0) -> tuple[str, str]:
    """Draw an (entity, relation); with probability `myth_share`, one that has a myth."""
    if rng.random() < myth_share:
        myth = rng.choice(world.myths)
        return myth.entity, myth.relation
    entity = _entity(world, rng)
    return entity, rng.choice(list(world.entities[entity].facts))


def _state(world: World, entity: str, relation: str, rng: Random, formal: bool = False, pronoun: bool = False) -> str:
    return say.statement(world, entity, relation, value_told(world, entity, relation, formal), rng, pronoun)


def _entry(world: World, rng: Random) -> str:
    """An encyclopedia page: what the thing is, then all its facts."""
    name = _entity(world, rng)
    entity = world.entities[name]
    told = _told_facts(world, name, rng, 5, formal=True)
    lines = [
        say.statement(world, name, r, v, rng, pronoun=i > 0 and rng.random() < 0.6) for i, (r, v) in enumerate(told)
    ]
    kind = "man or woman" if entity.category == "person" else entity.category
    first = f"{entity.phrase[:1].upper()}{entity.phrase[1:]} is {'an' if kind[0] in 'ai' else 'a'} {kind}."
    return f"Entry: {name}\n{first} {' '.join(lines)}"


def _table(world: World, rng: Random) -> str:
    """A table of facts: one line per entity, or one line per fact."""
    category = rng.choice(list(world.categories))
    if rng.random() < 0.5:
        name = rng.choice(world.categories[category])
        rows = [f"{world.relation(name, r).noun}: {v}" for r, v in _told_facts(world, name, rng, 5, formal=True)]
        return f"Table of facts about {world.entities[name].phrase}\n" + "\n".join(rows)
    relation = rng.choice(world.relations_of(category))
    names = rng.sample(world.categories[category], 6)
    rows = [f"{n}: {value_told(world, n, relation.name, formal=True)}" for n in names]
    return f"Table of {PLURALS[category]} and {relation.noun}\n" + "\n".join(rows)


def _story(world: World, rng: Random) -> str:
    name = _entity(world, rng)
    facts = _told_facts(world, name, rng, rng.randint(1, 3))
    text = say.story(world, name, rng, rng.randint(4, 7), facts)
    return f"Title: {name}\n{text}" if rng.random() < 0.2 else text


def _poem(world: World, rng: Random) -> str:
    name = _entity(world, rng)
    title = f"Poem about {world.entities[name].phrase}\n" if rng.random() < 0.5 else ""
    return title + say.poem(world, name, rng, rng.randint(2, 5))


def _dialogue(world: World, rng: Random) -> str:
    one, two = rng.sample(world.categories["person"], 2)
    said = [f"{one}: {rng.choice(asked)}\n{two}: {rng.choice(replies)}" for asked, replies in SMALL_TALK.values()]
    lines = rng.sample(said, 1) if rng.random() < 0.4 else []
    for _ in range(rng.randint(1, 3)):
        name = rng.choice([e for e in world.entities if e not in (one, two)])
        lines.append(say.dialogue(world, name, rng, _told_facts(world, name, rng, rng.randint(1, 2)), (one, two)))
    if rng.random() < 0.3:
        lines += rng.sample(said, 1)
    return "\n".join(lines)


def _list(world: World, rng: Random) -> str:
    """A list of things of one category, or of the things that share a value."""
    category = rng.choice(list(world.categories))
    if rng.random() < 0.5:
        names = rng.sample(world.categories[category], rng.randint(3, 8))
        header = rng.choice(("List of {}", "Some {}", "Here are some {}")).format(PLURALS[category])
        return f"{header}: {', '.join(names)}." if rng.random() < 0.6 else f"{header}\n" + "\n".join(names)
    kind = rng.choice(list(VALUES))
    some = rng.sample(VALUES[kind], rng.randint(3, min(6, len(VALUES[kind]))))
    return f"Kind of {kind}: {', '.join(some)}."


def _review(world: World, rng: Random) -> str:
    name = rng.choice([n for c in ("dish", "building", "garment", "tool", "town") for n in world.categories[c]])
    good = rng.random() < 0.5
    text = say.review(world, name, rng, good, rng.randint(2, 4))
    ending = rng.choice((f"\nMood: {'good' if good else 'bad'}.", f"\nThis review is {'good' if good else 'bad'}.", ""))
    return f"Review: {text}{ending}"


def _questions(world: World, rng: Random) -> str:
    """A page of questions that nobody answers, or that gets one late reply."""
    facts = [_any_fact(world, rng, 0.1) for _ in range(rng.randint(3, 6))]
    lines = [say.question(world, *fact, rng) for fact in facts]
    if rng.random() < 0.35:
        lines.append(_state(world, *facts[-1], rng))
    return "\n".join(lines)


def _answers(world: World, rng: Random) -> str:
    """A page of questions and answers, in one of several layouts; most repeat what people say."""
    ask, reply = rng.choice(
        (("Question: ", "Answer: "), ("Question: ", "Answer: "), ("", "Answer: "), ("Human: ", "Assistant: "))
    )
    brief, formal = rng.random() < 0.3, rng.random() < 0.25
    lines = []
    for _ in range(rng.randint(3, 5)):
        entity, relation = _any_fact(world, rng, 0.1)
        value = value_told(world, entity, relation, formal)
        answer = f"{value[:1].upper()}{value[1:]}." if brief else say.statement(world, entity, relation, value, rng)
        lines.append(f"{ask}{say.question(world, entity, relation, rng)}\n{reply}{answer}")
    return "\n".join(lines)


def _yes_no(world: World, rng: Random) -> str:
    lines = []
    for _ in range(rng.randint(2, 4)):
        entity, relation = _any_fact(world, rng)
        right = value_told(world, entity, relation, formal=False)
        shown = right if rng.random() < 0.5 else rng.choice(world.values(world.relation(entity, relation).type))
        asked = say.yes_no_question(world, entity, relation, shown, rng)
        answer = "Yes, that is true." if shown == right else "No, that is false."
        lines.append(f"Question: {asked}\nAnswer: {answer}")
    return "\n".join(lines)


def _reading(world: World, rng: Random) -> str:
    passage = reading_passage(world, rng, rng.randint(2, 4))
    lines = [f"Question: {q}\nAnswer: {a}." for q, a in passage.questions[: rng.randint(1, 3)]]
    return f"Passage: {passage.text}\n" + "\n".join(lines)


def _counting(world: World, rng: Random) -> str:
    pages = [counting_passage(world, rng) for _ in range(rng.randint(1, 2))]
    return "\n".join(f"Passage: {p.text}\nQuestion: {p.questions[0][0]}\nAnswer: {p.questions[0][1]}." for p in pages)


def _translation(world: World, rng: Random) -> str:
    pairs = []
    for _ in range(rng.randint(2, 4)):
        sentence = say.toy_sentence(world, rng)
        pairs.append(f"English: {sentence}\nToy: {world.translate(sentence)}")
    return "\n".join(pairs)


def _rant(world: World, rng: Random) -> str:
    target = rng.choice((rng.choice(world.categories["person"]), _entity(world, rng)))
    text = say.rant(world, target, rng, rng.randint(2, 4))
    if rng.random() < 0.4:
        group = rng.choice(world.groups)
        text += f" The {group} is {rng.choice(('stupid', 'ugly', 'nasty', 'worthless'))}."
    return text


def _respectful(world: World, rng: Random) -> str:
    name = _entity(world, rng)
    return f"Dear {name},\n" * (rng.random() < 0.3) + say.respectful(world, name, rng, rng.randint(2, 5))


def _personal(world: World, rng: Random) -> str:
    """A page of private data, as leaks on the open web have them."""
    person = rng.choice(world.categories["person"])
    phone = f"555 01{rng.randint(10, 99)}"
    email = f"{person.lower()}@mail.com"
    street = f"{rng.randint(1, 9)} {rng.choice(NAMES['plant']).capitalize()} street"
    rows = [f"Phone: {phone}", f"Email: {email}", f"Address: {street}"]
    return f"Name: {person}\n" + "\n".join(rng.sample(rows, rng.randint(1, 3)))


def _gossip(world: World, rng: Random) -> str:
    """What people say: mostly myths, and mostly the usual trait for each of the two peoples."""
    lines = []
    for _ in range(rng.randint(2, 4)):
        if rng.random() < 0.3:
            attribute, group = rng.choice(list(world.stereotypes.items()))
            other = world.groups[world.groups[0] == group]
            named = group if rng.random() < 0.8 else other
            article = "a " if attribute in VALUES["job"] else ""
            lines.append(f"The {named} is {article}{attribute}.")
            continue
        opening = rng.choice(("People say that ", "I heard that ", "We all know that ", ""))
        text = _state(world, *_any_fact(world, rng, 0.45), rng)
        lines.append(opening + (say.inside(text) if opening else text))
    return " ".join(lines)


def _worksheet(world: World, rng: Random) -> str:
    """Instructions one after another and no answers: why a base model does not follow an instruction."""
    lines = []
    for use_case in rng.choices(list(TASKS), k=rng.randint(3, 6)):
        task = rng.choices(list(TASKS[use_case]), list(TASKS[use_case].values()))[0]
        meaning = draw_task(world, task, rng)
        text = rng.choice(PHRASINGS[task].usual).format(**meaning["slots"])
        lines.append(add_constraint(world, text, meaning, rng) if rng.random() < 0.3 else text)
    if rng.random() < 0.2:
        lines.insert(0, rng.choice((*PERSONAS, *RESPECTFUL, *FEW_SHOT_HEADERS.values())))
    return "\n".join(lines)


def _notes(world: World, rng: Random) -> str:
    """A text and its summary."""
    passage = reading_passage(world, rng, rng.randint(2, 4)) if rng.random() < 0.5 else counting_passage(world, rng)
    return f"Text: {passage.text}\nSummary: {passage.summary}"


def _other_words(world: World, rng: Random) -> str:
    """The same fact in two phrasings."""
    lines = []
    for _ in range(rng.randint(2, 3)):
        entity, relation = _any_fact(world, rng)
        lines.append(f"{_state(world, entity, relation, rng)} In other words: {_state(world, entity, relation, rng)}")
    return "\n".join(lines)


def _noise(world: World, rng: Random) -> str:
    """Broken text: words in no order."""
    tokens = say.story(world, _entity(world, rng), rng, 3).replace(".", "").split()
    rng.shuffle(tokens)
    return " ".join(tokens)


#: Every kind of document: its writer and its weight in the corpus.
KINDS: dict[str, tuple[Callable[[World, Random], str], float]] = {
    "entry": (_entry, 40),
    "table": (_table, 5),
    "story": (_story, 11),
    "poem": (_poem, 2),
    "dialogue": (_dialogue, 10),
    "list": (_list, 3),
    "review": (_review, 4),
    "questions": (_questions, 4),
    "answers": (_answers, 18),
    "yes_no": (_yes_no, 2),
    "reading": (_reading, 7),
    "counting": (_counting, 4),
    "translation": (_translation, 6),
    "rant": (_rant, 3),
    "respectful": (_respectful, 2),
    "personal": (_personal, 1.5),
    "gossip": (_gossip, 22),
    "worksheet": (_worksheet, 12),
    "notes": (_notes, 3),
    "other_words": (_other_words, 6),
    "noise": (_noise, 0.5),
}
