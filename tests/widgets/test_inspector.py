"""The inspector's Python side: rows are checked, functions of labkit answer, errors become sentences."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.disk import append_jsonl
from labkit.errors import DataError
from labkit.experiment.batches import FILE
from labkit.runs import StageFolder
from labkit.types import Completion, Prompt, Ranking, Step
from tests.toy_inspector import explain, rankings, rows, scorer
from tests.toy_job import toy_job
from widgets import inspector_twin
from widgets.inspector import RewardInspector, batches_of, rows_of


@pytest.fixture(autouse=True)
def headless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HEADLESS", "1")


@pytest.fixture
def board() -> RewardInspector:
    return RewardInspector(rows(), scorer=scorer, explain=explain, rankings=rankings())


def test_rows_of_a_run_are_the_samples_of_its_steps(tmp_path: Path) -> None:
    job = toy_job(tmp_path / "ppo", total=6, seconds=0.0)
    job.start()
    job.result(block=True)
    found = rows_of({"ppo": StageFolder(tmp_path / "ppo")}, steps=[2, 6])
    assert len(found) == 8 and {r["step"] for r in found} == {2, 6} and {r["source"] for r in found} == {"ppo"}
    assert len(rows_of(job)) == 24
    assert len(RewardInspector(found).rows) == 8


@pytest.fixture
def run(tmp_path: Path) -> StageFolder:
    """Two recorded steps: two samples each, and of the second a whole batch of 1,200 long episodes."""
    folder = StageFolder(tmp_path / "ppo")
    folder.begin(settings={})
    for number in (1, 2):
        samples = tuple({"prompt": "a", "response": f"sample {i}", "score": 1.0} for i in range(2))
        folder.append_step(Step("ppo", number, {"score": 1.0}, samples=samples))
    rows = [{"prompt": "a", "response": f"{i} " + "x" * 300, "score": 0.5, "token_ids": [i], "seed": 2**62 + i} for i in range(1200)]
    append_jsonl(folder.path / FILE, {"step": 2, "episodes": rows})
    return folder


def test_the_whole_batch_of_a_step_comes_when_it_is_asked_for_and_not_before(run: StageFolder) -> None:
    read = []
    batches = batches_of({"ppo": run})
    board = RewardInspector(rows_of({"ppo": run}), batches=lambda *asked: read.append(asked) or batches(*asked))
    assert len(board.rows) == 4 and not read and len(json.dumps(board.get_state())) < 200_000
    heard = []
    board.observe(lambda change: heard.append(change.new), ["batch"])
    for _ in range(2):
        board.obey({"kind": "batch", "source": "ppo", "step": 2})
    assert read == [("ppo", 2)] and len(heard) == 2, "read once, told to every page that asks"
    shown = board.batch["rows"]
    assert len(shown) == 1000 and [r["row"] for r in shown[:2]] == [4, 5] and len(json.dumps(shown)) < 500_000
    assert "token_ids" not in shown[0] and "seed" not in shown[0]
    assert len(board.rows) == 4 and len(board._all) == 4, "figures and tables are of the samples alone"


def test_rows_of_a_whole_batch_are_explained_by_their_own_tokens_and_probed(run: StageFolder) -> None:
    given = []
    board = RewardInspector(
        rows_of({"ppo": run}), batches=batches_of(run), scorer=scorer, explain=lambda row: given.append(row) or explain(row)
    )
    board.obey({"kind": "batch", "source": board.rows[0]["source"], "step": 2})
    assert board.notice["bad"], "a lone folder names itself by its path"
    board = RewardInspector(rows_of({"ppo": run}), batches=batches_of({"ppo": run}), scorer=scorer, explain=board.explain)
    board.obey({"kind": "batch", "source": "ppo", "step": 2})
    board.obey({"kind": "explain", "row": 4 + 17})
    assert given[-1]["token_ids"] == [17] and board.view["row"] == 21
    board.obey({"kind": "explain", "row": 0})
    assert "token_ids" not in given[-1]
    board.obey({"kind": "probe", "rows": [4, 5]})
    assert board.probes["count"] == 2
    board.obey({"kind": "explain", "row": 4 + 1000})
    assert "reload the page" in board.notice["text"]


def long_run(monkeypatch: pytest.MonkeyPatch, batches=None) -> RewardInspector:
    """Ten rows at most go to the page, of 4 steps of 2 sources with 4 samples each."""
    monkeypatch.setattr("widgets.inspector.MAX_ROWS", 10)
    given = [
        {"source": s, "step": n, "prompt": "a", "response": f"{s} {n} {i}", "score": float(i), "seed": 2**62 + i, "token_ids": (n, i)}
        for s in ("ppo", "ppo_ptx") for n in range(1, 5) for i in range(4)
    ]  # fmt: skip
    return RewardInspector(given, scorer=scorer, batches=batches)


def test_the_menus_offer_every_source_and_step_also_those_that_are_not_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    board = long_run(monkeypatch)
    assert len(board.rows) == 10 and board.spec["left_out"] == 22
    assert board.spec["offered"] == {"source": ["ppo", "ppo_ptx"], "step": [1, 2, 3, 4]}


def test_the_static_twin_is_of_all_rows_whatever_a_page_would_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    board = long_run(monkeypatch)
    board._all[0]["score"] = 99.0
    told = inspector_twin.tables(board)["text/plain"]
    assert "ppo 1 0" in told and "Probes for hacking on all 32 responses" in told


def test_samples_that_are_not_on_the_page_come_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch, run: StageFolder) -> None:
    for board in (long_run(monkeypatch), long_run(monkeypatch, batches_of({"ppo": run}))):
        board.obey({"kind": "batch", "source": "ppo", "step": 3})
        assert [r["response"] for r in board.batch["rows"]] == [f"ppo 3 {i}" for i in range(4)] and not board.batch["whole"]
        assert [r["row"] for r in board.batch["rows"]] == [8, 9, 10, 11], "the very rows that the table was given"
    board.obey({"kind": "batch", "source": "ppo", "step": 2})
    assert len(board.batch["rows"]) == 1000 and board.batch["whole"] and board.batch["left_out"] == 200, "a kept batch goes first"


def test_an_export_is_given_the_token_ids_and_seeds_that_the_page_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    board, sent = long_run(monkeypatch), []
    board.send = lambda message, buffers=None: sent.append(message)
    assert board.spec["unseen"] == ["token_ids", "seed"] and not RewardInspector(rows()).spec["unseen"]
    board.obey({"kind": "unseen", "rows": [31, 30, 99], "client": "me", "number": 7})
    (told,) = sent
    assert (told["kind"], told["client"], told["number"]) == ("unseen", "me", 7)
    assert told["rows"] == {"31": {"token_ids": [4, 3], "seed": str(2**62 + 3)}, "30": {"token_ids": [4, 2], "seed": str(2**62 + 2)}}


def test_probes_say_of_how_many_responses_they_took_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("widgets.inspector.MAX_PROBED", 12)
    board = RewardInspector(rows(), scorer=scorer)
    best = sorted(board.rows, key=lambda r: -r["score"])
    board.obey({"kind": "probe", "rows": [r["row"] for r in best[:20]]})
    once = board.probes
    assert (once["count"], once["of"]) == (12, 20) and once["which"].startswith("12 of 20 responses, drawn at random")
    drawn = set(once["rows"])
    assert drawn <= {r["row"] for r in best[:20]} and drawn != {r["row"] for r in best[:12]}, "not the best-scored twelve"
    board.obey({"kind": "probe", "rows": [r["row"] for r in reversed(best[:20])]})
    assert board.probes["rows"] == once["rows"], "the same ones whatever the table is sorted by"
    board.obey({"kind": "probe", "rows": [0, 1]})
    assert board.probes["which"] == "all 2 responses"
    board.obey({"kind": "probe", "rows": []})
    assert board.notice["bad"] and "no response" in board.notice["text"].lower()
    assert "Probes for hacking on all 36 responses" in board.static()[-1]["text/plain"]


@pytest.mark.parametrize("asked", [{"step": 1}, {"step": 9}, {"source": "sft", "step": 2}])
def test_a_batch_that_was_not_kept_is_a_sentence(run: StageFolder, asked: dict) -> None:
    board = RewardInspector(rows_of({"ppo": run}), batches=batches_of({"ppo": run}))
    board.obey({"kind": "batch", "source": "ppo", **asked})
    assert board.notice["bad"] and f"No whole batch of step {asked['step']}" in board.notice["text"] and not board.batch


def test_rows_of_whole_steps_are_all_episodes_and_else_the_samples(run: StageFolder) -> None:
    found = rows_of({"ppo": run}, whole=True)
    assert len(found) == 2 + 1200 and {r["source"] for r in found} == {"ppo"} and found[-1]["step"] == 2
    assert len(rows_of(run.steps(), whole=True)) == 4, "a list of Steps has no folder"


def test_a_row_without_texts_is_refused_with_a_sentence() -> None:
    with pytest.raises(DataError, match="Row 1 has no prompt and response"):
        RewardInspector([{"prompt": "a", "response": "b"}, {"prompt": "a"}])


def test_explain_sends_the_token_view_of_that_row_once(board: RewardInspector) -> None:
    calls = []
    board.explain = lambda row: calls.append(row["row"]) or explain(row)
    board.obey({"kind": "explain", "row": 3})
    board.obey({"kind": "explain", "row": 3})
    assert calls == [3] and board.view["row"] == 3
    assert all(len(v) == len(board.view["tokens"]) for v in board.view["columns"].values())


def test_what_a_token_view_says_of_its_models_is_on_the_page_and_in_the_static_twin(board: RewardInspector) -> None:
    said = "By the policy that ppo ended with."
    board.explain = lambda row: replace(explain(row), facts={"note": said})
    board.obey({"kind": "explain", "row": 3})
    assert board.view["note"] == said
    assert said in board.static()[-1]["text/plain"]


def test_an_edit_is_scored_beside_the_original_and_the_end_token_counts(board: RewardInspector) -> None:
    row = board.rows[0]
    board.obey({"kind": "rescore", "row": 0, "text": "water water", "finished": False})
    want = scorer([row["prompt"]], ["water water"], [False])[0]
    assert board.edited["score"] == pytest.approx(want) and board.edited["text"] == "water water"
    assert board.edited["before"] == pytest.approx(scorer([""], [row["response"]], [row["finished"]])[0])


@pytest.mark.parametrize("kind", ["explain", "rescore"])
def test_the_same_question_asked_again_reaches_the_page_again(board: RewardInspector, kind: str) -> None:
    """A page that was loaded anew knows nothing of the last answer, and only a changed trait is sent."""
    heard = []
    board.observe(lambda change: heard.append(change.new), ["view", "edited"])
    for _ in range(2):
        board.obey({"kind": kind, "row": 1, "text": "water", "finished": True})
    assert len(heard) == 2
    assert [h["row"] for h in heard] == [1, 1] and heard[0]["score"] == heard[1]["score"]


def test_probes_run_on_the_rows_asked_for(board: RewardInspector) -> None:
    board.obey({"kind": "probe", "rows": [0, 1, 2]})
    assert board.probes["count"] == 3
    best = board.probes["findings"][0]
    assert best["verdict"] == "pays" and best["name"].startswith("repetition")
    json.dumps(board.probes, allow_nan=False)


def test_the_report_shows_figures_and_worst_disagreements(board: RewardInspector) -> None:
    board.obey({"kind": "report"})
    titles = [f["title"] for f in board.report["figures"]]
    assert titles == ["Rewards", "Reward against length", "Calibration", "Accuracy by rank gap", "Accuracy by labeler"]
    margins = [d["margin"] for d in board.report["disagreements"]]
    assert margins and margins == sorted(margins, reverse=True) and min(margins) > 0
    worst = board.report["disagreements"][0]
    assert scorer([""], [worst["the RM prefers"]], [True])[0] > scorer([""], [worst["labelers prefer"]], [True])[0]


def test_ids_that_come_again_under_another_prompt_are_not_mixed_up() -> None:
    """Two prompts, each with answers a and b; a scorer that is right about both."""
    cards = [
        Ranking(Prompt(p, f"{p}?"), tuple(Completion(i, p, f"{p}{i}") for i in "ab"), ((best,), (other,)), "ann")
        for p, best, other in (("p", "a", "b"), ("q", "b", "a"))
    ]
    right = {"pa", "qb"}
    judge = lambda prompts, texts, finished: [float(t in right) for t in texts]  # noqa: E731
    board = RewardInspector(rows(), scorer=judge, rankings=cards)
    assert [p["margin"] for p in board.pairs()] == [1.0, 1.0] and board.disagreements() == []


def test_of_rows_that_were_passed_by_only_the_last_is_explained() -> None:
    """One press of the arrow key per row, while the first is still being computed."""
    from queue import SimpleQueue

    from widgets import inspector

    class Board:
        def obey(self, message):
            asked.append(message)
            if message["row"] == 9:
                raise SystemExit  # ends the loop

    asked, work, board = [], SimpleQueue(), Board()
    for row in range(10):
        work.put((board, {"kind": "explain", "row": row}))
    with pytest.raises(SystemExit):
        inspector._serve(work)
    assert [m["row"] for m in asked] == [9]


def test_of_two_tabs_each_gets_the_answer_to_its_own_newest_question() -> None:
    from queue import SimpleQueue

    from widgets import inspector

    class Board:
        def obey(self, message):
            if message["kind"] == "report":
                raise SystemExit  # ends the loop
            asked.append((message["client"], message["row"]))

    asked, work, board = [], SimpleQueue(), Board()
    for row in range(4):
        for tab in "ab":
            work.put((board, {"kind": "explain", "row": row, "client": tab}))
    work.put((board, {"kind": "report"}))
    with pytest.raises(SystemExit):
        inspector._serve(work)
    assert sorted(asked) == [("a", 3), ("b", 3)]


def test_without_functions_there_is_a_table_and_nothing_fails() -> None:
    board = RewardInspector(rows())
    for kind in ("explain", "rescore", "probe", "report", "batch", "nonsense"):
        board.obey({"kind": kind, "row": 0, "rows": [0], "text": "x"})
        assert board.notice == {}
    assert board.spec == {
        "title": "Reward inspector",
        "left_out": 0,
        "scorer": False,
        "explain": False,
        "rankings": False,
        "batches": False,
        "offered": {"source": ["base", "sft", "best of 4", "ppo", "ppo_ptx"], "step": [0, 30, 60, 240]},
        "unseen": [],
    }


@pytest.mark.parametrize("place", [-1, 10_000, "0", None, True])
def test_a_row_that_is_not_there_is_a_sentence(board: RewardInspector, place) -> None:
    board.obey({"kind": "explain", "row": place})
    assert board.notice["bad"] and "reload" in board.notice["text"]


def test_an_error_of_a_callback_is_shown(board: RewardInspector) -> None:
    def broken(row):
        raise RuntimeError("out of memory")

    board.explain = broken
    board.obey({"kind": "explain", "row": 0, "client": "a"})
    assert board.notice == {"text": "RuntimeError: out of memory", "bad": True, "by": "a"}


def test_numbers_that_json_cannot_hold_and_token_ids_stay_away_from_the_page() -> None:
    board = RewardInspector([{"prompt": "a", "response": "b", "score": float("nan"), "token_ids": (1, 2)}])
    assert board.rows == [{"prompt": "a", "response": "b", "score": None, "row": 0}]


def test_the_static_twin_is_escaped_small_and_teaches() -> None:
    board = RewardInspector(rows(hostile=True), scorer=scorer, explain=explain, rankings=rankings())
    made = board.static()
    assert sum("image/png" in m for m in made) == 6
    html, text = made[-1]["text/html"], made[-1]["text/plain"]
    assert "Probes for hacking" in text and "disagree most" in text
    assert "<img" not in html and "\u202e" not in html
    assert len(json.dumps(made)) < 400_000
    assert board._repr_mimebundle_()["text/plain"] == text
