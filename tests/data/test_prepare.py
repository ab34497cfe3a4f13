"""Preparation: near-duplicates, the cap, splits by user and personal data, by hand-made cases and on the world."""

import pytest

from labkit.data.personal import find_personal_data, has_personal_data
from labkit.data.prepare import (
    PrepareSettings,
    cap_users,
    deduplicate,
    drop_long,
    prepare,
    use_case_table,
)
from labkit.data.splits import split_by_user, split_prompts
from labkit.errors import DataError, SettingsError
from labkit.types import Prompt
from labkit.world.facts import build_world
from labkit.world.prompts import sample_prompts


def prompts_of(*texts: str, user: str = "u") -> list[Prompt]:
    return [Prompt(f"p{i}", text, user=user) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def prepared():
    given = sample_prompts(build_world(0), 4000, seed=1)
    return given, *prepare(given)


def kept_texts(*texts: str, **settings) -> list[str]:
    return [p.text for p in deduplicate(prompts_of(*texts), **settings)[0]]


def test_a_tail_makes_a_near_duplicate_and_another_word_does_not():
    base = "Write a story about the fox and the old owl."
    assert kept_texts(base, base, base + " Thank you.") == [base]
    assert len(kept_texts(base, base.replace("fox", "cow"), base.replace("owl", "king"))) == 3


def test_a_long_common_prefix_makes_a_near_duplicate():
    head = " ".join(f"w{i}" for i in range(20))
    assert kept_texts(f"{head} one two three", f"{head} four five six seven") == [f"{head} one two three"]
    assert len(kept_texts(f"{head} one", f"x {head} one")) == 2


def test_the_earliest_of_a_group_stays():
    assert kept_texts("Tell me now about the fox. Please.", "Tell me now about the fox.") == [
        "Tell me now about the fox. Please."
    ]


def test_deduplication_is_complete_and_stable():
    given = sample_prompts(build_world(0), 600, seed=8)
    kept, dropped = deduplicate(given)
    assert len(kept) + len(dropped) == len(given)
    assert deduplicate(kept)[1] == []


def test_the_cap_keeps_at_most_so_many_of_a_user_and_all_without_user():
    given = [Prompt(f"p{i}", str(i), user="big" if i % 2 else "") for i in range(100)]
    kept = cap_users(given, 7)
    assert sum(p.user == "big" for p in kept) == 7 and sum(p.user == "" for p in kept) == 50
    assert [p.id for p in kept] == sorted((p.id for p in kept), key=lambda i: int(i[1:]))
    assert kept != cap_users(given, 7, seed=1), "which of them stay is drawn"


def test_splits_share_no_user_and_do_not_move_when_prompts_arrive():
    given = [Prompt(f"p{i}", str(i), user=f"u{i % 40}") for i in range(200)]
    split = split_by_user(given)
    users = {}
    for p in split:
        users.setdefault(p.user, set()).add(p.split)
    assert all(len(s) == 1 for s in users.values()) and set().union(*users.values()) == {"train", "valid", "test"}
    assert split_by_user(given[:100]) == split[:100]


def test_a_user_in_two_splits_is_an_error():
    with pytest.raises(DataError, match="'u'.*'train'.*'test'"):
        split_by_user([Prompt("a", "x", user="u", split="train"), Prompt("b", "y", user="u", split="test")])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to anna.brook@mail.example now.", "email"),
        ("Call me at 555-0143.", "phone"),
        ("Phone: +1 202 555 0143", "phone"),
        ("My phone is 202 555 0196. Who are you?", "phone"),
        ("I live at 12 Mill Road, Selby.", "address"),
        ("Address: 5 Rose street", "address"),
        ("My name is Clara Holloway.", "name"),
    ],
)
def test_personal_data_is_found_with_its_kind_and_place(text, kind):
    found = find_personal_data(text)
    assert kind in {f.kind for f in found}
    assert all(text[f.start : f.end] == f.text for f in found)


@pytest.mark.parametrize(
    "text",
    [
        "What does the fox eat?",
        "Name 12 towns.",
        "In 1914 to 1918",
        "I am a teacher.",
        "Is Mill Road long?",
        "3-4 cups",
        "Who was Francisco Goya (1746-1818)?",
        "What happened in the war of 1939-1945?",
        "From 2024 2025 is one step.",
        "A town of 100 000 people",
        "between 100-300 metres",
    ],
)
def test_ordinary_text_is_not_personal(text):
    assert not has_personal_data(text)


def test_what_was_planted_is_found(prepared):
    _, _, report = prepared
    duplicates, personal = report.measured["deduplication"], report.measured["personal data"]
    assert duplicates.planted > 100 and duplicates.recall > 0.93 and duplicates.precision > 0.9
    assert personal.planted > 40 and 0.8 < personal.recall < 1 and personal.precision > 0.93


def test_prepared_prompts_keep_the_paper_s_rules(prepared):
    given, kept, report = prepared
    sizes, splits = {}, {}
    for p in kept:
        sizes[p.user] = sizes.get(p.user, 0) + 1
        splits.setdefault(p.user, set()).add(p.split)
    assert max(sizes.values()) <= 200 and all(len(s) == 1 for s in splits.values())
    assert not any(has_personal_data(p.text) for p in kept if p.split == "train")
    assert list(report.counts.values()) == sorted(report.counts.values(), reverse=True)
    assert sum(report.splits.values()) == len(kept) == report.counts["without PII"]
    assert "recall" in str(report) and len(given) == report.counts["given"]


