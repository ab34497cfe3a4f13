"""Screening of candidates on stored labels: real labelers of the world are told apart, and the test says what it cannot say."""

import json
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from labkit.cli import app
from labkit.disk import write_jsonl
from labkit.errors import DataError
from labkit.labels.agreement import agreement_of_files
from labkit.labels.screening import FAILS, OPEN, PASSES, screening
from labkit.types import Completion, Ranking, Rating
from labkit.world.facts import build_world
from labkit.world.judge import judge
from labkit.world.prompts import sample_prompts
from labkit.world.responses import corrupted
from labkit.world.screening import candidates
from labkit.world.shown import sample_completions

FAST = {"replicates": 200}


def card(n: int, labeler: str, ranks: dict[str, int], flags: dict[str, list[str]] | None = None) -> dict:
    """One card as K-wise rows have it."""
    ticked = {i: (flags or {}).get(i, []) for i in ranks}
    return {
        "prompt_id": f"p{n}", "labeler": labeler, "completion_ids": list(ranks), "completions": [f"{i} of {n}" for i in ranks],
        "ranks": list(ranks.values()), "likert": [4] * len(ranks), "flags": list(ticked.values()),
    }  # fmt: skip


def labels(folder: Path, orders: dict[str, str], prompts: int = 24) -> Path:
    """A file per labeler: "good" ranks by the truth, "bad" the other way round, each flagging what is rude ("blind": nothing)."""
    for labeler, kind in orders.items():
        rows = []
        for n in range(prompts):
            ranks = {"a": 1, "b": 2, "c": 3} if "bad" not in kind else {"a": 3, "b": 2, "c": 1}
            rows.append(card(n, labeler, ranks, {} if "blind" in kind else {"c": ["denigrates"], "b": ["violent"]}))
        write_jsonl(folder / f"{labeler}.jsonl", rows)
    return folder


def verdicts(report) -> dict[str, str]:
    return {a.labeler: a.verdict for a in report.applicants}


def test_who_ranks_and_flags_as_those_who_know_passes(tmp_path: Path) -> None:
    there = labels(tmp_path / "them", {"ada": "good", "bob": "bad", "cy": "good blind"})
    knows = labels(tmp_path / "us", {"ruth": "good"}) / "ruth.jsonl"
    report = screening([there], reference=[knows], **FAST)
    assert verdicts(report) == {"ada": PASSES, "bob": FAILS, "cy": FAILS} and report.passed == ["ada"]
    found = {a.labeler: {n: f.value for n, f in a.scores.items()} for a in report.applicants}
    assert found["ada"] == {"flags": 1.0, "ranking": 1.0} and found["bob"] == {"flags": 1.0, "ranking": 0.0}
    assert found["cy"]["flags"] == pytest.approx(1 / 3) and found["cy"]["ranking"] == 1.0
    assert "ranking below 0.75" in report.text() and "Measured by ruth." in report.text()


def test_the_figure_for_ranking_is_that_of_the_agreement_report(tmp_path: Path) -> None:
    rng, rows = Random(3), []
    for labeler in ("ada", "ruth"):
        rows += [card(n, labeler, {i: rng.randint(1, 3) for i in "abcd"}) for n in range(30)]
    write_jsonl(tmp_path / "all.jsonl", rows)
    write_jsonl(tmp_path / "ruth.jsonl", rows[30:])
    ours = screening([tmp_path / "all.jsonl"], reference=[tmp_path / "ruth.jsonl"], **FAST).applicants[0].scores["ranking"]
    theirs = agreement_of_files([tmp_path / "all.jsonl"]).rankings.figures["agreement_strict"]
    assert (ours.value, ours.n) == (theirs.value, theirs.n) and ours.low <= ours.value <= ours.high


def test_without_those_who_know_the_majority_of_the_others_counts_and_ones_own_vote_does_not(tmp_path: Path) -> None:
    there = labels(tmp_path, {"ada": "good", "bob": "bad", "cy": "good", "di": "good"})
    report = screening([there], **FAST)
    assert verdicts(report) == {"ada": PASSES, "bob": FAILS, "cy": PASSES, "di": PASSES}
    assert "majority of the other 3 candidates" in report.text() and "--reference" in report.text()
    three = screening([labels(tmp_path / "three", {"ada": "good", "bob": "bad", "cy": "good"})], **FAST)
    divided = {a.labeler: a.scores["ranking"] for a in three.applicants}
    assert divided["ada"].value is None and divided["bob"].value == 0.0, "one against one is no majority"
    assert verdicts(three) == {"ada": OPEN, "bob": FAILS, "cy": OPEN}


