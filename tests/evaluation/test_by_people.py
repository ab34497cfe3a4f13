"""People judge an evaluation blind: what they see, what their rankings count for, and that nothing trains on them."""

import json

import pytest

from labkit import reward
from labkit.batch.parents import bring_parents
from labkit.disk import write_jsonl
from labkit.errors import DataError, RunError
from labkit.evaluation.preference import REWARD_MODEL
from labkit.experiment import Evaluation, Experiment, blind_cards, evaluate, load_evaluation, people_path, with_people
from labkit.experiment.by_people import FOLDER, join_people
from labkit.experiment.evaluation import PEOPLE
from labkit.experiment.own import ranked_by_hand
from labkit.figures import win_rates
from labkit.labels.session import LabelSession
from labkit.labels.state import Draft
from labkit.models import load_policy, save_model
from labkit.runs import Run
from labkit.types import Rating
from widgets import RankingBoard

OTHER_RATE = 0.123
MODELS = ["sft", "best-of-4", "ppo", "ppo_ptx"]
BEST_FIRST = ["ppo", "sft", "ppo_ptx"]  # what the people of these tests think
pytestmark = pytest.mark.slow


def leave(lab, stage, model, seed=0):
    """A finished stage that holds this model; seed: of a disturbance, for one that was trained anew."""
    import torch

    folder = lab.run.stage(stage)
    folder.begin(settings={})
    torch.manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters() if seed else ():
            weights.add_(0.02 * torch.randn_like(weights))
    save_model(model, lab.tokenizer, folder.model)
    folder.finish()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A run whose policies are all the base and whose reward model has a random head: nobody needs to have trained."""
    lab = Experiment(Run("judged", tmp_path_factory.mktemp("runs")), scale="smoke", model="small", reward_base="small")
    lab.prepare()
    for stage in ("sft", "ppo", "ppo_ptx"):
        leave(lab, stage, load_policy(lab.model))
    judge = lab.run.stage("reward")
    judge.begin(settings={})
    reward.start(lab.reward_base, seed=3).save_model(judge.model)
    judge.finish()
    return lab


def judge_anew(lab) -> Evaluation:
    return evaluate(lab, MODELS, prompts=lab.prompts("test")[:12], benchmarks=False)


@pytest.fixture(scope="module")
def result(lab) -> Evaluation:
    return judge_anew(lab)


def desk_of(lab, result, labeler, **options) -> LabelSession:
    return LabelSession(blind_cards(lab, result, 12), labeler, people_path(lab.run.path, labeler), **options)


def rank_by_model(desk: LabelSession, order: list[str]) -> None:
    """Rank every open card by whose answers they are, which no person could."""
    while desk.current:
        place = {c.id: min(order.index(m) for m in c.model.split(", ")) for c in desk.current.completions}
        groups = tuple((i,) for i in sorted(place, key=place.get))
        desk.submit(Draft(groups=groups, ratings={i: Rating(likert=7 - place[i]) for i in place}))


def test_without_labels_the_evaluation_says_so_and_is_drawn(lab, result):
    found = with_people(lab)
    assert PEOPLE not in found.groups and found == result and "0 rankings by people" in found.people_sentence
    assert load_evaluation(lab.run) == found
    old = {k: v for k, v in found.to_json().items() if k != "people"}
    assert Evaluation(**old) == found, "records from before people could judge are read as ever"


def test_in_the_world_the_reward_model_is_one_more_group_of_judges(result):
    assert result.groups == ["held-out labelers", "training labelers", "gold judge", REWARD_MODEL]
    assert [r["name"] for r in result.win_rates(REWARD_MODEL)] == MODELS[1:]
    assert result.rate("best-of-4", REWARD_MODEL) > 0.5, "its own choice"


def test_the_page_learns_whose_answers_these_are_neither_before_nor_after(lab, result, monkeypatch):
    desk = LabelSession(blind_cards(lab, result, 12), "nobody", None)
    board = RankingBoard(desk, blind=True)
    seen, orders = [], set()
    while desk.current:
        orders.add(tuple(next(c.model for c in desk.current.completions if c.id == i) for i in desk.current.shown))
        count = len(desk.current.shown)
        sent = {"groups": [[i] for i in range(count)], "likert": [None] * count, "flags": [[]] * count, "comment": ""}
        board._receive({"do": "submit", "turn": board.card["turn"], "draft": sent})
        seen.append(json.dumps([board.card, board.view, board.jobs]))
    assert len(orders) > 1, "the order on the screen says nothing either"
    monkeypatch.setenv("LABKIT_HEADLESS", "1")
    twin = RankingBoard(desk, blind=True)._repr_mimebundle_()["text/html"]
    for name in (*MODELS, "best-of", "weights"):
        assert not any(f'"{name}' in text for text in seen) and f">{name}" not in twin
    assert "hidden" in twin and board.view["echo"]["text"].startswith("Stored")


def test_the_cards_are_the_answers_that_the_other_judges_saw_each_text_once(lab, result):
    samples = [json.loads(line) for line in (lab.run.path / "evaluate" / "samples.jsonl").read_text().splitlines()]
    answered = {(row["prompt_id"], row["model"]): row["text"] for row in samples}
    for prompt, completions in blind_cards(lab, result, 12):
        assert prompt.split == "test" and len({c.text for c in completions}) == len(completions) > 1
        whose = {m: c.text for c in completions for m in c.model.split(", ")}
        assert whose == {m: answered[prompt.id, m] for m in ("sft", "ppo", "ppo_ptx")}
        assert not any(m in c.id for m in MODELS for c in completions)
    assert len(blind_cards(lab, result, 3)) == 3
    with pytest.raises(DataError, match="'dpo' was not evaluated"):
        blind_cards(lab, result, 3, models=["sft", "dpo"])
    with pytest.raises(RunError, match="was not evaluated"):
        blind_cards(Experiment(Run("none", lab.run.path.parent), scale="smoke"), result, 3)


def test_what_people_rank_counts_by_model_and_trains_nothing(lab, result):
    made = [lab.source.rank(*card, 0) for card in blind_cards(lab, result, 4)]
    for split in ("train", "valid"):
        write_jsonl(lab.run.path / "rankings" / f"{split}.jsonl", (r.to_json() for r in made))
    before = lab.rankings("train")
    desk = desk_of(lab, result, "ann")
    rank_by_model(desk, BEST_FIRST)
    desk.close()
    found = with_people(lab)
    cards = len(desk.tasks)
    assert found.people["rankings"] == found.people["prompts"] == cards and found.people["labelers"] == 1
    assert found.groups == [*result.groups, PEOPLE] and load_evaluation(lab.run) == found
    assert [r for r in found.preferences if r["group"] != PEOPLE] == result.preferences
    by_people = {r["name"]: r for r in found.win_rates(PEOPLE)}
    alike = {m: sum("sft" in c.model.split(", ") and m in c.model.split(", ") for t in desk.tasks for c in t.completions) for m in MODELS}
    assert by_people["ppo"]["rate"] == (cards - alike["ppo"] / 2) / cards, "the same words tie"
    assert by_people["ppo_ptx"]["rate"] == alike["ppo_ptx"] / 2 / cards and "best-of-4" not in by_people
    assert f"preferred to sft, {PEOPLE}" in found.table()[0] and "ppo preferred to sft by people" in found.summary()
    assert set(found.people_likert) == {"sft", "ppo", "ppo_ptx"} and max(found.people_likert["ppo"]) == 7
    assert {m: len(p) for m, p in found.likert_prompts(people=True).items()} == {m: len(v) for m, v in found.people_likert.items()}
    assert all(len(q["likert_prompts"]) == len(q["likert_scores"]) for q in result.quality)
    assert PEOPLE in [trace.name for trace in win_rates([{**r, "group": g} for g in found.groups for r in found.win_rates(g)]).data]
    assert ranked_by_hand(lab) == [] and lab.rankings("train") == before and not (lab.run.path / "labels").exists()


def test_intervals_are_of_prompts_however_many_people_judge_them(lab, result):
    one = {r["model"]: r for r in with_people(lab).preferences if r["group"] == PEOPLE}
    for labeler in ("bob", "cid"):
        desk = desk_of(lab, result, labeler)
        rank_by_model(desk, BEST_FIRST)
        desk.close()
    three = {r["model"]: r for r in with_people(lab).preferences if r["group"] == PEOPLE}
    for model, row in three.items():
        assert row["count"] == 3 * one[model]["count"]
        assert {k: row[k] for k in ("rate", "low", "high")} == pytest.approx({k: one[model][k] for k in ("rate", "low", "high")})


def test_labels_outlive_a_second_evaluation_and_count_for_answers_that_are_still_given(lab, result):
    logs = {f.name: f.read_bytes() for f in (lab.run.path / FOLDER).iterdir()}
    before = with_people(lab)
    again = judge_anew(lab)
    assert again == before, "the same models answer the same, and people have said the same of it"
    desk = desk_of(lab, again, "ann")
    assert desk.current is None and len(desk.rankings) == len(desk.tasks)
    desk.close()
    leave(lab, "ppo", load_policy(lab.model), seed=1)
    anew = judge_anew(lab)
    row, was = ({r["model"]: r for r in e.preferences if r["group"] == PEOPLE} for e in (anew, before))
    assert row["ppo_ptx"] == was["ppo_ptx"], "PPO-ptx and SFT answer as before"
    assert row.get("ppo", {"count": 0})["count"] < was["ppo"]["count"]
    for stage in ("sft", "ppo_ptx"):
        leave(lab, stage, load_policy(lab.model), seed=2)
    gone = judge_anew(lab)
    assert gone.people["outdated"] > 0 and gone.people["outdated"] + gone.people["rankings"] == before.people["rankings"]
    assert "do not give any more" in gone.people_sentence
    for name, log in logs.items():
        assert (lab.run.path / FOLDER / name).read_bytes().startswith(log), "nothing that people did is rewritten"
    assert load_evaluation(lab.run) == gone


def test_another_question_under_the_same_id_is_not_what_was_judged(lab, result):
    samples = {m: {} for m in MODELS}
    asked = {p.id: p.text + "?" for p in lab.prompts("test")}
    assert join_people(lab.run, result, asked, samples).people["rankings"] == 0


def test_a_sweep_does_not_bring_what_people_said_of_other_models(lab, repository):
    point = Run("point", lab.run.path.parent)
    bring_parents(lab.run, point, repository / "notebooks" / "05_ppo_ptx.ipynb")
    assert (point.path / "sft").is_dir() and not (point.path / FOLDER).exists()


def test_an_evaluation_that_was_made_elsewhere_meanwhile_is_not_written_over(lab):
    judge_anew(lab)
    file = lab.run.path / "evaluate" / "results.json"
    told = json.loads(file.read_text())
    told["preferences"][0]["rate"] = OTHER_RATE
    file.write_text(json.dumps(told))
    assert with_people(lab).preferences[0]["rate"] == OTHER_RATE
    assert json.loads(file.read_text())["preferences"][0]["rate"] == OTHER_RATE
