"""Exports of Label Studio and Argilla that look alike and mean different things: an order, a bucket, an answer with several labels."""

import json

import pytest

from labkit.errors import DataError
from labkit.labels.exchange import rankings_from_rows

ITEMS = [{"id": "a", "body": "ho"}, {"id": "b", "body": "hi"}, {"id": "c", "body": "he"}]


def task(ranker, from_name: str | None = "rank"):
    """A Label Studio task as its JSON export has it; from_name: what the labeling interface calls the Ranker."""
    named = {} if from_name is None else {"from_name": from_name}
    result = [{"type": "ranker", "to_name": "results", "value": {"ranker": ranker}, **named}]
    return {"id": 7, "data": {"prompt": "Say hi.", "items": ITEMS}, "annotations": [{"completed_by": 5, "result": result}]}


def groups_of(row, **options) -> list[list[str]]:
    (found,) = rankings_from_rows([row], **options)
    texts = {c.id: c.text for c in found.completions}
    assert len(texts) == 3 or "ranking_question" in options, "what is unranked stands on the card all the same"
    return [sorted(texts[i] for i in group) for group in found.groups]


def test_the_list_of_a_ranker_without_buckets_goes_by_its_own_name():
    assert groups_of(task({"rank": ["b", "c", "a"]})) == [["hi"], ["he"], ["ho"]]
    assert groups_of(task(["b", "c", "a"])) == [["hi"], ["he"], ["ho"]], "as early versions wrote it"


@pytest.mark.parametrize("ranker", [{"good": ["b", "a"]}, {"_": ["c"], "good": ["b", "a"]}, {"rank": ["b", "a"], "_": ["c"]}])
def test_a_single_bucket_is_no_order_before_somebody_says_what_it_is(ranker):
    with pytest.raises(DataError, match=r"Row 1: the ranker has the bucket (good|rank); .*buckets=\(best, ...\).*one name"):
        rankings_from_rows([task(ranker)])


def test_the_same_items_in_a_bucket_mean_what_the_buckets_are_said_to_be():
    one = task({"_": ["c"], "good": ["b", "a"]})
    assert groups_of(one, buckets=("good", "bad")) == [["hi", "ho"]], "one of several buckets is a tie"
    assert groups_of(one, buckets=("good",)) == [["hi"], ["ho"]], "the only bucket is an order"
    assert groups_of(task({"good": ["b"], "bad": [], "_": ["a", "c"]}), buckets=("good", "bad")) == [["hi"]]
    assert groups_of(task({"good": ["b"], "bad": ["a", "c"]}), buckets=("good", "bad")) == [["hi"], ["he", "ho"]]


def test_a_task_in_which_nothing_was_moved_is_no_ranking():
    with pytest.raises(DataError, match="no row holds a finished ranking"):
        rankings_from_rows([task({"_": ["a", "b", "c"]})], buckets=("good",))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (task({"rank": ["b", "a"]}, from_name=None), "the bucket rank"),
        (task({"good": ["b"], "bad": ["a", "b"]}), "item 'b' in two places"),
        (task({"good": "b", "bad": ["a"]}), "'good' holds 'b'"),
        (task("b"), "the ranker is 'b'"),
        (task({"good": ["b"], "awful": ["a"]}), "the buckets good, awful; "),
    ],
)
def test_rankers_of_another_form_are_refused_with_what_to_do(row, words):
    with pytest.raises(DataError, match=f"Row 1: .*{words}"):
        rankings_from_rows([row], buckets=() if "bucket rank" in words else ("good", "bad"))


FIELDS = {"prompt": "Say hi.", "response-1": "ho", "response-2": "hi", "response-3": "he"}
ORDER = ["response-2", "response-1", "response-3"]


def version2(**answers):
    """A record of Argilla 2, one answer to each question."""
    return {"id": "7", "fields": FIELDS, "responses": {q: [{"value": v, "user_id": "ann"}] for q, v in answers.items()}}


def flat(**answers):
    """The same in a data set pushed to the hub."""
    return {"id": "7", **FIELDS, **{f"{q}.responses": [v] for q, v in answers.items()}}


def version1(**answers):
    values = {q: {"value": v} for q, v in answers.items()}
    return {"id": "7", "fields": FIELDS, "responses": [{"user_id": "ann", "status": "submitted", "values": values}]}


def version1_flat(**answers):
    return {**FIELDS, **{q: [{"user_id": "ann", "status": "submitted", "value": v}] for q, v in answers.items()}}


RANKS = [{"value": f"response-{n}", "rank": rank} for n, rank in ((1, 2), (2, 1), (3, 3))]
BEST_FIRST = [["hi"], ["ho"], ["he"]]


@pytest.mark.parametrize("record", [version2, flat])
def test_an_answer_with_several_labels_beside_the_ranking_is_left_out(record):
    assert groups_of(record(order=ORDER, acceptable=["response-1", "response-3"])) == BEST_FIRST
    assert groups_of(record(acceptable=["response-1", "response-2"], order=ORDER)) == BEST_FIRST


@pytest.mark.parametrize("record", [version1, version1_flat])
def test_version_1_gives_every_ranked_option_its_rank_so_a_bare_list_is_labels(record):
    ranked = RANKS if record is version1 else {"value": [r["value"] for r in RANKS], "rank": [r["rank"] for r in RANKS]}
    assert groups_of(record(order=ranked, acceptable=ORDER)) == BEST_FIRST
    with pytest.raises(DataError, match="Row 1 has the fields|no row holds"):
        rankings_from_rows([record(acceptable=ORDER)])


@pytest.mark.parametrize("record", [version2, flat])
def test_where_nothing_tells_labels_from_an_order_one_is_asked(record):
    both = record(order=ORDER, acceptable=sorted(ORDER))
    with pytest.raises(DataError, match=r"Row 1: .*order and acceptable.*ranking_question="):
        rankings_from_rows([both])
    assert groups_of(both, ranking_question="order") == BEST_FIRST
    alone = record(acceptable=["response-1", "response-2"])
    with pytest.raises(DataError, match=r"Row 1: .*acceptable.*not response-3.*several labels.*ranking_question="):
        rankings_from_rows([alone])
    assert groups_of(alone, ranking_question="acceptable") == [["ho"], ["hi"]], "somebody said that it is an order"
    with pytest.raises(DataError, match="answers the question 'odrer'"):
        rankings_from_rows([both], ranking_question="odrer")


def test_the_question_may_stand_in_the_options_of_a_folder_of_data(tmp_path):
    from labkit.data.sources import read_options
    from labkit.experiment.sources import FolderSource

    file = tmp_path / "comparisons.jsonl"
    file.write_text(json.dumps(version2(order=ORDER, acceptable=sorted(ORDER))) + "\n")
    with pytest.raises(DataError, match=r'comparisons.options.json, as {"ranking_question"'):
        FolderSource(tmp_path).rankings()
    (tmp_path / "comparisons.options.json").write_text('{"ranking_question": "order"}')
    assert read_options(tmp_path / "comparisons.options.json") == {"ranking_question": "order"}
    assert len(FolderSource(tmp_path).rankings()) == 1
