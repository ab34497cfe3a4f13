"""A loop, rows, cards and judgments of one's own on the lab's jobs, boards and figures: what holds, and what is told."""

import gc
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from labkit.disk import write_jsonl
from labkit.errors import DataError, LabError, RunError, SettingsError
from labkit.evaluation.preference import compare_by_score
from labkit.evaluation.winrate import Judgment, win_rate, winrate_of_files
from labkit.experiment import Experiment, evaluate, replay_job
from labkit.figures import PANELS, Panel, training_curves
from labkit.jobs import Job
from labkit.knobs import Dial, Knobs, knob
from labkit.labels.agreement import agreement, agreement_of_files
from labkit.runs import FACTS, Run
from labkit.sft import SFTState
from labkit.types import Completion, Prompt, Step
from widgets import Cockpit, RankingBoard, RewardInspector


class OwnKnobs(Knobs):
    """Of a loop that has nothing to do with language."""


def own_loop(schedule):
    for number in range(1, 4):
        yield Step("bandit", number, {"regret": 1 / number}, schedule(number).to_json())


def own_job(tmp_path, loop=own_loop, name="bandit", **options):
    return Job(loop, **{"folder": Run("own", tmp_path).stage(name), "schedule": Dial(OwnKnobs()), "total": 3, **options})


@pytest.fixture(autouse=True)
def _headless(monkeypatch):
    monkeypatch.setenv("LABKIT_HEADLESS", "1")


@pytest.mark.parametrize(
    ("loop", "told"),
    [
        (lambda schedule: iter([{"regret": 1.0}]), "yielded {'regret': 1.0}.*Step"),
        (lambda schedule: None, "make_loop gave None.*generator"),
        (lambda schedule: [Step("bandit", 1, {})], "make_loop gave a list.*generator"),
        (own_loop(Dial(OwnKnobs())), "make_loop is a generator.*itself"),
    ],
)
def test_a_job_says_what_a_loop_is(tmp_path, loop, told):
    with pytest.raises(SettingsError, match=told):
        own_job(tmp_path, loop).start().result()


@pytest.mark.parametrize("folder", ["runs/own/bandit", Path("x"), Run("own")])
def test_a_job_writes_into_a_stage(tmp_path, folder):
    with pytest.raises(SettingsError, match=r"Run\(name\)\.stage\(stage\)"):
        own_job(tmp_path, folder=folder)


@pytest.mark.parametrize("schedule", [None, OwnKnobs(), OwnKnobs])
def test_a_job_is_told_by_a_schedule(tmp_path, schedule):
    with pytest.raises(SettingsError, match=r"schedule.*constant\(knobs\)"):
        own_job(tmp_path, schedule=schedule)


def test_who_waits_for_a_paused_job_is_told_that_it_is_paused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("labkit.jobs.waiting.PRINT_EVERY", 0.0)
    job, said, began = own_job(tmp_path).start(paused=True), "", time.monotonic()
    waiter = threading.Thread(target=job.result)
    waiter.start()
    while "paused" not in said and time.monotonic() < began + 10:
        said += capsys.readouterr().out
        time.sleep(0.05)
    job.stop()
    waiter.join()
    assert "bandit is paused at step 0 of 3; job.resume() goes on." in said


def test_a_loop_of_ones_own_has_its_board_and_its_figure(tmp_path, monkeypatch):
    job = own_job(tmp_path).start()
    job.wait()
    with pytest.raises(DataError, match=r"regret.*PANELS\['bandit'\]"):
        training_curves(job)
    monkeypatch.setitem(PANELS, "bandit", (Panel("regret", "Regret", (("regret", "regret"),), "What a better arm would have paid."),))
    assert list(training_curves(job).data[0].y) == pytest.approx([1, 1 / 2, 1 / 3], abs=1e-4)
    assert "regret" in json.dumps(Cockpit(job).spec)


@pytest.mark.parametrize(("board", "told"), [(Cockpit, "a Job"), (RankingBoard, "a LabelSession")])
@pytest.mark.parametrize("given", [None, [("3 4", ["5", "6"])], "sft"])
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_board_says_what_it_shows(board, told, given):
    with pytest.raises(SettingsError, match=f"{board.__name__} shows {told}, not a"):
        board(given)
    gc.collect()  # what was not built goes without a word


def test_the_inspector_takes_numbers_as_they_come():
    row = {"prompt": "3", "response": "4", "token_ids": [4]}
    scores = (1.5, np.float32(1.5), torch.tensor(1.5), np.float64(1.5))
    board = RewardInspector({**row, "score": s} for s in scores)
    assert [r["score"] for r in board.rows] == [1.5] * 4 and board.spec["unseen"] == ["token_ids"]


@pytest.mark.parametrize("rows", [["3 4"], "3 4", None, [Step("ppo", 1, {})]])
def test_the_inspector_says_what_rows_are(rows):
    with pytest.raises(DataError, match="prompt and response"):
        RewardInspector(rows)


def test_the_inspector_probes_rows_as_one_has_them():
    rows = [{"prompt": "3", "response": "4 " * i} for i in range(1, 9)]
    board = RewardInspector(rows, scorer=lambda prompts, responses, finished: [float(len(r)) for r in responses])
    assert board.probe(rows) == board.probe(board.rows) and board.probe(rows)["count"] == 8


SHOWN = [Prompt(f"p{i}", "3") for i in range(4)]
GIVEN = {m: [Completion(f"{m}{i}", f"p{i}", m) for i in range(4)] for m in "ab"}


