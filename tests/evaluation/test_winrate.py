"""Win rates and Bradley-Terry scores: planted strengths come back, intervals know prompts, odd data is treated."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from labkit.cli import app
from labkit.errors import DataError
from labkit.evaluation.winrate import (
    Judgment,
    bradley_terry,
    judgments_of,
    read_judgments,
    win_rate,
    winrate_of_files,
    winrate_report,
)
from labkit.evaluation.winrate.bradley_terry import fit
from labkit.labels.exchange import kwise_rows
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.types import Completion, Prompt, Ranking
from tests.labels.helpers import draft, tasks

FAST = {"replicates": 200}
TRUTH = {"gpt": -1.2, "sft": 0.0, "ppo": 0.4, "ptx": 0.8}


def planted(n: int, seed: int = 0, truth: dict[str, float] = TRUTH) -> list[Judgment]:
    """`n` judgments of random pairs, drawn from the Bradley-Terry model itself."""
    rng, found = random.Random(seed), []
    for p in range(n):
        a, b = rng.sample(list(truth), 2)
        found.append(Judgment(f"p{p}", a, b, float(rng.random() < 1 / (1 + math.exp(truth[b] - truth[a])))))
    return found


def test_the_rate_counts_ties_as_half_and_reads_both_directions():
    judgments = [Judgment("1", "a", "b", 1.0), Judgment("2", "b", "a", 1.0), Judgment("3", "a", "b", 0.5),
                 Judgment("4", "b", "a", 0.0), Judgment("5", "a", "c", 0.0)]  # fmt: skip
    rate = win_rate(judgments, "a", "b")
    assert rate.rate == pytest.approx(2.5 / 4) and rate.n == 4 and rate.prompts == 4
    assert win_rate(judgments, "b", "a").rate == pytest.approx(1.5 / 4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=2, max_size=30))
def test_the_two_directions_mirror_each_other(rows):
    judgments = [Judgment(str(p), "a", "b", v) for p, v in rows]
    one, other = win_rate(judgments, "a", "b"), win_rate(judgments, "b", "a")
    assert one.rate == pytest.approx(1 - other.rate)
    assert one.low == pytest.approx(1 - other.high) and one.high == pytest.approx(1 - other.low)
    assert 0 <= one.low <= one.rate <= one.high <= 1


def test_the_clustered_interval_is_wider_where_prompts_repeat():
    rng = random.Random(1)
    verdicts = [float(rng.random() < 0.6) for _ in range(60)]
    repeated = [Judgment(f"p{p}", "a", "b", v) for p, v in enumerate(verdicts) for _ in range(5)]
    naive = [Judgment(f"p{i}", j.a, j.b, j.preference) for i, j in enumerate(repeated)]
    once = [Judgment(f"p{p}", "a", "b", v) for p, v in enumerate(verdicts)]
    wide, narrow, single = (win_rate(x, "a", "b") for x in (repeated, naive, once))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert wide.se == pytest.approx(single.se)  # saying a thing five times adds nothing
    assert wide.n == 300 and wide.prompts == 60


def test_the_standard_error_without_repeats_is_the_usual_one():
    values = [0.0, 1.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0]
    rate = win_rate([Judgment(str(i), "a", "b", v) for i, v in enumerate(values)], "a", "b")
    assert rate.se == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(values)))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    inside = 0
    for seed in range(200):
        rng, judgments = random.Random(seed), []
        for p in range(40):
            easy = rng.random() < 0.5  # on easy prompts a always wins, on the others half the time: 0.75 in truth
            judgments += [Judgment(str(p), "a", "b", float(easy or rng.random() < 0.5)) for _ in range(4)]
        rate = win_rate(judgments, "a", "b")
        inside += rate.low <= 0.75 <= rate.high
    assert 182 <= inside <= 199


@pytest.mark.parametrize("prompts", [1, 2, 30])
def test_unanimous_judgments_keep_a_width(prompts):
    rate = win_rate([Judgment(str(p), "a", "b", 1.0) for p in range(prompts)], "a", "b")
    assert rate.rate == rate.high == 1 and rate.low < 0.9
    assert ("too few" in rate.note) == (prompts < 20) and (rate.se is None) == (prompts == 1)


def verdicts(*values: float) -> list[Judgment]:
    return [Judgment(str(p), "a", "b", v) for p, v in enumerate(values)]


def test_one_dissent_among_many_makes_no_interval_narrower():
    """Nearly all ties, or all wins but one: how far prompts differ is not known from one of them."""
    unanimous, but_one = win_rate(verdicts(*[1.0] * 30), "a", "b"), win_rate(verdicts(*[1.0] * 29, 0.5), "a", "b")
    assert but_one.low < unanimous.low and "29 of 30 prompts have one verdict" in but_one.note
    ties, nearly = win_rate(verdicts(*[0.5] * 30), "a", "b"), win_rate(verdicts(*[0.5] * 29, 0.501), "a", "b")
    assert nearly.high - nearly.low == pytest.approx(ties.high - ties.low, abs=1e-3)
    assert "29 of 30 prompts are ties" in nearly.note and "30 of 30 prompts are ties" in ties.note
    assert win_rate(verdicts(*[0.5] * 25, *[0.0] * 5), "a", "b").note == ""
    assert "too few" in win_rate(verdicts(0.5, 0.5), "a", "b").note


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_intervals_of_nearly_all_ties_cover_the_truth(other):
    rng, inside = np.random.default_rng(0), 0
    for _ in range(300):
        rate = win_rate(verdicts(*np.where(rng.random(100) < 0.03, other, 0.5)), "a", "b")
        inside += rate.low <= 0.97 * 0.5 + 0.03 * other <= rate.high
    assert inside >= 0.93 * 300


def test_nothing_but_ties_gives_scores_no_interval_and_a_note():
    scores = bradley_terry(verdicts(*[0.5] * 30), **FAST)
    assert all((s.score, s.low, s.high, s.rank, s.rank_low) == (0, None, None, 1, None) for s in scores.models)
    assert any("no width" in note for note in scores.notes)
    assert not any("no width" in note for note in bradley_terry(planted(300), **FAST).notes)


def test_planted_strengths_are_recovered():
    scores = {s.model: s for s in bradley_terry(planted(6000), **FAST).models}
    mean = sum(TRUTH.values()) / len(TRUTH)
    for model, truth in TRUTH.items():
        assert scores[model].score == pytest.approx(truth - mean, abs=0.12)
        assert scores[model].low < scores[model].score < scores[model].high
    assert bradley_terry(planted(6000), **FAST).order == [["ptx", "ppo", "sft", "gpt"]]


def test_the_fit_is_stationary_wins_equal_expected_wins():
    report = bradley_terry([*planted(300), Judgment("t", "gpt", "ptx", 0.5), Judgment("u", "sft", "ppo", 0.3)], **FAST)
    score, judgments = {s.model: s.score for s in report.models}, [*planted(300)]
    judgments += [Judgment("t", "gpt", "ptx", 0.5), Judgment("u", "sft", "ppo", 0.3)]
    for model in TRUTH:
        seen = [j for j in judgments if model in (j.a, j.b)]
        mine = [j if j.a == model else Judgment(j.prompt, j.b, j.a, 1 - j.preference) for j in seen]
        expected = sum(1 / (1 + math.exp(score[j.b] - score[j.a])) for j in mine)
        assert sum(j.preference for j in mine) == pytest.approx(expected, abs=1e-6)


def test_two_models_give_the_log_odds_of_the_rate():
    judgments = [Judgment(str(i), "a", "b", float(i < 30)) for i in range(40)]
    best, other = bradley_terry(judgments, **FAST).models
    assert best.model == "a" and best.score - other.score == pytest.approx(math.log(30 / 10))


def test_order_intervals_tell_close_models_from_distant_ones():
    truth = {"x": 0.02, "y": 0.0, "z": -3.0}
    rows = {s.model: s for s in bradley_terry(planted(300, truth=truth), **FAST).models}
    assert (rows["z"].rank_low, rows["z"].rank_high) == (3, 3)
    assert {rows["x"].rank_low, rows["y"].rank_low} == {1} and {rows["x"].rank_high, rows["y"].rank_high} == {2}


def test_perfect_separation_is_finite_and_said():
    judgments = [Judgment(str(i), "a", "b", 1.0) for i in range(30)] + [
        Judgment(str(i), "b", "c", 1.0) for i in range(30)
    ]
    scores = bradley_terry(judgments, **FAST)
    assert scores.order == [["a", "b", "c"]] and all(s.separated and math.isfinite(s.score) for s in scores.models)
    assert all(s.low is None for s in scores.models) and "perfectly separated" in scores.notes[0]


@pytest.mark.parametrize(("won", "has"), [(29, False), (20, True)])
def test_where_many_resamples_are_separated_there_is_no_interval_and_a_note(won, has):
    judgments = [Judgment(str(i), "a", "b", float(i < won)) for i in range(30)]
    scores = bradley_terry(judgments)
    assert not any(s.separated for s in scores.models) and scores.order == [["a", "b"]]
    assert all((s.low is not None) == has for s in scores.models)
    assert any("never lose" in note for note in scores.notes) != has


def test_groups_that_never_met_have_scores_of_their_own():
    judgments = [Judgment(str(i), "a", "b", float(i % 3 > 0)) for i in range(60)]
    judgments += [Judgment(str(i), "c", "d", float(i % 2)) for i in range(20)]
    scores = bradley_terry(judgments, **FAST)
    assert scores.order[0] == ["a", "b"] and sorted(scores.order[1]) == ["c", "d"]
    for group in (1, 2):
        assert sum(s.score for s in scores.models if s.group == group) == pytest.approx(0, abs=1e-9)
    assert {s.rank for s in scores.models if s.model in "cd"} == {1} and "never compared" in scores.notes[0]


@pytest.mark.parametrize("lost", [1, 0])
def test_lopsided_counts_do_not_upset_the_fit(lost):
    wins = np.array([[[0, 100_000, 100_000], [lost, 0, 1], [lost, 1, 0]]], float)
    scores, separated = fit(wins, np.ones(3, int), np.ones((3, 3), bool))
    assert np.isfinite(scores).all() and separated.all() == (not lost)
    assert scores[0, 0] - scores[0, 1] == pytest.approx(math.log(100_000 if lost else 200_001), rel=1e-6)


# -- files ---------------------------------------------------------------------------------------------------------


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"prompt_id": 1, "a": "x", "b": "y", "preference": 1, "judge": "j"},
        {"prompt": "1", "model_a": "x", "model_b": "y", "preference": 1.0, "labeler": "j"},
        {"question_id": "1", "model_a": "y", "model_b": "x", "winner": "model_b", "judge": "j"},
        {"id": 1, "model_1": "x", "model_2": "y", "winner": "x", "annotator": "j"},
    ],
)
def test_key_names_are_read_liberally(tmp_path, row):
    (judgment,) = read_judgments([write(tmp_path / "f.jsonl", [row])])
    assert win_rate([judgment], "x", "y").rate == 1 and judgment.judge == "j" and judgment.prompt == "1"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"a": "x", "b": "y", "preference": 1}, "no prompt"),
        ({"prompt": 1, "b": "y", "preference": 1}, "no model a"),
        ({"prompt": 1, "a": "x", "b": "y"}, "no preference"),
        ({"prompt": 1, "a": "x", "b": "y", "preference": 2}, "field 'preference' is 2"),
        ({"prompt": 1, "a": "x", "b": "y", "preference": None}, "field 'preference' is None"),
        ({"prompt": 1, "a": "x", "b": "x", "preference": 1}, "compared with itself"),
        ({"prompt": 1, "a": "x", "b": "y", "winner": "z"}, "field 'winner' is 'z'"),
    ],
)
def test_a_bad_line_is_named_with_field_and_remedy(tmp_path, row, words):
    good = {"prompt_id": 1, "a": "x", "b": "y", "preference": 1}
    path = write(tmp_path / "f.jsonl", [good, row])
    with pytest.raises(DataError, match=words) as error:
        read_judgments([path])
    assert f"{path}, line 2" in str(error.value)


def test_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no judgment"):
        winrate_of_files([write(tmp_path / "f.jsonl", [])])


def test_the_folder_of_a_run_in_place_of_its_judgments_is_told_where_they_lie(tmp_path):
    for stage in ("evaluate", "evaluate.20261127-1.old"):
        (tmp_path / stage).mkdir()
        write(tmp_path / stage / "judgments.jsonl", [])
    with pytest.raises(DataError, match="judgments.jsonl") as caught:
        read_judgments([tmp_path])
    assert str(tmp_path / "evaluate" / "judgments.jsonl") in str(caught.value) and ".old" not in str(caught.value)


def test_a_pair_that_never_met_is_an_error():
    with pytest.raises(DataError, match="'a' and 'z'"):
        win_rate([Judgment("1", "a", "b", 1.0)], "a", "z")


def test_the_report_holds_every_ordered_pair_every_judge_and_survives_json():
    judgments = [Judgment(j.prompt, j.a, j.b, j.preference, f"judge{i % 2}") for i, j in enumerate(planted(200))]
    report = winrate_report(judgments, **FAST)
    row = report.to_json()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert len(row["win_rates"]) == 12 and len(row["by_judge"]) == 24
    assert row["counts"] == {"judgments": 200, "ties": 0, "prompts": 200, "models": 4, "judges": 2}
    assert report.rates["ptx", "gpt"] == win_rate(judgments, "ptx", "gpt")
    assert "Bradley-Terry" in report.text() and "ptx" in report.text()


def test_the_table_says_that_it_pools_judges_and_shows_each():
    judgments = [Judgment(f"p{i}", "a", "b", float(judge == "ann"), judge) for i in range(20) for judge in ("ann", "gold")]
    told = winrate_report(judgments, **FAST).text()
    assert "Judges: ann, gold." in told
    rows = [line.split() for line in told.splitlines() if line.startswith(("ann", "gold"))]
    assert [row[:4] for row in rows] == [["ann", "a", "b", "1.000"], ["gold", "a", "b", "0.000"]]
    assert "Judges" not in winrate_report(judgments[::2], **FAST).text()


JUDGED = [{"prompt_id": f"p{i}", "a": "x", "b": "y", "preference": i % 2, "judge": "j"} for i in range(6)]


def test_what_two_files_hold_counts_once_and_is_said(tmp_path):
    turned = [{**r, "a": "y", "b": "x", "preference": 1 - r["preference"]} for r in JUDGED[:4]]
    one, other = write(tmp_path / "1.jsonl", [*JUDGED, JUDGED[0]]), write(tmp_path / "2.jsonl", [*turned, {**JUDGED[5], "judge": "k"}])
    for files, repeated in (([one, one], 7), ([one, other], 4), ([other, one], 4)):
        report = winrate_of_files(files, **FAST)
        assert report.counts["judgments"] == 7 + (files[0] != files[1]), "a repeat within one file stays"
        assert f"{repeated} judgments" in report.notes[0] and report.notes[0] in report.text()
        assert report.to_json()["notes"] == list(report.notes)
    assert winrate_of_files([one], **FAST).notes == ()


def test_nameless_judges_may_agree(tmp_path):
    nameless = [{k: v for k, v in r.items() if k != "judge"} for r in JUDGED]
    one, other = write(tmp_path / "1.jsonl", nameless), write(tmp_path / "2.jsonl", [*nameless[:5], {**nameless[5], "preference": 0}])
    assert len(read_judgments([one, other])) == 12 and len(read_judgments([one, one])) == 6


def test_an_evaluations_own_folder_stands_for_its_judgments(tmp_path):
    write(tmp_path / "samples.jsonl", [{"prompt_id": "p", "completion": "text"}])
    write(tmp_path / "judgments.jsonl", JUDGED)
    assert len(read_judgments([tmp_path])) == 6


@pytest.mark.parametrize("command", ["winrate", "agreement"])
@pytest.mark.parametrize("number", ["9" * 5000, "[" * 100_000, "9" * 400])
def test_a_hostile_line_is_one_sentence(tmp_path, command, number):
    path = tmp_path / "f.jsonl"
    path.write_text(f'{{"prompt_id": 1, "judge": "j", "a": "x", "b": "y", "preference": {number}, "rating": {number}}}\n')
    ended = CliRunner().invoke(app, [command, str(path)])
    assert isinstance(ended.exception, DataError) and f"{path}, line 1" in str(ended.exception)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_name_that_no_terminal_can_show_is_shown_by_its_code(tmp_path, more):
    path = write(tmp_path / "f.jsonl", [{**r, "a": "\ud800"} for r in JUDGED])
    ended = CliRunner().invoke(app, ["winrate", str(path), *more])
    assert ended.exit_code == 0 and "\\ud800" in ended.stdout


def test_rankings_become_judgments_between_models():
    completions = tuple(Completion(f"c{i}", "p", "text", model=m) for i, m in enumerate(["sft", "ppo", "ppo", ""]))
    ranking = Ranking(Prompt("p", "?"), completions, (("c1",), ("c0", "c2"), ("c3",)), labeler="ann")
    judgments = judgments_of([ranking])
    assert {(j.a, j.b, j.preference, j.judge) for j in judgments} == {
        ("ppo", "sft", 1.0, "ann"),
        ("sft", "ppo", 0.5, "ann"),
    } and len(judgments) == 2


def test_ranking_lines_logs_and_ranks_by_model_are_read(tmp_path):
    session = LabelSession(tasks(3), "ann", labels_path(tmp_path, "ann"))
    while session.current:
        session.submit(draft("c1", "c0 c2"))
    lines = write(tmp_path / "lines.jsonl", [r.to_json() for r in session.rankings])
    ranks = [{"prompt_id": f"p{i}", "labeler": "ann", "ranks": {"m1": 1, "m0": 2, "m2": 2}} for i in range(3)]
    by_model = write(tmp_path / "ranks.jsonl", ranks)
    kwise = write(tmp_path / "kwise.jsonl", kwise_rows(session.rankings))
    reports = [winrate_of_files([p], **FAST) for p in (tmp_path / "labels", lines, by_model, kwise)]
    assert reports[0] == reports[1] == reports[2] == reports[3] and reports[0].counts["judgments"] == 9
    assert reports[0].rates["m1", "m0"].rate == 1 and reports[0].rates["m0", "m2"].rate == 0.5


def test_answers_that_were_alike_stand_for_each_of_their_models():
    """A card shows them once; they tie with each other, and each is compared with the others."""
    cards = (Completion("x", "p", "yes", model="sft, ppo"), Completion("y", "p", "no", model="base"))
    found = {(j.a, j.b): j.preference for j in judgments_of([Ranking(Prompt("p", "?"), cards, (("x",), ("y",)), "ann")])}
    assert found == {("sft", "ppo"): 0.5, ("sft", "base"): 1.0, ("ppo", "base"): 1.0}


def test_a_row_that_was_rated_and_not_ranked_says_nothing_of_who_won(tmp_path):
    rated = {"prompt_id": "p0", "labeler": "ann", "completion_ids": ["x", "y"], "ranks": [None, None], "likert": [3, 5]}
    ranked = {"prompt_id": "p1", "labeler": "ann", "ranks": {"x": 1, "y": 2}}
    assert winrate_of_files([write(tmp_path / "f.jsonl", [rated, ranked])], **FAST).counts["judgments"] == 1


def test_the_command_prints_the_table_and_the_same_figures_as_json(tmp_path):
    rows = [{"prompt_id": j.prompt, "a": j.a, "b": j.b, "preference": j.preference} for j in planted(60)]
    path = write(tmp_path / "f.jsonl", rows)
    table, as_json = (CliRunner().invoke(app, ["winrate", str(path), *more]) for more in ([], ["--json"]))
    assert table.exit_code == as_json.exit_code == 0
    report = winrate_of_files([path])
    assert table.stdout.strip() == report.text() and json.loads(as_json.stdout) == report.to_json()


def test_one_win_on_eight_prompts_does_not_exclude_one_half():
    """A fair coin does so, or the other way round, in 18 of 256 cases: more often than one in twenty."""
    found = win_rate([Judgment(f"p{i}", "a", "b", float(i == 0)) for i in range(8)], "a", "b")
    assert found.low < 0.125 and found.high > 0.5
