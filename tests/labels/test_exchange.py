"""Export and import of rankings: nothing is lost on the way, foreign files are read, prompts stay whole in splits."""

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import DataError
from labkit.labels.exchange import (
    kwise_rows,
    pair_rows,
    rankings_from_rows,
    read_rankings_from,
    split_rankings,
    to_dataset,
    write_rows,
)
from labkit.types import Completion, Prompt, Ranking, Rating


def ranking(prompt: str = "p", groups=(("c1",), ("c0", "c2")), labeler: str = "ann", user: str = "", text: str = ""):
    """A ranking of four completions of one prompt; c3 is unranked unless `groups` names it."""
    completions = tuple(Completion(f"c{j}", prompt, f"Answer {j}.", model=f"m{j}") for j in range(4))
    ratings = {"c1": Rating(6, ("opinion",)), "c0": Rating(3)}
    known = {"split": "valid", "meaning": {"kind": "open_qa", "about": ["fox", 3]}}
    asked = Prompt(prompt, text or f"Question {prompt}?", use_case="open_qa", user=user, **known)
    return Ranking(asked, completions, groups, labeler, ratings, seconds=4.5, shown=("c2", "c0", "c3", "c1"))


# -- export --------------------------------------------------------------------------------------------------------

orders = st.lists(st.integers(1, 4), min_size=4, max_size=4).map(
    lambda ranks: tuple(tuple(f"c{j}" for j in range(4) if ranks[j] == r) for r in sorted(set(ranks)))
)


@settings(max_examples=40, deadline=None)
@given(groups=orders)
def test_kwise_rows_come_back_as_they_went(groups):
    given_ = ranking(groups=groups)
    (back,) = rankings_from_rows(kwise_rows([given_]))
    assert back == given_


def test_kwise_rows_stand_by_prompt_and_keep_where_each_completion_came_from():
    drawn = Completion("d", "p", "Drawn.", (3, 5), True, "sft", {"temperature": 0.7, "weights": "ab12"}, 2**62 + 1)
    written = Completion("w", "p", "Written.", model="labeler")
    first = Ranking(Prompt("p", "Question?\n", source="import"), (drawn, written), (("d",), ("w",)), labeler="ann")
    rows = kwise_rows([first, ranking("q"), replace(first, labeler="bob")])
    assert [(r["prompt_id"], r["labeler"]) for r in rows] == [("p", "ann"), ("p", "bob"), ("q", "ann")]
    assert rows[0]["token_ids"] == [[3, 5], None] and rows[0]["seeds"] == [2**62 + 1, None]
    assert rankings_from_rows(to_dataset(rows))[0] == first == rankings_from_rows(rows)[0]


@settings(max_examples=40, deadline=None)
@given(groups=orders)
def test_pairs_come_back_as_the_same_comparisons(groups):
    given_ = ranking(groups=groups)
    rows = pair_rows([given_])
    texts = {c.id: c.text for c in given_.completions}
    assert [(r["chosen"], r["rejected"]) for r in rows] == [(texts[a], texts[b]) for a, b in given_.pairs()]
    if rows:
        back = rankings_from_rows(rows)
        assert pair_rows(back, margin=None) == pair_rows([given_], margin=None)
        assert {r.prompt.id for r in back} == {"p"}


def test_ties_and_unranked_ones_give_no_pair_and_margins_are_as_defined():
    rows = pair_rows([ranking(groups=(("c1",), ("c0", "c2"), ("c3",)))])
    assert [(r["chosen"][7], r["rejected"][7], r["margin"]) for r in rows] == [
        ("1", "0", 1.0), ("1", "2", 1.0), ("1", "3", 2.0), ("0", "3", 1.0), ("2", "3", 1.0),
    ]  # fmt: skip
    likert = pair_rows([ranking()], margin="likert")
    assert [r["margin"] for r in likert] == [3.0, 0.0] and "margin" not in pair_rows([ranking()], margin=None)[0]
    with pytest.raises(DataError, match="no margin 'gap'"):
        pair_rows([ranking()], margin="gap")


def test_rows_are_a_dataset_and_a_file(tmp_path):
    rankings = [ranking("p"), ranking("q", (("c0",), ("c1",)))]
    for rows in (kwise_rows(rankings), pair_rows(rankings)):
        dataset = to_dataset(rows)
        assert dataset.to_list() == rows
        write_rows(tmp_path / "rows.jsonl", rows)
        assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == rows
        dataset.save_to_disk(tmp_path / "saved")
        assert rankings_from_rows(dataset, name="saved") == read_rankings_from(tmp_path / "saved")
    assert {"prompt", "chosen", "rejected", "margin"} <= set(dataset.column_names)
    with pytest.raises(DataError, match="no rows"):
        to_dataset([])