def test_personal_data_is_filtered_from_the_training_split_only():
    given = [Prompt(f"{split}{i}", f"{split} {i}: write to {split}{i}@example.org", split=split) for split in ("train", "valid", "test") for i in range(2)]
    given.append(Prompt("clean", "Where does the owl live?", split="train"))
    assert [p.id for p in prepare(given)[0]] == ["valid0", "valid1", "test0", "test1", "clean"]


def test_use_case_table_counts_and_compares_with_the_paper(prepared):
    rows = use_case_table(prepared[1])
    assert sum(row["count"] for row in rows) == len(prepared[1])
    assert rows[0]["title"] == "Generation" and rows[0]["paper"] == 45.6
    assert use_case_table([Prompt("a", "x", use_case="riddle")])[-1] == {
        "use_case": "riddle",
        "title": "riddle",
        "count": 1,
        "percent": 100.0,
        "paper": None,
    }


def test_no_prompts_and_bad_settings_are_errors():
    with pytest.raises(DataError, match="no prompts"):
        prepare([])
    with pytest.raises(SettingsError, match="per_user"):
        PrepareSettings(per_user=0)


def test_prompts_over_the_models_length_are_dropped_and_counted():
    given = [
        Prompt(f"p{i}", f"start{i}" + " word" * i, user=f"u{i}", split="train" if i < 40 else "test") for i in range(60)
    ]
    prepared, report = prepare(given)
    kept, shorter = drop_long(prepared, report, 30, lambda text: len(text.split()))
    assert kept == [p for p in prepared if len(p.text.split()) <= 30] and 0 < len(kept) < len(prepared)
    assert shorter.counts == {**report.counts, "short enough": len(kept)}
    assert shorter.splits == {"train": len(kept)} == shorter.users and "short enough" in str(shorter)
    with pytest.raises(DataError, match=r"All .* longer than 0 tokens \(prompt 'p\d+' has \d+\).*longer context"):
        drop_long(prepared, report, 0, lambda text: len(text.split()))


@pytest.mark.parametrize(("one", "other"), [("2 + 2 = ?", "2 - 2 = ?"), ("What is x << 1?", "What is x >> 1?"), ("कि", "की")])
def test_signs_and_vowel_marks_tell_prompts_apart(one, other):
    assert len(deduplicate([Prompt("a", one), Prompt("b", other)])[0]) == 2


def test_empty_prompts_are_left_out_and_counted():
    rows = [Prompt("a", "What is it?\n"), Prompt("b", ""), Prompt("c", " \n")]
    kept, report = prepare(rows, PrepareSettings(valid_share=0.0, test_share=0.0))
    assert [p.id for p in kept] == ["a"] and (report.counts["given"], report.counts["with a text"]) == (3, 1)
    with pytest.raises(DataError, match="empty ones"):
        prepare(rows[1:])


@pytest.mark.parametrize("users", [1, 2, 3, 4, 6])
def test_too_few_users_are_split_by_prompt_and_it_is_said(users):
    kept, report = prepare([Prompt(f"p{i}", f"Say number {i} .", user=f"annotator{i % users}") for i in range(150)])
    assert 7 <= report.splits["test"] <= 30 and 7 <= report.splits["valid"] <= 30 and len(kept) == 150
    assert f"too few users ({users}) to keep some of them whole" in str(report)


@pytest.mark.parametrize("users", [8, 12, 20, 40])
def test_enough_users_stay_whole_though_chance_gives_a_split_none(users):
    for seed in range(20):
        given = [Prompt(f"p{i}", f"{i}", user=f"u{i % users}") for i in range(users * 5)]
        made, said = split_prompts(given, seed=seed)
        where = {}
        for p in made:
            where.setdefault(p.user, set()).add(p.split)
        assert {p.split for p in made} == {"train", "valid", "test"}
        assert bool(said) == any(len(s) > 1 for s in where.values())
        by_hash = split_by_user(given, seed=seed)
        if {p.split for p in by_hash} == {"train", "valid", "test"}:
            assert made == by_hash and not said


def test_three_prompts_are_one_for_each_split_and_two_cannot_be():
    given = [Prompt(f"p{i}", text) for i, text in enumerate(["One?", "Two?", "Three?"])]
    assert sorted(p.split for p in split_prompts(given)[0]) == ["test", "train", "valid"]
    assert "test" not in {p.split for p in split_prompts(given[:2])[0]}


def test_rows_that_say_where_they_belong_stay_and_only_what_is_missing_gets_a_floor():
    told = [Prompt(f"t{i}", f"Told {i}.", split="test", user="a") for i in range(3)]
    free = [Prompt(f"p{i}", f"Free {i}.", user="b") for i in range(50)]
    made, said = split_prompts([*told, Prompt("late", "Late.", user="a"), *free])
    assert [p.split for p in made[:4]] == ["test"] * 4 and "too few users (1)" in said
    assert {p.split for p in made[4:]} >= {"train", "valid"}
    every = [Prompt(f"p{i}", str(i), split="train") for i in range(9)]
    assert split_prompts(every) == (every, "")
