"""Cards of a run's board: drawn once, kept beside the logs, and only ever added to."""

from types import SimpleNamespace

import pytest

from labkit.errors import DataError
from labkit.experiment import live, tasks_by_hand
from labkit.experiment.sources import WorldSource
from labkit.labels.cards import cards_path, keep_cards, kept_cards
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path, read_rankings
from labkit.labels.tasks import task_id
from labkit.runs import Run
from labkit.types import Completion, Demonstration, Prompt
from tests.labels.helpers import draft

PROMPTS = [Prompt(f"p{i:02}", f"Question {i}?\n") for i in range(40)]


class Source:
    """Labelers in turn, as the lab's own source has it."""

    def demonstrations(self, prompts, seed, by_prompt=False):
        turn = [int(p.id[1:]) if by_prompt else i for i, p in enumerate(prompts)]
        return [Demonstration(p, f"Written by {n % 7}.") for n, p in zip(turn, prompts, strict=True)]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A run whose SFT model is a word: `lab.sft`; each card holds two answers of it and a demonstration."""
    made = SimpleNamespace(
        run=Run("mine", tmp_path), scale="smoke", seed=3, model="m", tokenizer=None, max_new_tokens=8, sft="first",
        prompts=lambda split, use: PROMPTS, source=Source(), drawn=[],
    )  # fmt: skip
    made.policy = lambda stage: made.sft

    def shown(policies, tokenizer, prompts, demonstrations, *rest, **how):
        made.drawn += [p.id for p in prompts]
        texts = {d.prompt.id: d.text for d in demonstrations}
        facts = {"token_ids": (3, 5), "sampling": {"temperature": 0.7, "weights": policies["sft"]}, "seed": 2**62 + 1}
        return [
            [Completion(f"demonstration-{p.id}", p.id, texts[p.id], model="labeler")]
            + [Completion(f"sft-{p.id}-{k}", p.id, f"{policies['sft']} {k}", model="sft", **facts) for k in range(2)]
            for p in prompts
        ]

    monkeypatch.setattr(live, "completions_to_rank", shown)
    monkeypatch.setattr(live, "load_policy", lambda *given, **how: "base")
    return made


def desk_of(lab, count: int, labeler: str = "ann", **more) -> LabelSession:
    return LabelSession(tasks_by_hand(lab, count), labeler, labels_path(lab.run.path, labeler), **more)


def rank(desk: LabelSession, times: int) -> None:
    for _ in range(times):
        desk.submit(draft(*desk.current.shown))


def seen(desk: LabelSession) -> tuple:
    return desk.current, desk.draft, desk.rankings, desk.history(), desk.can_undo


@pytest.mark.parametrize("change", ["nothing", "count", "weights", "both"])
def test_a_board_opened_again_stands_where_it_stood(lab, change):
    desk = desk_of(lab, 10)
    rank(desk, 3)
    desk.skip("too long")
    desk.save_draft(draft(desk.current.shown[1], desk.current.shown[0]))
    before, cards = seen(desk), [(t.id, t.shown, t.completions) for t in desk.tasks]
    desk.close()
    lab.sft = "second" if change in ("weights", "both") else "first"
    desk = desk_of(lab, 20 if change in ("count", "both") else 10)
    assert seen(desk) == before
    assert [(t.id, t.shown, t.completions) for t in desk.tasks][:10] == cards, "to the last token id"
    assert len({t.prompt.id for t in desk.tasks}) == (20 if change in ("count", "both") else 10)
    assert "draft" in desk.undo() and "skip" in desk.undo() and "submit" in desk.undo()


def test_another_model_answers_new_prompts_only(lab):
    desk_of(lab, 10).close()
    lab.sft = "second"
    models = {t.prompt.id: {c.text.split()[0] for c in t.completions if c.model == "sft"} for t in desk_of(lab, 15).tasks}
    assert lab.drawn == [p.id for p in (*PROMPTS[-10:], *PROMPTS[-15:-10])]
    assert all(models[p.id] == {"first"} for p in PROMPTS[-10:]) and all(models[p.id] == {"second"} for p in PROMPTS[-15:-10])


def test_fewer_prompts_leave_the_cards_that_somebody_saw(lab):
    desk = desk_of(lab, 10)
    rank(desk, 5)
    desk.close()
    desk = desk_of(lab, 3)
    assert len(desk.tasks) == 6 and len(desk.rankings) == 5, "the sixth was up"
    assert len(desk_of(lab, 10, "bob").tasks) == len(kept_cards(lab.run.path)) == 10


def test_a_silent_repeat_that_was_answered_can_still_be_taken_back(lab):
    desk = desk_of(lab, 10, repeat_share=0.1)
    rank(desk, 11)
    again = [t for t in desk.state.submitted if t.endswith(":again")]
    assert again
    while not desk.state.done[-1]["task"].endswith(":again"):
        desk.undo()
    desk.close()
    for count in (20, 40):
        desk = desk_of(lab, count, repeat_share=0.1)
        assert desk.can_undo and desk.progress().total == count + round(0.1 * count)


def test_logs_alone_are_no_cards_and_cards_are_no_log(lab):
    desk = desk_of(lab, 4)
    rank(desk, 2)
    assert len(read_rankings(lab.run.path / "labels")) == 2
    assert cards_path(lab.run.path) not in (lab.run.path / "labels").glob("*.jsonl")


@pytest.mark.parametrize(("count", "sft"), [(10, "first"), (20, "first"), (10, "second")])
def test_a_run_from_before_cards_were_kept_goes_on(lab, count, sft):
    """Its log holds the cards that were submitted; the others come again where nothing else changed."""
    texts = Source().demonstrations(PROMPTS[-10:], 0)
    old = list(zip(PROMPTS[-10:], live.completions_to_rank({"sft": "first"}, None, PROMPTS[-10:], texts), strict=True))
    desk = LabelSession(old, "ann", labels_path(lab.run.path, "ann"))
    rank(desk, 3)
    desk.undo()
    desk.skip("no idea")
    desk.save_draft(draft(desk.current.shown[1], desk.current.shown[0]))
    before, up = desk.rankings, (desk.current, desk.draft)
    desk.close()
    lab.sft, log = sft, labels_path(lab.run.path, "ann").read_bytes()
    desk = desk_of(lab, count)
    assert desk.rankings == before and len(desk.tasks) == len({t.prompt.id for t in desk.tasks}) == count
    if (count, sft) == (10, "first"):
        assert (desk.current, desk.draft) == up and "draft" in desk.undo() and "skip" in desk.undo()
    assert labels_path(lab.run.path, "ann").read_bytes().startswith(log)
    desk.close()
    assert [t.id for t in desk_of(lab, count).tasks] == [t.id for t in desk.tasks]


def test_cards_that_another_kernel_kept_meanwhile_stay(tmp_path):
    one, two = ([(p, [Completion(f"c{k}", p.id, f"{word} {k}") for k in range(2)])] for p, word in zip(PROMPTS[:2], "ab", strict=True))
    keep_cards(tmp_path, one)
    assert [task_id(*card) for card in keep_cards(tmp_path, two)] == [task_id(*card) for card in (*one, *two)]
    assert keep_cards(tmp_path, one) == kept_cards(tmp_path)


def test_a_damaged_card_is_named(tmp_path):
    path = cards_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text('{"prompt": {"id": "p", "text": "?"}, "completions": []}\n{"prompt": 3}\n')
    with pytest.raises(DataError, match=r"cards.jsonl, line 2"):
        kept_cards(tmp_path)


def test_who_writes_the_demonstration_of_a_card_depends_on_the_prompt_alone():
    from labkit.experiment.amounts import amounts

    source = WorldSource()
    prompts = source.prompts(amounts("smoke"), 0)[0][:30]
    whole = source.demonstrations(prompts, 5, by_prompt=True)
    assert source.demonstrations(prompts[11:], 5, by_prompt=True) == whole[11:]
    assert len({d.labeler for d in whole}) > 5