@pytest.mark.parametrize("of", [list, np.array, torch.tensor, lambda s: [torch.tensor(x) for x in s]])
def test_scores_compare_alike_however_they_come(of):
    found = compare_by_score(SHOWN, GIVEN, {"a": of([0.0, 1.0, 2.0, 3.0]), "b": of([1.0, 1.0, 1.0, 1.0])}, baseline="b")
    assert found.win_rates["a", "reward model"].rate == 0.625


def test_judgments_and_answers_that_are_none_are_told():
    scores = {m: [1.0] * 4 for m in GIVEN}
    with pytest.raises(DataError, match="completions of 'a' hold .*no Completion"):  # as `complete` gives them, in groups
        compare_by_score(SHOWN, {m: [[c] for c in own] for m, own in GIVEN.items()}, scores, baseline="b")
    with pytest.raises(DataError, match="judgments hold {'prompt'.*no Judgment"):
        win_rate([{"prompt": "p", "a": "x", "b": "y", "preference": 1}], "x", "y")
    with pytest.raises(DataError, match="rankings hold {'prompt'.*no Ranking"):
        agreement([{"prompt": "p"}])


@pytest.mark.parametrize(
    ("scores", "told"),
    [({"a": [float("nan")] * 4, "b": [1.0] * 4}, "finite"), ({"a": [1.0] * 4}, "'b'.*no scores"), ({"a": [1.0] * 3, "b": [1.0] * 4}, "'a' has 3 scores")],
)
def test_scores_that_judge_nothing_are_told(scores, told):
    with pytest.raises(DataError, match=told):
        compare_by_score(SHOWN, GIVEN, scores, baseline="b")


def test_judgments_are_numbers_and_levels_shares():
    assert type(win_rate([Judgment("p", "a", "b", np.float32(1))], "a", "b").rate) is float
    for wrong in ("a", None):
        with pytest.raises(DataError, match="preference is"):
            Judgment("p", "a", "b", wrong)
    for level in (95, 0, 1):
        with pytest.raises(SettingsError, match=f"level is {level}"):
            win_rate([Judgment(f"p{i}", "a", "b", i % 2) for i in range(9)], "a", "b", level=level)


@pytest.mark.parametrize("of", [str, Path, lambda p: [p]])
def test_one_file_is_as_good_as_a_list_of_one(tmp_path, of):
    write_jsonl(tmp_path / "j.jsonl", [{"prompt_id": f"p{i}", "model_a": "x", "model_b": "y", "preference": i % 2} for i in range(8)])
    write_jsonl(tmp_path / "l.jsonl", [{"prompt": f"p{i}", "labeler": by, "ranks": {"a": 1, "b": 2}} for i in range(6) for by in ("ada", "bob")])
    assert winrate_of_files(of(tmp_path / "j.jsonl")).counts["judgments"] == 8
    assert agreement_of_files(of(tmp_path / "l.jsonl")).rankings is not None


def test_a_state_is_shown_in_a_line_or_two():
    state = SFTState(torch.nn.Linear(9, 9), None, kept={"w": torch.zeros(999)})
    assert len(repr(state)) < 200 and "step=0" in repr(state)


def test_a_run_that_was_prepared_is_opened_by_its_name(tmp_path):
    lab = Experiment(Run("own", tmp_path), scale="smoke", seed=3, model=Path("some/model"))
    (lab.run.path / FACTS).parent.mkdir(parents=True)
    (lab.run.path / FACTS).write_text(json.dumps(lab.facts))
    again = Experiment(Run("own", tmp_path))
    assert again.facts == lab.facts and (again.scale, again.seed) == ("smoke", 3)
    assert Experiment(Run("own", tmp_path), model=Path("some/model")).facts == lab.facts
    with pytest.raises(RunError, match="scale = 'smoke', now it is 'tour'"):
        Experiment(Run("own", tmp_path), scale="tour")
    assert Experiment(Run("new", tmp_path)).facts["scale"] == "tour"


def test_pretraining_rows_are_as_long_as_the_settings_say(tmp_path):
    lab = Experiment(Run("own", tmp_path), scale="smoke", model="small")
    assert lab.pretraining_rows(64).shape == (64, 64) and lab.pretraining_rows().shape == (64, lab.preset.ppo.ptx_row)


def test_an_experiment_is_told_in_words(tmp_path):
    lab = Experiment(Run("own", tmp_path), scale="smoke")
    for ask, told in (
        (lambda: Experiment("own"), r"Run\('own'\)"),
        (lambda: Experiment(Run("own", tmp_path), seed="1"), "seed is '1'"),
        (lambda: lab.ensure("sftt"), "nothing called 'sftt'.*ppo_ptx"),
        (lambda: lab.prompts("train", "sftt"), "'sftt'.*sft, reward, ppo"),
        (lambda: evaluate(lab, "sft"), r"\['sft'\]"),
        (lambda: replay_job(lab, lab.run.stage("ppo")), "ppo"),
    ):
        with pytest.raises(LabError, match=told):
            ask()


def test_the_numbers_of_knobs_of_ones_own_are_checked_too():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Arms(Knobs):
        """Of a bandit."""

        greed: float = knob(0.1, 0.0, 1.0, "How often the best arm so far is pulled.", "it is a share")

    dial = Dial(Arms())
    dial.turn(greed=2)
    assert dial(1) == Arms() and "must lie between 0 and 1" in dial.ledger[0]["reason"]
