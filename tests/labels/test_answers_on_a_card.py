"""How many answers stand on a card of the board: as many as the paper shows, where one asks for them, and a laptop's number by default."""

import shutil
from collections import Counter

import pytest

from labkit.batch.parameters import find_notebook, read_parameters
from labkit.disk import write_jsonl
from labkit.errors import SettingsError
from labkit.experiment import Experiment, tasks_by_hand
from labkit.labels.cards import said_of_cards
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.models import load_policy, save_model
from labkit.runs import Run
from widgets import RankingBoard


def at_the_board(run: Run, **more) -> Experiment:
    """A prepared run whose SFT model is the base itself."""
    lab = Experiment(run, scale="smoke", model="small", **more)
    lab.prepare()
    stage = lab.run.stage("sft")
    stage.begin(settings={})
    save_model(load_policy(lab.model), lab.tokenizer, stage.model)
    stage.finish()
    return lab


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return at_the_board(Run("world", tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def own(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    write_jsonl(folder / "demonstrations.jsonl", ({"prompt": d.prompt.text, "completion": d.text} for d in world.demonstrations()))
    return at_the_board(Run("own", world.run.path.parent), data=str(folder))


@pytest.fixture(params=["world", "own"])
def lab(request):
    made = request.getfixturevalue(request.param)
    yield made
    shutil.rmtree(made.run.path / "labels", ignore_errors=True)


def counts(cards) -> Counter:
    return Counter(len(answers) for _, answers in cards)


@pytest.mark.parametrize(("most", "cards", "asked"), [(9, 30, range(4, 10)), (5, 12, (4, 5)), (3, 6, (3,)), (2, 6, (2,))])
def test_cards_hold_what_was_asked_for_and_go_on_the_board(lab, most, cards, asked):
    cards = tasks_by_hand(lab, cards, most)
    assert set(counts(cards)) == set(asked), "an untrained base hardly ever says the same twice"
    assert all(len({c.text for c in answers}) == len(answers) for _, answers in cards)
    desk = LabelSession(cards, "me", labels_path(lab.run.path, "me"))
    assert len(RankingBoard(desk).card["cards"]) == len(desk.current.shown)


def test_the_default_is_a_laptops_and_stands_in_the_notebook(lab):
    declared = read_parameters(find_notebook("03_rank"))["answers_by_hand"]
    assert tasks_by_hand(lab, 6) == tasks_by_hand(lab, 6, declared.default) and max(counts(tasks_by_hand(lab, 6))) <= declared.default
    assert (declared.low, declared.high) == (2, 9) and declared.parse("9", "03_rank") == 9
    with pytest.raises(SettingsError, match="answers_by_hand is 10; it must lie between 2 and 9"):
        declared.parse("10", "03_rank")


def test_cards_that_are_there_stay_and_it_says_why(lab):
    few = tasks_by_hand(lab, 4, 2)
    assert said_of_cards(few, 2) == "4 cards of 2 answers."
    desk = LabelSession(few, "ada", None, repeat_share=0.25)
    assert said_of_cards(few, 2, desk.repeats).endswith("answers. 1 of them comes a second time, unannounced, and counts again.")
    assert desk.progress().total == len(few) + desk.repeats == 5, "the board counts as the sentence does"
    again = tasks_by_hand(lab, 4, 9)
    assert again == few and "None has 9" in (said := said_of_cards(again, 9)) and "more prompts bring new ones" in said
    more = tasks_by_hand(lab, 24, 9)
    assert more[:4] == few and max(counts(more)) == 9 and said_of_cards(more, 9) == "24 cards of 2 to 9 answers."
