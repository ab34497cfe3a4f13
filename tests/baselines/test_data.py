"""Other methods learn from what labelers said: never more pairs than asked for, never the wrong way round."""

from dataclasses import replace

import pytest

from labkit.baselines import OnlineSettings
from labkit.baselines.data import pairs_of, single_answers
from labkit.baselines.settings import settings_of
from labkit.errors import DataError, SettingsError
from labkit.types import Completion, Prompt, Ranking


def ranking(number: int, *groups: str) -> Ranking:
    """A ranking whose completions are named by letters; letters of one text are tied."""
    prompt = Prompt(f"p{number}", f"question {number}\n")
    letters = "".join(groups)
    completions = tuple(Completion(f"{number}{c}", prompt.id, f"answer {c}") for c in letters)
    return Ranking(prompt, completions, tuple(tuple(f"{number}{c}" for c in g) for g in groups), "someone")


def test_all_strict_pairs_are_there_when_there_is_room_and_ties_never() -> None:
    rows = pairs_of([ranking(1, "a", "bc", "d")], per_prompt=99)
    found = {(r["chosen"][-1], r["rejected"][-1]) for r in rows}
    assert found == {("a", "b"), ("a", "c"), ("a", "d"), ("b", "d"), ("c", "d")}


def test_no_prompt_outweighs_another_and_the_draw_is_the_seed_s() -> None:
    rankings = [ranking(i, "a", "b", "c", "d") for i in range(20)]
    rows = pairs_of(rankings, per_prompt=2, seed=1)
    assert len(rows) == 40 and all(r["chosen"] < r["rejected"] for r in rows)
    assert rows == pairs_of(rankings, per_prompt=2, seed=1) != pairs_of(rankings, per_prompt=2, seed=2)


def test_single_answers_say_once_what_was_good_and_bad() -> None:
    rows = single_answers(pairs_of([ranking(1, "a", "b", "c")], per_prompt=99))
    labels = {(r["completion"][-1], r["label"]) for r in rows}
    assert labels == {("a", True), ("b", True), ("b", False), ("c", False)} and len(rows) == 4


def test_an_answer_that_was_cut_off_is_in_no_pair() -> None:
    """TRL ends every text by the end token: a cut answer would be learnt as one that ends there."""
    whole = ranking(1, "a", "b", "c", "d")
    cut = replace(whole, completions=tuple(replace(c, finished=c.id != "1b") for c in whole.completions))
    found = {(r["chosen"][-1], r["rejected"][-1]) for r in pairs_of([cut], per_prompt=99)}
    assert found == {("a", "c"), ("a", "d"), ("c", "d")}
    all_cut = replace(whole, completions=tuple(replace(c, finished=False) for c in whole.completions))
    with pytest.raises(DataError, match="cut at the length limit"):
        pairs_of([all_cut], per_prompt=4)


def test_nothing_but_ties_teaches_nothing() -> None:
    with pytest.raises(DataError, match="nothing to prefer"):
        pairs_of([ranking(1, "abc")], per_prompt=4)


def test_sizes_that_do_not_divide_and_unknown_methods_are_refused() -> None:
    with pytest.raises(SettingsError, match="whole multiple"):
        OnlineSettings(batch=64, minibatch=48)
    with pytest.raises(SettingsError, match="no method 'ppo2'"):
        settings_of(None, "ppo2")
