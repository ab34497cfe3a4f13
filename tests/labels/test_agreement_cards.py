"""Agreement where a labeler ranked a prompt more than once, and on the lab's own export."""

import json

import pytest

from labkit.labels.agreement import Records, agreement, agreement_of_files, agreement_of_records
from labkit.labels.exchange import kwise_rows
from labkit.labels.session import LabelSession
from labkit.types import Completion, Prompt, Ranking, Rating
from tests.labels.helpers import draft, tasks

FAST = {"replicates": 200}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_pairs_of_one_prompt_by_one_labeler_all_count():
    """K = 2 files hold a ranking of three as three lines; what is drawn by prompt stays the prompt."""
    whole, pairs, last = Records(), Records(), {"a": 3, "b": 2, "c": 1}
    for prompt in map(str, range(30)):
        for labeler, ranks in (("ann", {"a": 1, "b": 2, "c": 3}), ("bob", last if prompt < "15" else {"a": 1, "b": 3, "c": 2})):
            whole.add_ranks(prompt, labeler, ranks)
            for i, j in (("a", "b"), ("b", "c"), ("a", "c")):
                pairs.add_ranks(prompt, labeler, {i: ranks[i], j: ranks[j]})
    one, other = (agreement_of_records(r, **FAST) for r in (whole, pairs))
    for name in ("agreement_strict", "agreement_all", "agreement_half", "kendall_tau_b", "fleiss_kappa"):
        assert one.rankings.figures[name] == other.rankings.figures[name], name
    assert other.rankings.counts["rankings"] == 180 and other.rankings.counts["prompts"] == 30 and not other.notes


def test_a_rank_is_compared_within_its_card_only():
    """Second of two and second of four are not one rank; alpha of an old and a new card is that of two prompts."""
    cards = {"old": {"a": 1, "b": 2}, "new": {"a": 2, "c": 1, "d": 3, "e": 4}}
    apart, together = Records(), Records()
    for number in range(20):
        for labeler, flip in (("ann", False), ("bob", number % 3 == 0)):
            for name, ranks in cards.items():
                ranks = {i: 5 - r for i, r in ranks.items()} if flip else ranks
                apart.add_ranks(f"{number} {name}", labeler, ranks)
                together.add_ranks(f"{number}", labeler, ranks)
    one, two = (agreement_of_records(r, **FAST).rankings.figures for r in (apart, together))
    for name in ("alpha_nominal", "alpha_ordinal", "alpha_interval", "alpha_ordinal_places", "agreement_all"):
        assert one[name].value == pytest.approx(two[name].value), name


def test_an_answer_drawn_anew_under_an_old_id_is_another_answer():
    def card(labeler, texts, order):
        completions = tuple(Completion(i, "p", text) for i, text in zip("ab", texts, strict=True))
        return Ranking(Prompt("p", "?"), completions, tuple((i,) for i in order), labeler)

    old, new = ("one", "two"), ("three", "two")
    report = agreement([card("ann", old, "ab"), card("ann", new, "ba"), card("bob", new, "ba")], **FAST)
    assert report.rankings.counts["rankings"] == 3 and not report.notes
    assert report.rankings.counts["pairs"] == 1 and report.rankings.figures["agreement_strict"].value == 1


def test_the_labs_own_kwise_rows_give_the_figures_of_their_rankings(tmp_path):
    rankings = []
    for labeler, orders in (("ann", ("c1", "c0 c2")), ("bob", ("c2", "c1"))):  # a tie, and one left unranked
        session = LabelSession(tasks(4), labeler, None)
        while session.current:
            session.submit(draft(*orders, ratings={"c1": Rating(len(orders[1]), ("opinion",))}))
        rankings += session.rankings
    rows = kwise_rows(rankings)
    found = agreement_of_files([write(tmp_path / "k.jsonl", rows)], **FAST)
    assert found.to_json() == agreement(rankings, **FAST).to_json() and found.ratings is not None
    plain = [{k: row[k] for k in ("prompt_id", "labeler", "completions", "ranks")} for row in rows]
    assert agreement_of_files([write(tmp_path / "p.jsonl", plain)], **FAST).rankings == found.rankings