# -- splits --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    keys=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 15), st.integers(0, 6)), min_size=3, max_size=40),
    seed=st.integers(0, 99),
)
def test_no_split_cuts_a_prompt_its_text_or_a_user_apart(keys, seed):
    rankings = [ranking(f"p{p}", user=f"u{u}" if u else "", text=f"t{t}") for p, t, u in keys]
    try:
        parts = split_rankings(rankings, {"train": 0.7, "valid": 0.3, "test": 0.0}, seed=seed)
    except DataError as error:
        assert "too few" in str(error)
        return
    assert sorted(map(id, rankings)) == sorted(id(r) for part in parts.values() for r in part)
    assert parts["train"] and parts["valid"] and not parts["test"]
    for what in ("id", "text", "user"):
        seen = [{getattr(r.prompt, what) for r in part} - {""} for part in parts.values()]
        assert not seen[0] & seen[1]
    assert parts == split_rankings(rankings, {"train": 0.7, "valid": 0.3, "test": 0.0}, seed=seed)


def test_shares_are_kept_about_and_seeds_differ():
    rankings = [ranking(f"p{i}", labeler=labeler) for i in range(100) for labeler in ("ann", "bob")]
    parts = split_rankings(rankings, {"train": 0.8, "valid": 0.1, "test": 0.1}, seed=1)
    assert [len(parts[k]) for k in ("train", "valid", "test")] == [160, 20, 20]
    assert parts != split_rankings(rankings, {"train": 0.8, "valid": 0.1, "test": 0.1}, seed=2)


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_shares_that_do_not_add_up_are_refused(shares):
    with pytest.raises(DataError, match="1 in all"):
        split_rankings([ranking()], shares)


# -- import --------------------------------------------------------------------------------------------------------

HUMAN, BOT = "\n\nHuman:", "\n\nAssistant:"


def chosen_first(rows, **options) -> list[tuple[str, str, str]]:
    """(prompt, best, worst) texts of imported pairs."""
    found = []
    for r in rankings_from_rows(rows, **options):
        texts = {c.id: c.text for c in r.completions}
        ((best, worst),) = r.pairs()
        found.append((r.prompt.text, texts[best], texts[worst]))
    return found


def test_hh_dialogues_split_at_the_last_shared_turn():
    opening = f"{HUMAN} hi{BOT} hello{HUMAN} a joke{BOT}"
    row = {"chosen": f"{opening} Knock knock.", "rejected": f"{opening} Know none."}
    assert chosen_first([row]) == [(opening, " Knock knock.", " Know none.")]


def test_trl_rows_as_text_and_as_messages():
    user, good, bad = (
        {"role": r, "content": c} for r, c in (("user", "hi"), ("assistant", "yes"), ("assistant", "no"))
    )
    text = {"prompt": "hi", "chosen": "yes", "rejected": "no", "margin": 2.0}
    explicit = {"prompt": [user], "chosen": [good], "rejected": [bad]}
    implicit = {"chosen": [user, good], "rejected": [user, bad]}
    beside = {"prompt": "hi", **implicit}  # as in UltraFeedback: the prompt is told twice
    assert chosen_first([text]) == [("hi", "yes", "no")]
    dialogue = [(f"{HUMAN} hi{BOT}", " yes", " no")]
    assert chosen_first([explicit]) == chosen_first([implicit]) == chosen_first([beside]) == dialogue


def test_scored_completions_higher_is_better():
    row = {
        "instruction": "Say hi.",
        "completions": [
            {"response": "ho", "overall_score": 3.0, "model": "a"},
            {"response": "hi", "overall_score": 9.0, "model": "b"},
            {"response": "he", "overall_score": 3.0, "model": "c"},
        ],
    }
    (found,) = rankings_from_rows([row])
    assert [{c.model for c in found.completions if c.id in group} for group in found.groups] == [{"b"}, {"a", "c"}]
    plain = {"prompt": "Say hi.", "responses": ["ho", "hi"], "scores": [0, 1]}
    assert chosen_first([plain]) == [("Say hi.", "hi", "ho")]


