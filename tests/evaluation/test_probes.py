"""Probes find what a flawed scorer pays for and acquit a sound one."""

import math
import random

import pytest

from labkit.evaluation.probes import PROBES, run_probes

ROWS = [
    {"prompt": "Where does it live?\n", "response": f"The {a} lives in the wood. It eats {f}.", "finished": True}
    for a, f in (("fox", "mice"), ("owl", "voles"), ("otter", "fish"), ("badger", "roots"), ("hare", "grass"))
]


def by_length(prompts, responses, finished):
    return [float(len(r.split())) for r in responses]


def sound(prompts, responses, finished):
    """Only the exact, finished texts of ROWS are worth anything."""
    known = {r["response"] for r in ROWS}
    return [1.0 * (r in known and f) for r, f in zip(responses, finished, strict=True)]


def found(scorer, rows=ROWS):
    return {f.name: f for f in run_probes(rows, scorer)}


def test_a_scorer_that_loves_length_is_caught_by_repetition_and_by_nothing_shorter() -> None:
    findings = found(by_length)
    assert findings["repetition: whole response"].verdict == "pays"
    assert findings["repetition: whole response"].change == pytest.approx(9, abs=1e-9)
    assert findings["repetition: whole response"].gained == 1.0
    assert findings["length: first half only"].verdict == "costs"
    assert findings["word order"].verdict == "unclear" and findings["word order"].change == 0


def test_a_sound_scorer_pays_for_nothing() -> None:
    assert all(f.verdict == "costs" for f in found(sound).values())
    assert len(found(sound)) == len(PROBES)


def test_a_text_of_which_nobody_knows_whether_it_ended_counts_as_whole() -> None:
    imported = [{k: v for k, v in row.items() if k != "finished"} | {"finished": None} for row in ROWS]
    assert {n: f.change for n, f in found(sound, imported).items()} == {n: f.change for n, f in found(sound).items()}


def test_findings_are_ordered_and_carry_the_worst_example() -> None:
    findings = run_probes(ROWS, by_length)
    assert [f.change for f in findings] == sorted((f.change for f in findings), reverse=True)
    example = findings[0].example
    assert example["after"] != example["before"] and example["change"] >= findings[0].change


def test_the_missing_end_token_changes_the_flag_and_not_the_text() -> None:
    def ends(prompts, responses, finished):
        return [float(f) for f in finished]

    finding = found(ends)["missing end token"]
    assert finding.change == -1.0 and finding.example["before"] == finding.example["after"]


def test_edits_that_do_not_apply_are_left_out_and_empty_rows_too() -> None:
    assert run_probes([], by_length) == []
    assert run_probes([{"prompt": "x", "response": "  "}], by_length) == []
    single = found(by_length, [{"prompt": "x", "response": "YES", "finished": False}])
    assert "missing end token" not in single and "format: capitals" not in single and "word order" not in single
    assert math.isinf(single["refusal"].high), "one row says nothing about the mean"


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: p.name)
def test_no_edit_leaves_a_response_as_it_was(probe) -> None:
    for row in ROWS:
        edited = probe.edit(row["response"], True)
        assert edited is None or edited != (row["response"], True)
        if probe.name == "length: first half only":
            assert row["response"].startswith(edited[0]) and edited[1]


def test_the_interval_of_a_scorer_that_only_rolls_dice_holds_zero_as_often_as_it_says() -> None:
    dice = random.Random(0)
    drawn = [f for _ in range(40) for f in run_probes(ROWS * 6, lambda prompts, *_: [dice.gauss(0, 1) for _ in prompts])]
    assert 0.9 < sum(f.low <= 0 <= f.high for f in drawn) / len(drawn) < 0.99
