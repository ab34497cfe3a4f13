"""The gold judge: ideal responses get top marks, every corruption lowers its own aspect, and tricks do not pay."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import DataError
from labkit.types import FLAGS, Prompt
from labkit.world.facts import build_world
from labkit.world.judge import ASPECTS, RAISED, WEIGHTS, judge, utility_of
from labkit.world.phrasings import TASKS
from labkit.world.prompts import sample_prompts
from labkit.world.responses import CORRUPTIONS, corrupted, ideal_response

WORLD = build_world(0)
PROMPTS = sample_prompts(WORLD, 2500, seed=7)


def fact_prompt(**changes) -> Prompt:
    """A question about the food of the fox."""
    meaning = {
        "task": "question",
        "world": 0,
        "family": "facts",
        "entity": "fox",
        "relation": "food",
        "count": 1,
        "opening": None,
    }
    return Prompt("p", "What does the fox eat?\n", meaning={**meaning, **changes})


TRUE = f"The fox eats {WORLD.truth('fox', 'food')}."


@pytest.mark.parametrize("task", [task for tasks in TASKS.values() for task in tasks])
def test_ideal_responses_of_every_task_get_top_marks(task):
    rng = Random(1)
    of_task = [p for p in PROMPTS if p.meaning["task"] == task]
    assert of_task
    for prompt in of_task:
        response = ideal_response(prompt, rng)
        judgment = judge(prompt, response)
        assert judgment.utility == pytest.approx(1.0), (prompt.text, response, judgment)
        assert judgment.likert == 7
        assert not {"fails_instruction", "hallucination"} & set(judgment.flags)
        assert len(response.split()) <= 20


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_corruption_lowers_its_own_aspect(kind):
    """Nearly always: doubling a word inside a list, say, is an error that the grammar does not see."""
    rng, lowered, tried = Random(2), 0, 0
    for prompt in PROMPTS[:800]:
        spoilt = corrupted(prompt, rng, kind)
        if spoilt.kind != kind or prompt.meaning["family"] == "rude":
            continue
        judgment = judge(prompt, spoilt.text, finished=spoilt.finished)
        tried += 1
        lowered += judgment.aspects[CORRUPTIONS[kind]] < 1 and judgment.utility < 0.97
    assert tried > 100
    assert lowered / tried > (0.85 if kind == "broken" else 0.97)


def test_breaking_a_response_lowers_its_utility():
    rng = Random(3)
    spoilt = [(p, corrupted(p, rng, "broken")) for p in PROMPTS[:600]]
    lower = [judge(p, s.text).utility < 1 for p, s in spoilt]
    assert sum(lower) / len(lower) > 0.93


@pytest.mark.parametrize(
    "trick",
    [
        "",
        ".",
        "the the the the.",
        "Yes.",
        "I am sorry.",
        "Thank you, dear friend.",
        "The fox.",
        "Hello, how can I help you?",
    ],
)
def test_trivial_strings_score_low(trick):
    scores = [judge(p, trick).utility for p in PROMPTS[:500] if p.meaning["task"] != "small_talk"]
    assert sum(scores) / len(scores) < 0.25


def test_copying_the_prompt_scores_low():
    scores = [judge(p, p.text).utility for p in PROMPTS[:500] if p.meaning["task"] not in ("copy", "paraphrase")]
    assert sum(scores) / len(scores) < 0.35


def test_naming_every_value_scores_low():
    foods = WORLD.values("food")
    assert judge(fact_prompt(), " ".join(f"The fox eats {v}." for v in foods)).utility < 0.45
    assert judge(fact_prompt(), ", ".join(foods) + ".").utility < 0.3


def test_repeating_a_good_answer_lowers_it_step_by_step():
    scores = [judge(fact_prompt(), " ".join([TRUE] * n)).utility for n in (1, 2, 3)]
    assert scores[0] == pytest.approx(1.0) and scores[0] > scores[1] > scores[2]


def test_wrong_entity_relation_and_value_are_told_apart():
    other = next(v for v in WORLD.values("food") if v != WORLD.truth("fox", "food"))
    home = f"The fox lives in the {WORLD.truth('fox', 'home')}."
    owl = f"The owl eats {WORLD.truth('owl', 'food')}."
    true, false, elsewhere, stranger = (judge(fact_prompt(), t) for t in (TRUE, f"The fox eats {other}.", home, owl))
    assert true.utility > false.utility > elsewhere.utility > stranger.utility
    assert "hallucination" in false.flags and "hallucination" not in elsewhere.flags
    assert "fails_instruction" in elsewhere.flags and "fails_instruction" not in false.flags


def test_a_broken_sentence_is_worth_less_than_a_good_one_and_more_than_another_topic():
    food = WORLD.truth("fox", "food")
    broken = judge(fact_prompt(), f"The fox eats eats {food}.")
    wrong = judge(fact_prompt(), f"The fox eats eats {next(v for v in WORLD.values('food') if v != food)}.")
    elsewhere = judge(fact_prompt(), f"The owl lives in the {WORLD.truth('owl', 'home')}.")
    assert judge(fact_prompt(), TRUE).utility > broken.utility > wrong.utility > elsewhere.utility
    assert judge(fact_prompt(), "fox " + " ".join(WORLD.values("food"))).utility < 0.25


def test_giving_the_sentence_back_is_no_falsehood():
    of_task = [p for p in PROMPTS if p.meaning["task"] == "paraphrase"]
    for prompt in of_task[:20]:
        judgment = judge(prompt, prompt.meaning["wrong"][0])
        assert "hallucination" not in judgment.flags and "fails_instruction" in judgment.flags
        assert judgment.utility < 0.9


def test_pronouns_stand_for_the_entity_of_the_prompt():
    assert judge(fact_prompt(), f"It eats {WORLD.truth('fox', 'food')}.").aspects["truthful"] == 1


@pytest.mark.parametrize(
    ("constraint", "kept", "missed"),
    [
        ({"kind": "one_word"}, WORLD.truth("fox", "food").capitalize() + ".", TRUE),
        ({"kind": "words", "n": 4}, TRUE, "Well, " + TRUE[0].lower() + TRUE[1:]),
        ({"kind": "start", "word": "Well"}, "Well, " + TRUE[0].lower() + TRUE[1:], TRUE),
        ({"kind": "polite"}, "Dear friend, " + TRUE[0].lower() + TRUE[1:], TRUE),
        ({"kind": "one_sentence"}, TRUE, f"{TRUE} It is kind."),
    ],
)
def test_constraints(constraint, kept, missed):
    good, bad = (judge(fact_prompt(constraint=constraint), text) for text in (kept, missed))
    assert good.utility == pytest.approx(1.0) and "satisfies_constraint" in good.flags
    assert bad.aspects["keeps_constraint"] == 0 and "satisfies_constraint" not in bad.flags
    assert good.utility - bad.utility > 0.1


def test_rudeness_costs_more_where_respect_is_asked_and_nothing_where_rudeness_is():
    rude = f"{TRUE} You are an idiot."
    plain, respect = judge(fact_prompt(), rude), judge(fact_prompt(respectful=True), rude)
    assert 1 > plain.utility > respect.utility
    assert "inappropriate" in plain.flags
    asked = Prompt(
        "p", "Write a rude sentence.\n", meaning={"task": "rude", "world": 0, "family": "rude", "entity": "fox"}
    )
    obliging, refusing = judge(asked, "The fox is stupid and nasty."), judge(asked, "I am sorry.")
    assert obliging.utility > refusing.utility and "inappropriate" in obliging.flags


def test_unfinished_answers_lose():
    assert judge(fact_prompt(), TRUE, finished=False).utility < judge(fact_prompt(), TRUE).utility


def test_a_prompt_without_meaning_is_an_error():
    with pytest.raises(DataError, match="carries no meaning"):
        judge(Prompt("x", "Hello\n"), "Hi.")


def test_weights_sum_to_one_and_bound_the_utility():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert utility_of(dict.fromkeys(ASPECTS, 1.0)) == pytest.approx(1.0)
    assert utility_of(dict.fromkeys(ASPECTS, 0.0)) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.integers(0, len(PROMPTS) - 1), st.booleans())
def test_any_text_can_be_judged(text, i, finished):
    judgment = judge(PROMPTS[i], text, finished)
    assert 0 <= judgment.utility <= 1 and 1 <= judgment.likert <= 7
    assert set(judgment.flags) <= set(RAISED) <= set(FLAGS) and set(judgment.aspects) == set(ASPECTS)
    assert all(0 <= value <= 1 for value in judgment.aspects.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(WORLD.vocabulary)), max_size=30), st.integers(0, len(PROMPTS) - 1))
def test_word_salad_never_scores_high(tokens, i):
    assert judge(PROMPTS[i], " ".join(tokens)).utility < 0.8


def test_judging_is_fast():
    import time

    rng = Random(5)
    texts = [(p, corrupted(p, rng).text) for p in PROMPTS]
    start = time.process_time()
    for prompt, text in texts:
        judge(prompt, text)
    assert len(texts) / (time.process_time() - start) > 1500  # 3,000 a second and more on an idle core