ARGILLA_FIELDS = {"prompt": "Say hi.", "response-1": "ho", "response-2": "hi", "response-3": "he"}
TIED = [{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}, {"value": "response-3", "rank": 2}]
ORDER = ["response-2", "response-1", "response-3"]


@pytest.mark.parametrize(
    ("row", "groups"),
    [
        (
            {
                "id": "7",
                "fields": ARGILLA_FIELDS,
                "responses": [
                    {
                        "user_id": "ann",
                        "status": "submitted",
                        "values": {"q": {"value": TIED}, "why": {"value": "..."}},
                    },
                    {"user_id": "bob", "status": "discarded", "values": {"q": {"value": TIED}}},
                ],
            },
            [{"hi"}, {"ho", "he"}],
        ),
        (
            {
                **ARGILLA_FIELDS,
                "external_id": "7",
                "q": [
                    {"user_id": "ann", "status": "submitted", "value": {"value": ORDER, "rank": [1, 2, 2]}},
                    {"user_id": "bob", "status": "draft", "value": {"value": ORDER, "rank": [1, 2, 3]}},
                ],
            },
            [{"hi"}, {"ho", "he"}],
        ),
        (
            {
                "id": "7",
                "fields": ARGILLA_FIELDS,
                "metadata": {"category": "chat"},
                "suggestions": {},
                "responses": {"q": [{"value": ORDER, "user_id": "ann"}], "why": [{"value": "...", "user_id": "ann"}]},
                "vectors": {},
            },
            [{"hi"}, {"ho"}, {"he"}],
        ),
        (
            {
                "id": "7",
                **ARGILLA_FIELDS,
                "q.responses": [ORDER, ORDER],
                "q.responses.users": ["ann", "bob"],
                "q.responses.status": ["submitted", "discarded"],
                "why.responses": ["..."],
            },
            [{"hi"}, {"ho"}, {"he"}],
        ),
    ],
    ids=["v1 record", "v1 data set", "v2 record", "v2 data set"],
)
def test_argilla_rankings(row, groups):
    (found,) = rankings_from_rows([row])
    texts = {c.id: c.text for c in found.completions}
    assert [{texts[i] for i in group} for group in found.groups] == groups
    assert (found.labeler, found.prompt.text, found.prompt.id) == ("ann", "Say hi.", "7")


def label_studio(value, data, **annotation):
    result = [{"type": "x", "from_name": "rank", "to_name": "t", "value": value}]
    return {
        "id": 7,
        "data": data,
        "annotations": [{"completed_by": 5, "lead_time": 12.5, "result": result, **annotation}],
    }


ITEMS = [{"id": "a", "title": "A", "body": "ho"}, {"id": "b", "title": "B", "body": "hi"}, {"id": "c", "body": "he"}]


def test_label_studio_rankers_with_and_without_buckets():
    data = {"prompt": "Say hi.", "items": ITEMS}
    (found,) = rankings_from_rows([label_studio({"ranker": {"rank": ["b", "c", "a"]}}, data)])
    texts = {c.id: c.text for c in found.completions}
    assert [[texts[i] for i in g] for g in found.groups] == [["hi"], ["he"], ["ho"]]
    assert (found.labeler, found.seconds, found.prompt.id) == ("5", 12.5, "7")
    bucketed = label_studio({"ranker": {"_": ["c"], "bad": ["a"], "good": ["b"]}}, data)
    (found,) = rankings_from_rows([bucketed], buckets=("good", "bad"))
    assert [[texts[i] for i in g] for g in found.groups] == [["hi"], ["ho"]] and len(found.completions) == 3
    with pytest.raises(DataError, match="buckets bad, good; say their order"):
        rankings_from_rows([bucketed])
    with pytest.raises(DataError, match="names item 'z'"):
        rankings_from_rows([label_studio({"ranker": {"rank": ["z", "a"]}}, data)])


@pytest.mark.parametrize(("side", "best"), [("left", "ho"), ("right", "hi")])
def test_label_studio_pairs(side, best):
    task = label_studio({"selected": side}, {"prompt": "Say hi.", "answer1": "ho", "answer2": "hi"})
    assert chosen_first([task])[0][:2] == ("Say hi.", best)
    odd = label_studio({"selected": side}, {"asked": "Say hi.", "foo": "ho", "bar": "hi"})
    with pytest.raises(DataError, match="which two of asked, foo, bar"):
        rankings_from_rows([odd])
    named = {"prompt_field": "asked", "completion_fields": ("foo", "bar")}
    assert chosen_first([odd], **named)[0][:2] == ("Say hi.", best)


