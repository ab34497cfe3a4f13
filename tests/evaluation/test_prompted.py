"""The prompted base: how examples are laid out, what ends an answer, and the contest that chooses among layouts."""

import json

import pytest

from labkit.experiment import Experiment, answers, prompted
from labkit.experiment.prompted import LAYOUTS, Contest, Prompting, hold_contest
from labkit.models import encode_prompt, load_policy, new_reward_model
from labkit.runs import Run
from labkit.types import Prompt
from labkit.world.pretrain import base_path

TWO = Prompting("Question / Answer", (("What is red?\n", "The fox."), ("Is it?", "It is.")))


def test_every_layout_puts_examples_first_and_leaves_the_answer_open() -> None:
    for layout, (ask, reply) in LAYOUTS.items():
        text = Prompting(layout, TWO.examples).around("Who are you?\n")
        lines = text.split("\n")
        assert lines[0] == f"{ask}What is red?" and lines[2] == f"{ask}Is it?" and lines[4] == f"{ask}Who are you?"
        assert [line.removeprefix(reply).strip() for line in (lines[1], lines[3])] == ["The fox.", "It is."]
        assert lines[5] == reply, "the answer's line has begun, and nothing is on it"


def test_the_first_examples_give_way_to_a_long_instruction() -> None:
    whole = TWO.around("Who?")
    one, none = whole[whole.index("Question: Is it?") :], "Question: Who?\nAnswer:"
    for room, expected in ((len(whole), whole), (len(whole) - 1, one), (len(one) - 1, none), (1, none)):
        assert TWO.around("Who?", lambda text, room=room: len(text) <= room) == expected


def test_the_best_score_wins_and_without_scores_the_first() -> None:
    plain = Prompting("plain", TWO.examples)
    judged = Contest((TWO, plain), (0.1, 0.3))
    assert judged.winner is plain and Contest((TWO, plain)).winner is TWO
    assert [row["chosen"] for row in judged.table()] == ["yes", ""] and judged.table()[0]["layout"] == "plain"
    assert Contest.from_json(json.loads(json.dumps(judged.to_json()))) == judged
    assert {row["RM score"] for row in Contest((TWO, plain)).table()} == {"not judged"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Experiment(Run("prompted", tmp_path_factory.mktemp("runs")), scale="smoke", model="small")
    made.prepare()
    return made


def test_an_answer_is_one_line_and_says_how_it_was_prompted(lab) -> None:
    contest = hold_contest(lab)
    assert not contest.scores and not (lab.run.path / "prompted.json").exists(), "nobody can judge yet"
    asked = lab.prompts("test")[:24]
    drawn = answers(lab, "few-shot", asked)
    assert [c.prompt_id for c in drawn] == [p.id for p in asked]
    assert all("\n" not in c.text and c.text == c.text.strip() for c in drawn)
    assert all(c.model == "few-shot" and c.sampling["prompted"] == "Question / Answer, 2 examples" for c in drawn)
    assert sum(bool(c.text) and c.finished for c in drawn) > len(drawn) / 2


def test_a_prompt_that_fills_the_context_is_asked_without_examples(lab) -> None:
    room = load_policy(lab.model).config.max_position_embeddings - lab.max_new_tokens
    text, step = "", "The fox is red. "
    while len(encode_prompt(lab.tokenizer, f"Question: {(text + step).strip()}\nAnswer:")) <= room:
        text += step
    (answer,) = answers(lab, "few-shot", [Prompt("long", text)])
    assert answer.prompt_id == "long"


def test_the_reward_model_chooses_and_its_choice_is_kept_until_it_changes(lab, monkeypatch) -> None:
    monkeypatch.setattr(prompted, "PROMPTS", 4)
    folder, scores = lab.run.stage("reward").model, []
    for seed in (0, 1):
        judge = new_reward_model(base_path("small"), seed=seed)
        judge.save_pretrained(folder)
        contest = hold_contest(lab)
        assert len(contest.scores) == len(contest.candidates) == len(LAYOUTS) * 2 * 2
        assert contest.scores[contest.candidates.index(contest.winner)] == max(contest.scores)
        written = (lab.run.path / "prompted.json").read_text()
        with monkeypatch.context() as patched:
            patched.setattr(prompted, "complete", None)  # what is read needs no samples
            assert hold_contest(lab) == contest and (lab.run.path / "prompted.json").read_text() == written
        scores.append(contest.scores)
    assert scores[0] != scores[1], "another judge, another contest"
