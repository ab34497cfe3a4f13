"""One's own comparisons and labels by hand: what is held out is held out, and nothing is counted twice."""

from dataclasses import replace
from pathlib import Path

import pytest

from labkit.disk import write_jsonl
from labkit.errors import DataError, RunError
from labkit.experiment import Experiment
from labkit.experiment.own import split_own
from labkit.experiment.sources import FolderSource
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.runs import Run
from labkit.types import Ranking
from tests.labels.helpers import draft, tasks


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def lab(tmp_path, folder) -> Experiment:
    return Experiment(Run("own", tmp_path / "runs"), scale="smoke", model="small", data=str(folder))


def rankings_of(n: int, **prompt) -> list[Ranking]:
    """One ranking each of `n` prompts; keywords are functions of the number that set a field of the prompt."""
    made = []
    for number, (asked, shown) in enumerate(tasks(n)):
        asked = replace(asked, **{k: f(number) for k, f in prompt.items()})
        made.append(Ranking(asked, tuple(shown), (("c0",), ("c1", "c2")), "file"))
    return made


def write(folder: Path, rankings: list[Ranking]) -> None:
    write_jsonl(folder / "comparisons.jsonl", (r.to_json() for r in rankings))


def label(lab: Experiment, given, labeler: str = "ann") -> LabelSession:
    desk = LabelSession(given, labeler, labels_path(lab.run.path, labeler))
    while desk.current:
        desk.submit(draft(*desk.current.shown))
    return desk


def fields(rankings: list[Ranking], name: str) -> set[str]:
    return {getattr(r.prompt, name) for r in rankings} - {""}


@pytest.mark.parametrize(
    ("prompt", "what"),
    [({"text": lambda n: f"Question {n // 2}?"}, "text"), ({"user": lambda n: f"user {n // 3}"}, "user")],
)
def test_own_comparisons_cross_the_split_neither_by_text_nor_by_user(lab, folder, prompt, what):
    given = rankings_of(60, **prompt)
    write(folder, given)
    made = lab.rank()
    assert not fields(made["train"], what) & fields(made["valid"], what)
    assert sorted(r.prompt.id for part in made.values() for r in part) == sorted(r.prompt.id for r in given)
    assert 4 <= len(made["valid"]) <= 8 and lab.rankings("valid") == made["valid"] and lab.rankings() == made["train"]


@pytest.mark.parametrize("small", [1, 3, 8])
def test_two_users_are_too_few_to_hold_one_out(lab, folder, small, capsys):
    write(folder, rankings_of(20, user=lambda n: "ann" if n < small else "bob"))
    made = lab.rank()
    assert 1 <= len(made["valid"]) <= 6
    crossing = fields(made["train"], "user") & fields(made["valid"], "user")
    assert bool(crossing) == ("too few users" in capsys.readouterr().out)


def test_comparisons_of_one_user_are_split_by_prompt(lab, folder):
    write(folder, rankings_of(20, user=lambda n: "me"))
    made = lab.rank()
    assert len(made["valid"]) == 2 and not fields(made["train"], "id") & fields(made["valid"], "id")
    desk = label(lab, [(replace(p, id=f"new-{p.id}", text=f"New. {p.text}", user="me"), c) for p, c in tasks(3)])
    assert lab.rankings() == made["train"] + desk.rankings, "a user who is in both parts keeps nothing apart"


@pytest.mark.parametrize("what", ["id", "text", "user"])
def test_labels_by_hand_do_not_train_on_what_is_held_out(lab, folder, capsys, what):
    write(folder, rankings_of(20, user=lambda n: f"user {n}"))
    held = lab.rank()["valid"][0].prompt
    fresh = [(replace(p, id=f"new-{p.id}", text=f"New. {p.text}", user=f"new {p.id}"), c) for p, c in tasks(4)]
    crossing = (replace(fresh[0][0], **{what: getattr(held, what)}), fresh[0][1])
    desk = label(lab, [crossing, *fresh[1:]])
    joined = [r for r in lab.rankings() if r.labeler == "ann"]
    assert joined == desk.rankings[1:]
    lab.rankings()
    assert capsys.readouterr().out.count("1 of the 4 rankings by hand") == 1, "said once"


def test_without_comparisons_the_labels_by_hand_are_split(lab):
    with pytest.raises(DataError, match=r"no comparisons.jsonl, and nothing was ranked by hand"):
        lab.rank()
    desk = label(lab, tasks(20))
    made = lab.rank()
    assert len(made["valid"]) == 2 and sorted(r.prompt.id for m in made.values() for r in m) == sorted(f"p{i}" for i in range(20))
    assert lab.rankings() == made["train"], "each counts once"
    again = desk.tasks[int(made["train"][0].prompt.id[1:])]
    desk.show(again.id)
    desk.submit(draft(*reversed(again.shown)))
    newest = [r for r in lab.rankings() if r.prompt.id == again.prompt.id]
    assert [r.groups[0] for r in newest] == [(again.shown[-1],)], "as it was ranked last"
    assert len(lab.rankings()) == 18 and lab.rankings("valid") == made["valid"]
    late = label(lab, [(replace(p, id="late", text="Late?"), c) for p, c in tasks(1)], "bob")
    assert lab.rankings()[-1] == late.rankings[0], "what is ranked later trains"


def test_one_prompt_by_hand_is_too_few(lab):
    label(lab, tasks(1))
    with pytest.raises(DataError, match="too few for 2 parts; label more prompts"):
        lab.rank()