def test_cancelled_annotations_count_for_nothing(tmp_path):
    task = label_studio({"selected": "left"}, {"prompt": "?", "answer1": "a", "answer2": "b"}, was_cancelled=True)
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task]))
    with pytest.raises(DataError, match="no row holds a finished ranking"):
        read_rankings_from(path)


def test_the_same_completion_of_two_labelers_has_one_id():
    rows = [{"prompt": "p", "chosen": "x", "rejected": "y", "labeler": w} for w in ("ann", "bob")]
    one, other = rankings_from_rows(rows)
    assert one.ranks == other.ranks and one.prompt.id == other.prompt.id and other.labeler == "bob"


def test_splits_go_by_the_names_that_people_use():
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}
    found = [rankings_from_rows([{**row, "split": name}])[0].prompt.split for name in ("validation", "dev", "test", "all")]
    assert found == ["valid", "valid", "test", ""]


def test_pairs_keep_split_and_user():
    asked = ranking(user="u7")
    (row, *_), (back, *_) = (rows := pair_rows([asked])), rankings_from_rows(rows)
    assert (row["split"], row["user"]) == ("valid", "u7") == (back.prompt.split, back.prompt.user)


def test_an_answer_with_several_labels_is_no_ranking():
    row = {"prompt": "p", "a": "x", "b": "y", "rank.responses": [["b", "a"]], "topics.responses": [["math", "code"]]}
    (found,) = rankings_from_rows([row])
    assert [found.completions[[c.id for c in found.completions].index(g[0])].text for g in found.groups] == ["y", "x"]


def test_a_person_who_ranked_a_pair_again_is_asked_not_the_pair():
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "ranking.responses": [["rejected", "chosen"]]}
    (found,) = rankings_from_rows([row])
    texts = {c.id: c.text for c in found.completions}
    assert [texts[i] for group in found.groups for i in group] == ["b", "a"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"foo": 1}, "Row 2 has the fields foo"),
        ({"prompt": "p", "completions": ["a"], "ranks": [1]}, "Row 2: .* K >= 2"),
        ({"prompt": "p", "completions": ["a", "b"], "ranks": [1]}, "2 completions and 1 ranks"),
        ({"completions": ["a", "b"], "ranks": [1, 2]}, "Row 2 has no prompt"),
        ({"prompt": "p", "completions": ["a", 3], "ranks": [1, 2]}, "must be text"),
        ({"prompt": "p", "completions": ["a", "b"], "scores": [1, None]}, "needs a number"),
        ({"prompt": "p", "completions": ["a", "b", "c"], "scores": [1, float("nan"), 2]}, "rank or score nan"),
        ({"prompt": "p", "completions": ["a", "b", "c"], "ranks": ["10", "9", "2"]}, "rank or score '10'"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "field 'prompt' is 3"),
        ({"chosen": "a", "rejected": "b"}, "share no 'Assistant:' turn"),
        ({"prompt": {"id": "p"}, "completions": [], "groups": []}, "Row 2: This Prompt is not complete"),
    ],
)
def test_unreadable_rows_are_named(row, words):
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match=words):
        rankings_from_rows([good, row])


def test_empty_and_missing_sources_are_errors(tmp_path):
    with pytest.raises(DataError, match="not a single row"):
        rankings_from_rows([])
    with pytest.raises(DataError, match="cannot be read"):
        read_rankings_from(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="no format 'csv'"):
        rankings_from_rows([{}], format="csv")


@pytest.mark.real
def test_every_hh_row_is_read_and_no_character_is_lost(real_data):
    path = real_data / "hh_rlhf_harmless/harmless-base_test.jsonl.gz"
    rankings = read_rankings_from(path)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rankings) == len(rows) == 2312
    for found, row in zip(rankings, rows, strict=True):
        texts = {c.id: c.text for c in found.completions}
        ((best, worst),) = found.pairs()
        assert found.prompt.text + texts[best] == row["chosen"] and found.prompt.text + texts[worst] == row["rejected"]
        assert found.prompt.text.endswith(BOT) and HUMAN not in texts[best] and HUMAN not in texts[worst]
    parts = split_rankings(rankings, {"train": 0.9, "valid": 0.1})
    assert not {r.prompt.text for r in parts["train"]} & {r.prompt.text for r in parts["valid"]}
    assert len(parts["valid"]) == pytest.approx(231, abs=3)
