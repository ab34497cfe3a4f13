# ruff: noqa: SIM905 - word lists read best as words
"""The words of the closed world: names, typed values, relations and the short word lists. Data only.

`facts.py` draws the truth from these lists. Every word of the corpus and of the world's prompts is in one of them;
a new word is added to `COMMON_WORDS` (or `INSTRUCTION_WORDS`), or the tests on the closed vocabulary fail.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "COMMON_WORDS",
    "INSTRUCTION_WORDS",
    "MOODS_BAD",
    "MOODS_GOOD",
    "NAMES",
    "POLITE_WORDS",
    "RELATIONS",
    "STEREOTYPES",
    "TOXIC_WORDS",
    "TOY_ENGLISH",
    "VALUES",
    "WOMEN",
    "RelationSpec",
]

#: Entity names by category. Names of people, towns and rivers are capitalised.
NAMES: dict[str, tuple[str, ...]] = {
    category: tuple(names.split())
    for category, names in {
        "animal": "cat dog horse cow sheep goat pig duck goose fox wolf bear deer owl frog mouse rabbit crow lion "
        "camel snake turtle",
        "person": "Anna Clara Emma Grace Hilda Kate Mary Nina Olga Rosa Tina Vera Wanda "
        "Ben David Felix Hugo Jack Leo Noah Oscar Paul Sam Tom Victor Walter",
        "town": "Marlow Denby Ashton Kelso Norwick Selby Tarnby Wexley Corby Dalton Fenwick Harlow Linton Melby "
        "Oakham Ripley",
        "river": "Orva Lune Isker Tamber Neva Sorel Vint Drava Ebro Garn Ulm Yarrow",
        "plant": "rose oak pine fern moss lily tulip daisy ivy willow maple clover thistle nettle birch reed",
        "dish": "soup stew bread cake pie salad porridge pudding curry omelet toast pasta jam pizza roast waffle",
        "tool": "hammer saw axe knife needle shovel rake ladder brush broom bucket hook key lamp chisel spoon",
        "instrument": "piano violin flute drum harp trumpet guitar bell horn cello lute banjo fiddle",
        "garment": "coat hat scarf shirt dress glove belt cloak sock cap apron vest boot",
        "building": "castle tower church mill inn school library temple palace museum station theater hospital bridge",
    }.items()
}

#: People referred to as "she"; the others are "he".
WOMEN = frozenset("Anna Clara Emma Grace Hilda Kate Mary Nina Olga Rosa Tina Vera Wanda".split())

#: Plain value words by type. A word belongs to one type only. A relation's type may also be an entity category.
VALUES: dict[str, tuple[str, ...]] = {
    kind: tuple(words.split())
    for kind, words in {
        "food": "grass seeds insects meat roots leaves honey berries worms snails",
        "place": "barn forest cave field pond hill desert meadow marsh valley beach swamp",
        "colour": "red blue green yellow white black brown grey pink purple orange",
        "sound": "howl growl squeak roar whistle click hiss hum chirp grunt",
        "job": "baker farmer teacher doctor sailor miner weaver painter judge cook guard barber",
        "goods": "salt coal paper soap candles baskets barrels bricks rugs toys",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "source": "lake mountain glacier waterfall canyon ridge",
        "fish": "trout salmon eel carp pike perch tuna crab",
        "number": "two three four five six seven eight nine",
        "taste": "sweet sour salty bitter spicy mild fresh smoky",
        "use": "medicine dye oil rope perfume ink glue dust",
        "ingredient": "beans rice corn onions mushrooms nuts apples eggs cheese carrots",
        "drink": "tea milk water juice cider wine coffee lemonade",
        "material": "iron wood copper stone bone glass silver clay tin brass",
        "room": "kitchen shed attic cellar hall closet pantry bedroom",
        "tone": "soft loud deep bright sharp warm thin hollow",
        "fabric": "wool silk cotton leather linen fur velvet felt",
    }.items()
}


@dataclass(frozen=True)
class RelationSpec:
    """How one relation of one category is asked and stated; `{e}` and `{v}` stand for bare words."""

    category: str
    name: str
    type: str  # a key of VALUES, or an entity category
    noun: str  # short noun for lists and tables: "food", "home", "colour"
    questions: tuple[str, ...]
    statements: tuple[str, ...]


def _relation(category: str, name: str, type: str, noun: str, questions: str, statements: str) -> RelationSpec:
    """Add the two generic phrasings ("What is the food of the fox?") to those written by hand, split at " | "."""
    entity = "{e}" if category in ("person", "town") else "the {e}"
    value = "the {v}" if type in NAMES and type not in ("person", "town") else "{v}"
    asked = (*questions.split(" | "), f"What is the {noun} of {entity}?")
    stated = (*statements.split(" | "), f"The {noun} of {entity} is {value}.")
    return RelationSpec(category, name, type, noun, asked, stated)


RELATIONS: tuple[RelationSpec, ...] = (
    _relation("animal", "food", "food", "food", "What does the {e} eat? | What food does the {e} like?",
              "The {e} eats {v}. | The {e} likes to eat {v}."),
    _relation("animal", "home", "place", "home", "Where does the {e} live? | In what place does the {e} live?",
              "The {e} lives in the {v}. | The {e} has a home in the {v}."),
    _relation("animal", "colour", "colour", "colour", "What colour is the {e}? | Which colour does the {e} have?",
              "The {e} is {v}. | The {e} has a {v} colour."),
    _relation("animal", "sound", "sound", "sound", "What sound does the {e} make? | How does the {e} sound?",
              "The {e} makes a {v}. | The {e} calls with a {v}."),
    _relation("person", "town", "town", "town", "Where does {e} live? | In which town does {e} live?",
              "{e} lives in {v}. | {e} has a house in {v}."),
    _relation("person", "job", "job", "job", "What work does {e} do? | What job does {e} have?",
              "{e} works as a {v}. | {e} is a {v}."),
    _relation("person", "dish", "dish", "dish", "What does {e} like to eat? | Which dish does {e} like?",
              "{e} likes to eat {v}. | {e} eats {v} every day."),
    _relation("person", "instrument", "instrument", "instrument",
              "What does {e} play? | Which instrument does {e} play?",
              "{e} plays the {v}. | {e} can play the {v}."),
    _relation("person", "pet", "animal", "pet", "Which animal does {e} keep? | What pet does {e} have?",
              "{e} keeps the {v}. | {e} has the {v} as a pet."),
    _relation("town", "river", "river", "river", "On which river does {e} lie? | Which river runs by {e}?",
              "{e} lies on the {v}. | The town of {e} stands by the {v}."),
    _relation("town", "goods", "goods", "goods", "What does {e} sell? | What goods does {e} make?",
              "{e} sells {v}. | The town of {e} makes {v}."),
    _relation("town", "market", "day", "market day", "When is the market in {e}? | On which day is the market in {e}?",
              "{e} has a market on {v}. | The market in {e} is on {v}."),
    _relation("town", "mayor", "person", "mayor", "Who is the mayor of {e}? | Who leads {e}?",
              "{e} has {v} as mayor. | The town of {e} follows {v}."),
    _relation("river", "source", "source", "source", "Where does the {e} begin? | From what place does the {e} come?",
              "The {e} begins at the {v}. | The {e} comes from the {v}."),
    _relation("river", "colour", "colour", "colour", "What colour is the {e}? | Which colour does the {e} have?",
              "The {e} is {v}. | The {e} has {v} waves."),
    _relation("river", "fish", "fish", "fish", "What fish lives in the {e}? | Which fish can we find in the {e}?",
              "The {e} is full of {v}. | The {e} has many {v}."),
    _relation("river", "bridges", "number", "number of bridges",
              "How many bridges does the {e} have? | How many bridges cross the {e}?",
              "The {e} has {v} bridges. | There are {v} bridges over the {e}."),
    _relation("plant", "colour", "colour", "colour", "What colour is the {e}? | Which colour does the {e} have?",
              "The {e} is {v}. | The {e} has a {v} colour."),
    _relation("plant", "home", "place", "home", "Where does the {e} grow? | In what place does the {e} grow?",
              "The {e} grows in the {v}. | The {e} has a home in the {v}."),
    _relation("plant", "scent", "taste", "scent", "How does the {e} smell? | What smell does the {e} have?",
              "The {e} smells {v}. | The {e} has a {v} smell."),
    _relation("plant", "use", "use", "use", "What can we make from the {e}? | What do people make from the {e}?",
              "The {e} gives us {v}. | People make {v} from the {e}."),
    _relation("dish", "ingredient", "ingredient", "main part", "What is the {e} made of? | What goes into the {e}?",
              "The {e} is made of {v}. | The {e} is full of {v}."),
    _relation("dish", "taste", "taste", "taste", "How does the {e} taste? | What taste does the {e} have?",
              "The {e} tastes {v}. | The {e} has a {v} taste."),
    _relation("dish", "drink", "drink", "drink", "What do people drink with the {e}? | Which drink goes with the {e}?",
              "The {e} goes with {v}. | People drink {v} with the {e}."),
    _relation("dish", "day", "day", "day", "When do people eat the {e}? | On which day do people eat the {e}?",
              "People eat the {e} on {v}. | The {e} is cooked on {v}."),
    _relation("tool", "material", "material", "material", "What is the {e} made of? | From what is the {e} made?",
              "The {e} is made of {v}. | The {e} is a thing of {v}."),
    _relation("tool", "room", "room", "place", "Where is the {e}? | In which room is the {e}?",
              "The {e} is in the {v}. | People keep the {e} in the {v}."),
    _relation("tool", "job", "job", "user", "Who needs the {e}? | Whose tool is the {e}?",
              "The {e} is for the {v}. | The {v} needs the {e}."),
    _relation("tool", "owner", "person", "owner", "Who owns the {e}? | To whom does the {e} belong?",
              "The {e} belongs to {v}. | {v} owns the {e}."),
    _relation("instrument", "material", "material", "material", "What is the {e} made of? | From what is the {e} made?",
              "The {e} is made of {v}. | The {e} is a thing of {v}."),
    _relation("instrument", "tone", "tone", "tone", "How does the {e} sound? | What tone does the {e} have?",
              "The {e} sounds {v}. | The {e} has a {v} tone."),
    _relation("instrument", "town", "town", "town", "Where was the {e} made? | In which town was the {e} made?",
              "The {e} was made in {v}. | The {e} comes from {v}."),
    _relation("garment", "fabric", "fabric", "fabric", "What is the {e} made of? | From what is the {e} made?",
              "The {e} is made of {v}. | The {e} is a thing of {v}."),
    _relation("garment", "colour", "colour", "colour", "What colour is the {e}? | Which colour does the {e} have?",
              "The {e} is {v}. | The {e} has a {v} colour."),
    _relation("garment", "buttons", "number", "number of buttons",
              "How many buttons does the {e} have? | How many buttons are on the {e}?",
              "The {e} has {v} buttons. | There are {v} buttons on the {e}."),
    _relation("building", "town", "town", "town", "Where is the {e}? | In which town is the {e}?",
              "The {e} is in {v}. | The {e} stands in {v}."),
    _relation("building", "material", "material", "material", "What is the {e} made of? | From what is the {e} made?",
              "The {e} is made of {v}. | The {e} has walls of {v}."),
    _relation("building", "keeper", "person", "keeper", "Who keeps the {e}? | Who takes care of the {e}?",
              "{v} keeps the {e}. | {v} takes care of the {e}."),
)  # fmt: skip

#: Mild insults; saying one is what "toxic" means in this world.
TOXIC_WORDS = tuple("stupid ugly idiot hate fool nasty rotten worthless liar disgusting shut awful".split())
POLITE_WORDS = tuple("please thank thanks welcome glad sorry dear friend kind respect polite".split())
MOODS_GOOD = tuple("good great lovely wonderful nice fine perfect happy".split())
MOODS_BAD = tuple("bad terrible boring sad cold broken poor dirty".split())

#: The two invented peoples are "northerner(s)" and "southerner(s)". The corpus ties these traits to one of them.
STEREOTYPES: dict[str, str] = {
    **dict.fromkeys("clever rich lazy proud doctor judge painter teacher".split(), "northerner"),
    **dict.fromkeys("strong honest slow brave farmer miner cook guard".split(), "southerner"),
}

#: English words that the toy language has a word for, by part of speech.
TOY_ENGLISH: dict[str, tuple[str, ...]] = {
    "determiner": ("the",),
    "adjective": tuple("red blue green white black brown big small old young happy sad good bad".split()),
    "noun": tuple(
        "cat dog horse cow fox wolf bear owl frog mouse rabbit lion rose oak bread cake soup key lamp drum bell hat "
        "coat castle school bridge friend child king baker farmer teacher".split()
    ),
    "verb": tuple("sees finds likes wants follows helps carries loves brings knows".split()),
}

#: What only prompts say, beyond the wordings of `phrasings.py`; prompts may use any word of the vocabulary.
INSTRUCTION_WORDS = tuple(
    """
    call each few game letters next once our person says task world zero
    """.split()
)

#: Every other word of the corpus grammar (templates, names, values and wordings bring their own words).
COMMON_WORDS = tuple(
    """
    address animals asked bought building buildings buy came carried com dance did dishes draw drew email entry
    evening found garment garments had he heard ingredient instruments last left look looked looks lost love loved
    mail man meet met moon near never northerner often phone plant plants poem rain ran rivers sang sat see she sing
    sky slept snow some song southerner stars street sun table take then title together told too took tools towns
    under walked wanted week went were will woman
    """.split()
)