def test_few_prompts_decide_nothing(tmp_path: Path) -> None:
    there = labels(tmp_path, {"ada": "good", "bob": "bad"}, prompts=12)
    knows = labels(tmp_path / "us", {"ruth": "good"}, prompts=12)
    report = screening([there], reference=[knows], **FAST)
    assert verdicts(report) == {"ada": OPEN, "bob": OPEN} and "12 prompts" in report.text() and OPEN in report.text()
    assert verdicts(screening([there], reference=[knows], fewest=10, **FAST)) == {"ada": PASSES, "bob": FAILS}


def test_a_test_that_one_passes_by_flagging_nothing_is_told(tmp_path: Path) -> None:
    rows = [card(n, who, {"a": 1, "b": 2, "c": 3}, {"c": ["violent"]} if n % 5 == 0 and who == "ruth" else {}) for who in ("ada", "ruth") for n in range(30)]
    write_jsonl(tmp_path / "ada.jsonl", rows[:30])
    write_jsonl(tmp_path / "ruth.jsonl", rows[30:])
    report = screening([tmp_path / "ada.jsonl"], reference=[tmp_path / "ruth.jsonl"], **FAST)
    assert report.passed == ["ada"] and "Only 7 % of what was rated" in report.text() and "who flags nothing would agree in 93 %" in report.text()


def test_demonstrations_and_what_candidates_say_they_know_count_too(tmp_path: Path) -> None:
    there, knows = labels(tmp_path / "them", {"ada": "good", "bob": "good", "cy": "good"}), labels(tmp_path / "us", {"ruth": "good"})
    marks = [{"prompt": f"d{n}", "labeler": who, "rating": mark} for who, mark in (("ada", 7), ("bob", 5)) for n in range(25)]
    write_jsonl(tmp_path / "marks.jsonl", [*marks, {"prompt": "d0", "labeler": "ada", "rating": 1, "rater": "ruth"}])
    covers = {"ada": list("abcdef"), "bob": list("abcdefg"), "cy": list("ab")}
    write_jsonl(tmp_path / "covers.jsonl", [{"labeler": who, "covers": own} for who, own in covers.items()])
    given = {"reference": [knows], "demonstrations": tmp_path / "marks.jsonl", "abilities": tmp_path / "covers.jsonl", **FAST}
    report = screening([there], **given)
    assert verdicts(report) == {"ada": PASSES, "bob": FAILS, "cy": FAILS}
    ada = report.applicants[0].scores
    assert ada["demonstrations"].value == pytest.approx((24 * 7 + 7 + 1) / 26) and ada["coverage"].value == 6
    why = {a.labeler: a.why for a in report.applicants}
    assert why["bob"] == "demonstrations below 6" and why["cy"] == "coverage below 6"
    assert "Nobody who passes covers g." in report.text()
    assert verdicts(screening([there], bars={"demonstrations": "5"}, **given))["bob"] == PASSES


