"""The run's reward model at the ranking board, by the functions that 03_rank calls."""

import json
import re
import time

import pytest

from labkit import reward
from labkit.disk import read_jsonl
from labkit.experiment import Experiment, rm_for_board, tasks_by_hand
from labkit.labels.beside_rm import uncertainty
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.models import load_policy, save_model
from labkit.runs import Run
from tests.labels.helpers import draft
from widgets import RankingBoard


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A prepared run whose SFT model is the base itself, with eight cards and no reward model."""
    lab = Experiment(Run("cards", tmp_path_factory.mktemp("runs")), scale="smoke", model="small", reward_base="small")
    lab.prepare()
    stage = lab.run.stage("sft")
    stage.begin(settings={})
    save_model(load_policy(lab.model), lab.tokenizer, stage.model)
    stage.finish()
    tasks_by_hand(lab, 8)
    return lab


@pytest.fixture(scope="module")
def judged(lab):
    """The same run on a second visit: with a reward model, whose head is random."""
    stage = lab.run.stage("reward")
    stage.begin(settings={})
    state = reward.start(lab.reward_base, seed=3)
    state.save_model(stage.model)
    stage.finish()
    return lab


def desk_of(lab, labeler, rm, **options):
    path = labels_path(lab.run.path, labeler)
    return LabelSession(tasks_by_hand(lab, 8), labeler, path, score=rm.uncertainty, **options)


def why(lab, labeler):
    return [row["why"] for row in read_jsonl(labels_path(lab.run.path, labeler)) if row["event"] == "shown"]


def test_on_a_first_visit_the_cards_come_in_their_order_and_nothing_is_said(lab):
    rm = rm_for_board(lab)
    desk = desk_of(lab, "first", rm)
    board = RankingBoard(desk, reveal=rm.reveal, remark=rm.remark)
    order = [t.id for t in desk.tasks]
    board._receive({"do": "submit", "turn": board.card["turn"], "draft": page(desk)})
    assert desk.current.id == order[1] and why(lab, "first") == ["order", "order"]
    assert board.view["echo"]["remark"] == "" and not any(row["extra"] for row in board.view["echo"]["rows"])
    assert "no finished reward model yet" in rm.sentence and "no reward model is trained" in rm.contradiction(desk)


def page(desk):
    """What the page sends when the cards are ranked as they are shown."""
    count = len(desk.current.shown)
    return {"groups": [[i] for i in range(count)], "likert": [None] * count, "flags": [[]] * count, "comment": ""}


def test_then_the_least_sure_card_comes_first_and_scores_stay_hidden_until_the_submit(judged):
    rm = rm_for_board(judged)
    desk = desk_of(judged, "second", rm, random_share=0.0)
    board = RankingBoard(desk, reveal=rm.reveal, remark=rm.remark)
    unsure = {t.id: uncertainty(list(rm.scores(t.prompt, t.completions).values())) for t in desk.tasks}
    came = []
    while desk.current:
        task, scores = desk.current, rm.scores(desk.current.prompt, desk.current.completions)
        came.append(task.id)
        assert "RM " not in json.dumps([board.card, board.view["draft"], board.view["warnings"]])
        board._receive({"do": "submit", "turn": board.card["turn"], "draft": page(desk)})
        told = {row["label"]: row["extra"] for row in board.view["echo"]["rows"]}
        assert told == {task.labels[i]: f"RM {value:+.2f}" for i, value in scores.items()}
    assert came == sorted(came, key=lambda t: -unsure[t]) and len(set(unsure.values())) > 1
    assert set(why(judged, "second")) == {"uncertain"} and desk.score_error == ""


def test_a_share_of_the_cards_is_random(judged):
    desk = desk_of(judged, "third", rm_for_board(judged), random_share=1.0)
    while desk.current:
        desk.skip()
    assert set(why(judged, "third")) == {"random"}


def test_how_far_it_contradicts_is_told_apart_for_cards_that_it_may_have_learnt(judged):
    rm = rm_for_board(judged)
    desk = desk_of(judged, "second", rm)  # ranked by the test before
    card = desk.rankings[0]
    scores = rm.scores(card.prompt, card.completions)
    against = sum(scores[b] > scores[a] for a, b in card.pairs())
    assert re.search(rf"{against} of {len(card.pairs())}" if against else "as you did", rm.remark(card))
    told = rm.contradiction(desk)
    pairs = sum(len(r.pairs()) for r in desk.rankings)
    assert f"{pairs} strict pairs on 8 cards" in told and "may have learnt" not in told
    later = type(rm)(**{**vars(rm), "trained": time.time()})
    assert "since it was trained: no strict pair yet" in later.contradiction(desk) and "may have learnt: " in later.contradiction(desk)
    again = type(rm)(**{**vars(rm), "trained": desk.state.done[3]["time"]})
    halves = [int(n) for n in re.findall(r"on (\d+) cards", again.contradiction(desk))]
    assert halves == [4, 4], "the first four submits came before"


def test_a_reward_model_that_fails_is_told_on_the_board_and_loses_no_label(judged):
    rm = rm_for_board(judged)
    desk = desk_of(judged, "fourth", rm, random_share=0.0)
    board = RankingBoard(desk, reveal=rm.reveal)
    assert board.view["notice"] == ""
    sound, desk.score = desk.score, lambda prompt, completions: float("no number")
    board._receive({"do": "submit", "turn": board.card["turn"], "draft": page(desk)})
    assert "could not be chosen by uncertainty" in board.view["notice"] and board.view["error"] == "" and len(desk.rankings) == 1
    desk.score = sound
    desk.submit(draft(*desk.current.shown))
    board.refresh()
    assert board.view["notice"] == "", "the next choice went well"
