"""The margin that a TRL pair came with: kept through every form, and told apart from what the lab would say itself."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from labkit.cli import app
from labkit.disk import read_jsonl
from labkit.errors import DataError
from labkit.labels.exchange import kwise_rows, pair_rows, rankings_from_rows, read_rankings_from, to_dataset, write_rows
from labkit.types import Completion, Prompt, Ranking

PAIR = {"prompt": "Say hi.", "chosen": "hi", "rejected": "ho"}
HH = {"chosen": "\n\nHuman: hi\n\nAssistant: yes", "rejected": "\n\nHuman: hi\n\nAssistant: no"}


@pytest.mark.parametrize("row", [PAIR, HH], ids=["trl", "hh"])
@given(margin=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9))
def test_a_margin_comes_back_from_every_form(row, margin):
    (first,) = rankings_from_rows([{**row, "margin": margin}])
    assert pair_rows([first])[0]["margin"] == margin == first.margin
    for again in (pair_rows([first]), kwise_rows([first]), [first.to_json()], json.loads(json.dumps(kwise_rows([first])))):
        assert rankings_from_rows(again)[0].margin == margin and pair_rows(rankings_from_rows(again)) == pair_rows([first])


def test_pairs_with_and_without_a_margin_stand_in_one_file(tmp_path):
    rows = [{**PAIR, "margin": 2.5}, {**PAIR, "prompt": "Say ho."}, {**PAIR, "prompt": "Say he.", "margin": None}]
    found = rankings_from_rows(rows)
    assert [r.margin for r in found] == [2.5, None, None]
    assert [r["margin"] for r in pair_rows(found)] == [2.5, 1.0, 1.0], "the places between, where it came with none"
    assert rankings_from_rows(to_dataset(kwise_rows(found)))[0].margin == 2.5
    assert "margin" not in found[1].to_json(), "lines of rankings without one are what they were"


@pytest.mark.parametrize(("asked", "told"), [("own", 2.5), ("rank", 1.0), ("likert", 0.0), (None, 2.5), ("none", None)])
def test_the_command_keeps_it_unless_another_is_asked_for(tmp_path, asked, told):
    write_rows(tmp_path / "in.jsonl", [{**PAIR, "margin": 2.5}])
    how = ["--margin", asked] if asked else []
    ended = CliRunner().invoke(app, ["labels", "export", str(tmp_path / "in.jsonl"), "--to", "trl", "--out", str(tmp_path / "out.jsonl"), *how])
    assert ended.exit_code == 0, ended.output
    (row,) = read_jsonl(tmp_path / "out.jsonl")
    assert row.get("margin") == told
    assert read_rankings_from(tmp_path / "out.jsonl")[0].margin == told


@pytest.mark.parametrize("margin", ["2", True, float("nan"), float("inf"), [1]])
def test_a_margin_that_is_no_number_is_named(margin):
    with pytest.raises(DataError, match="Row 1: .*margin is .*finite number"):
        rankings_from_rows([{**PAIR, "margin": margin}])


def test_more_than_two_completions_have_no_margin_of_one_pair():
    drawn = tuple(Completion(f"c{n}", "p", f"{n}") for n in range(3))
    with pytest.raises(DataError, match="margin belongs to one pair"):
        Ranking(Prompt("p", "?"), drawn, (("c0",), ("c1",)), margin=1.0)