BUCKETED = {
    "id": 7,
    "data": {"asked": "Say hi.", "items": [{"id": "a", "body": "ho"}, {"id": "b", "body": "hi"}, {"id": "c", "body": "he"}]},
    "annotations": [
        {"completed_by": 5, "result": [{"value": {"ranker": {"_": ["c"], "bad": ["a"], "good": ["b"]}}}]},
    ],
}


def test_what_a_label_studio_export_leaves_open_is_said_beside_it(lab, folder):
    write_jsonl(folder / "comparisons.jsonl", [BUCKETED])
    with pytest.raises(DataError, match=r"say their order by buckets=\(best, ...\).*comparisons.options.json"):
        lab.source.rankings()
    options = folder / "comparisons.options.json"
    options.write_text('{"buckets": ["good", "bad"], "prompt_field": "asked"}')
    (found,) = lab.source.rankings()
    texts = {c.id: c.text for c in found.completions}
    assert found.prompt.text == "Say hi." and [[texts[i] for i in group] for group in found.groups] == [["hi"], ["ho"]]


def test_an_export_whose_prompt_is_elsewhere_is_told_which_option_says_so(lab, folder):
    write_jsonl(folder / "comparisons.jsonl", [{"asked": "Say hi.", "completions": ["a", "b"], "ranks": [1, 2]}])
    with pytest.raises(DataError, match=r"prompt_field=. In a folder of data it stands in .*options.json, as \{\"prompt_field\": ...\}\.$"):
        lab.source.rankings()


@pytest.mark.parametrize("labeler", ["ann", "by buckets=(x)"])
def test_a_ranking_that_is_wrong_by_itself_gets_no_option_for_a_remedy(lab, folder, labeler):
    row = {**rankings_of(1)[0].to_json(), "labeler": labeler}
    for wrong, words in ({"groups": [["c0"], ["other"]]}, "Correct the id"), ({"completions": row["completions"][:1]}, "Drop it or add one"):
        write_jsonl(folder / "comparisons.jsonl", [{**row, **wrong}])
        with pytest.raises(DataError, match=words) as refused:
            lab.source.rankings()
        assert "options.json" not in str(refused.value) and refused.value.option == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"bucket": ["good", "bad"]}', "has no option 'bucket'; it may have format, labeler, prompt_field"),
        ('{"buckets": "good"}', "'buckets' is 'good'; it is a list of texts"),
        ('{"prompt_field": ["asked"]}', "'prompt_field' is .*; it is a text"),
        ("[1]", "is no JSON object"),
        ("{", "is no JSON object"),
    ],
)
def test_a_wrong_option_is_named(lab, folder, content, words):
    write_jsonl(folder / "comparisons.jsonl", [BUCKETED])
    (folder / "comparisons.options.json").write_text(content)
    with pytest.raises(DataError, match=rf"comparisons.options.json.*{words}"):
        lab.source.rankings()


def test_rows_that_say_they_are_for_validation_are_and_no_others():
    made = split_own(rankings_of(20, split=lambda n: "valid" if n < 3 else ""), seed=0)
    assert [r.prompt.id for r in made["valid"]] == ["p0", "p1", "p2"] and len(made["train"]) == 17


def test_answers_that_are_preferred_to_themselves_are_counted(lab, folder, capsys):
    given = rankings_of(20)
    same = [replace(r, completions=tuple(replace(c, text="Same.") for c in r.completions)) if n < 4 else r for n, r in enumerate(given)]
    write(folder, same)
    lab.rank()
    assert "4 of the 20 comparisons prefer an answer to the very same one" in capsys.readouterr().out


def test_without_a_reward_model_ppo_says_what_to_run_first(lab):
    with pytest.raises(RunError, match="reward has no finished model; run 04_reward first"):
        lab.ppo_job()
    lab.run.stage("reward").model.mkdir(parents=True)
    with pytest.raises(RunError, match="ppo_init has no finished model; run 02_sft first"):
        lab.ppo_job()


def test_a_missing_file_is_asked_for_in_its_own_form(lab):
    with pytest.raises(DataError, match=r"pretraining.txt is missing: .* ptx_coef = 0 it is not needed. Documents apart by blank lines will do"):
        lab.source.pretraining(1, 0)
    with pytest.raises(DataError, match="comparisons.jsonl is missing: .* Any JSONL form"):
        lab.source.rankings()


def tie(ranking: Ranking) -> Ranking:
    return replace(ranking, groups=(tuple(c.id for c in ranking.completions),))


def test_what_is_held_out_prefers_something():
    given = rankings_of(20, split=lambda n: "valid" if n < 3 else "")
    with pytest.raises(DataError, match=r"None of the 3 comparisons for validation .* prefers one answer to another"):
        split_own([tie(r) if n < 3 else r for n, r in enumerate(given)], seed=0)
    free = rankings_of(20)
    chance = {r.prompt.id for r in split_own(free, seed=0)["valid"]}
    mixed = [tie(r) if r.prompt.id in chance else r for r in free]
    made = split_own(mixed, seed=0)
    assert all(r.pairs() for r in made["valid"]) and made["valid"] and sum(map(len, made.values())) == 20


def test_pretraining_text_may_come_from_windows_and_must_be_utf8(tmp_path):
    file = tmp_path / "pretraining.txt"
    file.write_bytes("one\r\ntwo\r\n\r\nthrée".encode("utf-8-sig"))
    assert FolderSource(tmp_path).pretraining(9, 0) == ["one\ntwo", "thrée"]
    for other in ("utf-16", "cp1252"):
        file.write_bytes("one\r\n\r\nthrée".encode(other))
        with pytest.raises(DataError, match="pretraining.txt is not UTF-8 text; save it as UTF-8"):
            FolderSource(tmp_path).pretraining(9, 0)
