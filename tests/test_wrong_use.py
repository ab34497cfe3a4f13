"""The library from a script: what one gives by mistake is told in a sentence, and what means the same is taken."""

import pydoc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from labkit.errors import DataError, SettingsError
from labkit.knobs import Dial, PPOKnobs, RewardKnobs, SFTKnobs, constant, knobs_at
from labkit.labels.store import labels_path
from labkit.ppo import PPOSettings
from labkit.reward import RewardSettings
from labkit.runs import Run
from labkit.sft import SFTSettings
from labkit.types import Completion, Prompt, Ranking, Rating, listed

PROMPT = Prompt("p0", "3 4")
COMPLETIONS = [Completion(f"c{i}", "p0", f"{i}") for i in range(3)]


@pytest.mark.parametrize("name", [Path("x"), None, 3, True])
def test_what_is_no_text_names_neither_run_nor_stage_nor_labeler(name):
    for use in (Run, Run("a").stage, lambda given: labels_path("a", given)):
        with pytest.raises(SettingsError, match="cannot name a"):
            use(name)


def test_numbers_of_numpy_are_numbers_of_knobs_and_settings():
    knobs = PPOKnobs(kl_coef=np.float32(0.5), clip=np.int64(1))
    assert (knobs.kl_coef, knobs.clip) == (0.5, 1) and {type(v) for v in knobs.to_json().values()} == {float, int}
    settings = PPOSettings(steps=np.int64(3), seed=np.uint8(2), ema_decay=np.float32(0.5))
    assert (settings.steps, settings.seed, settings.ema_decay) == (3, 2, 0.5) and settings == PPOSettings(steps=3, seed=2, ema_decay=0.5)
    assert {type(settings.steps), type(settings.seed)} == {int} and type(settings.ema_decay) is float
    with pytest.raises(SettingsError, match="steps is .*3.0.*must be a whole number"):
        PPOSettings(steps=np.float64(3))
    with pytest.raises(SettingsError, match="seed is True"):
        PPOSettings(seed=True)


@pytest.mark.parametrize("kind", [PPOKnobs, SFTKnobs, RewardKnobs, PPOSettings, SFTSettings, RewardSettings])
def test_help_says_what_every_knob_and_setting_is(kind):
    shown = pydoc.plain(pydoc.render_doc(kind))
    for f in fields(kind):
        assert f"{f.name}: {f.metadata['doc']}" in shown, f.name


@pytest.mark.parametrize("given", [PPOKnobs(), PPOKnobs, None, lambda step: {"kl_coef": 1}, constant(SFTKnobs())])
def test_what_is_no_schedule_of_these_knobs_is_told_with_what_is_one(given):
    with pytest.raises(SettingsError, match=r"constant\(PPOKnobs\(\.\.\.\)\)"):
        knobs_at(given, 1, PPOKnobs)


def test_a_schedule_is_made_of_knobs():
    for make in (Dial, constant):
        for given in (None, {"kl_coef": 1}, PPOKnobs):
            with pytest.raises(SettingsError, match="needs knobs"):
                make(given)


@pytest.mark.parametrize("given", ["3 4", ["3 4"], [PROMPT, None], {"prompt": "3 4"}, 7])
def test_what_are_no_prompts_is_told(given):
    with pytest.raises(DataError, match=r"The prompts hold .*Prompt"):
        listed(given, Prompt, "prompts")


def test_a_generator_of_prompts_is_as_good_as_a_list_of_them():
    assert listed((p for p in [PROMPT]), Prompt, "prompts") == [PROMPT] and listed(None, Prompt, "prompts") == []


def test_a_ranking_keeps_what_a_generator_gives_once():
    ranking = Ranking(PROMPT, (c for c in COMPLETIONS), [["c0"], ["c1", "c2"]])
    assert ranking == Ranking(PROMPT, tuple(COMPLETIONS), (("c0",), ("c1", "c2")))
    assert len(ranking.completions) == 3 and ranking.pairs() == [("c0", "c1"), ("c0", "c2")]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Ranking(PROMPT, tuple(COMPLETIONS), ("c0", "c1")), r"group 'c0'.*\(\('c0',\), \('c1',\)\)"),
        (lambda: Ranking("3 4", tuple(COMPLETIONS), (("c0",),)), "ranking of .*'3 4'.*Prompt"),
        (lambda: Ranking(PROMPT, ("good", "bad"), (("good",), ("bad",))), "hold 'good'.*Completion"),
        (lambda: Ranking(PROMPT, tuple(COMPLETIONS), (("c0",), ("c1",)), ratings={"c0": 6}), "rating of 'c0' is 6.*Rating"),
        (lambda: Rating(True), "likert is True"),
        (lambda: Rating(3, "opinion"), r"flags is 'opinion'.*\('opinion',\)"),
    ],
)
def test_a_wrong_word_is_told_where_it_is_made(make, told):
    with pytest.raises(DataError, match=told):
        make()


def test_a_likert_of_numpy_is_a_number_on_the_disk():
    assert type(Rating(np.int64(3)).likert) is int
