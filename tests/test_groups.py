"""Folds by labeler group: reward models really learn from all groups but one, on a run's rankings and on anybody's files."""

import json
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from labkit import reward
from labkit.cli import app
from labkit.disk import write_json, write_jsonl
from labkit.errors import DataError
from labkit.experiment import Experiment
from labkit.experiment.groups import GroupFold, _report, labeler_groups
from labkit.labels.exchange import kwise_rows
from labkit.runs import Run
from labkit.types import Completion, Ranking
from labkit.world.facts import build_world
from labkit.world.labelers import hire_labelers
from labkit.world.prompts import sample_prompts
from labkit.world.responses import corrupted, ideal_response
from labkit.world.shown import sample_completions
from tests.readme import command

FACTS = {"scale": "smoke", "seed": 0, "model": "small", "reward_base": "reader", "data": "world"}


def answers(prompt) -> list[Completion]:
    """Two answers that anybody can tell apart."""
    rng = Random(prompt.id)
    texts = {"good": ideal_response(prompt, rng), "rude": corrupted(prompt, rng, "rude").text}
    return [Completion(name, prompt.id, text, finished=True) for name, text in texts.items() if text]


def judged(outcomes: list[tuple[str, float]]) -> reward.Accuracy:
    return reward.Accuracy(reward.share(outcomes), {}, {}, 0.0, outcomes)


@pytest.mark.parametrize(
    ("right", "right_out", "value", "words"),
    [(1.0, 0.0, 1.0, "serves its own better"), (0.0, 1.0, -1.0, "never saw better")],
)
def test_the_difference_is_that_of_the_two_accuracies_and_the_sentence_its_sign(right: float, right_out: float, value: float, words: str) -> None:
    fold = GroupFold(("ada",), 9, judged([(f"p{n}", right) for n in range(30)]), judged([(f"p{n}", right_out) for n in range(30)]))
    report = _report([fold], 0)
    assert report.difference.value == value and words in report.sentence and (report.own.value, report.held_out.value) == (right, right_out)


def test_a_difference_within_chance_is_none_and_few_prompts_are_too_few() -> None:
    rng = Random(1)
    some = lambda n: judged([(f"p{i % n}", float(rng.random() < 0.7)) for i in range(10 * n)])  # noqa: E731
    report = _report([GroupFold(("ada",), 9, some(60), some(60)), GroupFold(("bob",), 9, None, None)], 0)
    assert report.difference.low < 0 < report.difference.high and "no difference that could be told" in report.sentence
    assert report.to_json()["folds"][1]["own"] is None and "bob" in report.text()
    few = _report([GroupFold(("ada",), 9, some(12), some(12))], 0)
    assert "12 held-out prompts: too few to say" in few.sentence
    assert "too few to say" in _report([GroupFold(("ada",), 9, None, None)], 0).sentence


def test_fewer_labelers_than_groups_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    prompt = sample_prompts(build_world(0), 1, 3)[0]
    rankings = [Ranking(prompt, tuple(answers(prompt)), (("good",), ("rude",)), who) for who in ("ada", "bob")]
    with pytest.raises(DataError, match="2 labeler.s. cannot be split into 5 groups"):
        labeler_groups(Experiment(Run("x", tmp_path), scale="smoke", model="small"), rankings)


@pytest.mark.slow
def test_a_group_that_ranks_the_other_way_round_is_found_in_files_of_its_labels(tmp_path: Path) -> None:
    """Four people like what is kind, eve what is rude: models that never saw eve are wrong of her, and right of their own."""
    rows = []
    for n, prompt in enumerate(sample_prompts(build_world(0), 60, 3)):
        own = answers(prompt)
        for who in ("ada", "bob", "cy", "di", "eve"):
            groups = (("good",), ("rude",)) if who != "eve" else (("rude",), ("good",))
            rows += kwise_rows([Ranking(prompt, tuple(own), groups, who)])
            rows[-1]["prompt_id"] = str(n % 30)  # two files that number their rows alike
    write_jsonl(tmp_path / "labels.jsonl", rows)
    line = ["folds", "none", "--labels", str(tmp_path / "labels.jsonl"), "--scale", "smoke", "--json", "--root", str(tmp_path)]
    ended = CliRunner().invoke(app, line)
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    by_labeler = {fold["labelers"][0]: fold for fold in found["folds"]}
    assert found["held_out_prompts"] == 12 and set(by_labeler) == {"ada", "bob", "cy", "di", "eve"}
    assert all(f["rankings"] == 4 * 48 for f in by_labeler.values()), "four people, the prompts that are not held out"
    assert by_labeler["eve"]["own"]["value"] > 0.8 and by_labeler["eve"]["held_out"]["value"] < 0.2
    assert all(by_labeler[who]["held_out"]["value"] > 0.8 for who in ("ada", "bob", "cy", "di"))
    assert not (tmp_path / "none").exists(), "nothing is written"


@pytest.mark.slow
def test_the_command_takes_a_runs_rankings_and_says_where_they_are_too_few(tmp_path: Path) -> None:
    staff = [x for x in hire_labelers() if x.group == "train"][:10]
    made = [staff[n % 10].rank(p, sample_completions(p, 4), 0) for n, p in enumerate(sample_prompts(build_world(0), 40, 3))]
    run = tmp_path / "mine"
    write_json(run / "prompts" / "experiment.json", FACTS)
    for split, rankings in (("train", made[:30]), ("valid", made[30:])):
        write_jsonl(run / "rankings" / f"{split}.jsonl", [r.to_json() for r in rankings])
    ended = CliRunner().invoke(app, [*command("labkit folds")[1:], "--root", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.count(" of ") >= 6 and "8 held-out prompts: too few to say" in ended.stdout and "72.4 ± 0.4 %" in ended.stdout
    assert "Reward model 5 of 5" in ended.stderr