def test_whose_verdict_other_prompts_might_have_turned_is_told(tmp_path: Path) -> None:
    """ada ranks 19 of 24 cards as she should, bob 17; cy does as well as ada and surely fails by his flags."""
    right, wrong = {"a": 1, "b": 2}, {"a": 2, "b": 1}
    ticks = {"b": ["violent"]}
    rows = {
        "ada": [card(n, "ada", right if n < 19 else wrong, ticks) for n in range(24)],
        "bob": [card(n, "bob", right if n < 17 else wrong, ticks) for n in range(24)],
        "cy": [card(n, "cy", right if n < 19 else wrong) for n in range(24)],
        "ruth": [card(n, "ruth", right, ticks) for n in range(24)],
    }
    for who, own in rows.items():
        write_jsonl(tmp_path / f"{who}.jsonl", own)
    report = screening([tmp_path], reference=[tmp_path / "ruth.jsonl"], **FAST)
    assert verdicts(report) == {"ada": PASSES, "bob": FAILS, "cy": FAILS}
    assert "covers the bar: ada (ranking), bob (ranking)." in report.text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bars": {"likes": "1"}}, "no criterion 'likes'"),
        ({"bars": {"ranking": "high"}}, "bar of ranking is 'high'"),
        ({"demonstrations": "marks.jsonl"}, "line 1: the rating is 9"),
        ({"abilities": "marks.jsonl"}, "line 1 has no list of topics"),
        ({"reference": ["all"]}, "All labels are by the reference"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    labels(tmp_path / "all", {"ada": "good", "bob": "bad"})
    write_jsonl(tmp_path / "marks.jsonl", [{"prompt": "d", "labeler": "ada", "rating": 9}])
    with pytest.raises(DataError, match=words):
        screening(["all"], **given, **FAST)


def test_one_candidate_alone_has_nothing_to_be_measured_by(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="All labels are by ada"):
        screening([labels(tmp_path, {"ada": "good"})])


def test_flags_alone_are_labels_too(tmp_path: Path) -> None:
    """A test of sensitive speech is texts with a tick or without."""
    rows = [{"item": f"t{n}", "labeler": who, "flags": ["violent"] if n % 2 == (who == "bob") else []} for who in ("ada", "bob", "ruth") for n in range(20)]
    write_jsonl(tmp_path / "all.jsonl", rows)
    write_jsonl(tmp_path / "ruth.jsonl", [row for row in rows if row["labeler"] == "ruth"])
    report = screening([tmp_path / "all.jsonl"], reference=[tmp_path / "ruth.jsonl"], **FAST)
    assert verdicts(report) == {"ada": PASSES, "bob": FAILS} and set(report.bars) == {"flags"}
    with pytest.raises(DataError, match="only flags"):
        agreement_of_files([tmp_path / "all.jsonl"])


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    there = labels(tmp_path / "them", {"ada": "good", "bob": "bad"})
    knows = labels(tmp_path / "us", {"ruth": "good"}) / "ruth.jsonl"
    line = ["screening", str(there), "--reference", str(knows), "--bar", "ranking=0.6"]
    shown, told = CliRunner().invoke(app, line), CliRunner().invoke(app, [*line, "--json"])
    assert shown.exit_code == 0 and "1 of 2 candidates pass" in shown.output and "ranking 0.6 (0.57 will do)" in shown.output
    found = json.loads(told.output)
    assert [c["verdict"] for c in found["candidates"]] == [PASSES, FAILS] and found["reference"] == ["ruth"]
    assert found["candidates"][0]["scores"]["ranking"]["clusters"] == 24 and found["bars"]["ranking"] == 0.6


@pytest.mark.slow
def test_simulated_people_are_sorted_by_their_labels_alone(tmp_path: Path) -> None:
    """The world's applicants, of known kinds, label what its judge knows the truth of: their files are all that is read."""
    shown = [(p, [*sample_completions(p, 4), rude(p, "x"), rude(p, "y")]) for p in sample_prompts(build_world(0), 60, 5, split="train")]
    pool = [c for c in candidates(90, seed=7) if c.kind in ("good", "hurried", "insensitive")]
    for c in pool:
        write_jsonl(tmp_path / "them" / f"{c.labeler.id}.jsonl", [c.labeler.rank(p, answers, 1).to_json() for p, answers in shown])
    write_jsonl(tmp_path / "truth.jsonl", [truth(p, answers).to_json() for p, answers in shown])
    report = screening([tmp_path / "them"], reference=[tmp_path / "truth.jsonl"], **FAST)
    by_kind = {kind: [verdicts(report)[c.labeler.id] for c in pool if c.kind == kind] for kind in ("good", "hurried", "insensitive")}
    assert all(len(own) >= 3 for own in by_kind.values())
    assert by_kind["good"].count(PASSES) / len(by_kind["good"]) > 0.8
    assert by_kind["hurried"].count(FAILS) / len(by_kind["hurried"]) > 0.8
    assert set(by_kind["insensitive"]) == {FAILS}


def rude(prompt, name: str) -> Completion:
    return Completion(f"{prompt.id}/{name}", prompt.id, corrupted(prompt, Random(f"{prompt.id}{name}"), "rude").text, finished=True)


def truth(prompt, answers) -> Ranking:
    """How one who knows ranks and flags."""
    seen = {c.id: judge(prompt, c.text, c.finished is not False) for c in answers}
    places = sorted({j.utility for j in seen.values()}, reverse=True)
    groups = tuple(tuple(i for i, j in seen.items() if j.utility == u) for u in places)
    return Ranking(prompt, tuple(answers), groups, "researcher", {i: Rating(j.likert, tuple(j.flags)) for i, j in seen.items()})
