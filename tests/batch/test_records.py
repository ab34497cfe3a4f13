"""Staleness without any kernel: what makes a finished notebook run again, and what does not."""

import contextlib
import shutil
from pathlib import Path

import nbformat
import pytest

from labkit.batch.notebooks import resolve_parameters
from labkit.batch.pipeline import pipeline, plan
from labkit.batch.records import content_of, inputs_of, is_whole, record_of, stale
from labkit.disk import write_json
from labkit.errors import RunError, SettingsError
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.runs import FACTS, Run
from labkit.world.pretrain import SHIPPED
from tests.batch.tiny import PARAMETERS, write_notebook
from tests.labels.helpers import draft, tasks


@pytest.fixture
def steps(tmp_path: Path) -> list[Path]:
    return [write_notebook(tmp_path / f"0{i}_{name}.ipynb") for i, name in enumerate(["prompts", "sft", "rank"], 1)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run("tiny", tmp_path / "runs")


def finish(
    run: Run, notebook: Path, stages: tuple[str, ...] = (), files: tuple[str, ...] = (), **given: object
) -> None:
    """What executing the notebook leaves behind."""
    values = resolve_parameters(notebook, given, run.name)
    inputs = inputs_of(run, notebook, values)
    for stage in stages:
        run.stage(stage).begin(settings={})
        run.stage(stage).finish()
    record = record_of(run, notebook.stem)
    record.begin(settings=values)
    record.finish("done", stages=stages, files=files, inputs=inputs, summary={})


def why(run: Run, notebook: Path, **given: object) -> str:
    return stale(run, notebook, resolve_parameters(notebook, given, run.name))


def test_what_is_done_and_unchanged_holds(steps: list[Path], run: Run) -> None:
    assert why(run, steps[0]) == "not run yet"
    for step in steps:
        finish(run, step)
    assert [why(run, step) for step in steps] == ["", "", ""]


def test_prose_and_outputs_do_not_count_code_and_parameters_do(steps: list[Path], run: Run) -> None:
    finish(run, steps[0])
    book = nbformat.read(steps[0], as_version=4)
    book.cells[0].source = "# Other words"
    book.cells[2].outputs = [nbformat.v4.new_output("stream", text="hello")]
    nbformat.write(book, steps[0])
    assert why(run, steps[0]) == ""
    assert why(run, steps[0], kl_coef=0.5) == "kl_coef was 0.02, is 0.5"
    book.cells[2].source += "\nprint(1)"
    nbformat.write(book, steps[0])
    assert why(run, steps[0]) == "its code changed"


def test_a_copy_of_a_run_holds_under_another_name(steps: list[Path], run: Run) -> None:
    """As a class begins: each student with a copy of the teacher's run."""
    for step in steps:
        finish(run, step)
    shutil.copytree(run.path, run.path.with_name("mine"))
    assert [why(Run("mine", run.path.parent), step) for step in steps] == ["", "", ""]


def test_a_changed_default_counts_as_a_changed_parameter(steps: list[Path], run: Run) -> None:
    finish(run, steps[0])
    write_notebook(steps[0], parameters=PARAMETERS.replace("0.02", "0.05"))
    assert why(run, steps[0]) == "kl_coef was 0.02, is 0.05"


def test_a_parent_trained_again_is_noticed_downstream_only(steps: list[Path], run: Run) -> None:
    finish(run, steps[0])
    finish(run, steps[1], stages=("sft",))
    finish(run, steps[2])
    run.stage("sft").begin(settings={})
    assert why(run, steps[1]) == "its stage sft is running"
    run.stage("sft").finish()
    assert (why(run, steps[0]), why(run, steps[1]), why(run, steps[2])) == ("", "", "02_sft changed")


def test_one_more_label_is_noticed_by_what_reads_it_and_looking_at_the_board_is_not(steps: list[Path], run: Run) -> None:
    def at_the_board(ranks: str = "") -> None:
        with contextlib.closing(LabelSession(tasks(3), "ada", labels_path(run.path, "ada"))) as desk:
            if ranks:
                desk.submit(draft(*ranks.split("|")))

    at_the_board("c1|c0 c2")
    finish(run, steps[0])
    finish(run, steps[1], files=("labels",))
    finish(run, steps[2])
    before = labels_path(run.path, "ada").read_bytes()
    at_the_board()
    assert labels_path(run.path, "ada").read_bytes() != before and why(run, steps[2]) == ""
    at_the_board("c0|c1 c2")
    assert (why(run, steps[1]), why(run, steps[2])) == ("", "02_sft changed")


def test_a_card_on_which_all_tie_changes_nothing_that_learns_from_labels(steps: list[Path], run: Run) -> None:
    """It orders nothing, so nothing is learnt from it; manifests of stages and records of notebooks say the same."""
    from labkit.experiment.origins import origin_hash

    def both() -> tuple[str, str | None]:
        return content_of(run.path / "labels"), origin_hash(run, "labels")

    with contextlib.closing(LabelSession(tasks(3), "ada", labels_path(run.path, "ada"))) as desk:
        desk.submit(draft("c1", "c0 c2"))
        before = both()
        desk.submit(draft("c0 c1 c2"))
        assert both() == before and before[0] == before[1]
        desk.submit(draft("c2", "c0 c1"))
        assert both()[0] != before[0] and both()[0] == both()[1]


@pytest.mark.parametrize(("name", "given"), [("data", "small"), ("data", "reader"), ("model", "world")])
def test_a_folder_of_ones_own_may_be_called_as_something_of_the_labs(
    steps: list[Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / given / "config.json", {})
    write_json(run.path / "prompts" / "experiment.json", {"data": "world", "model": "medium", name: given})
    finish(run, steps[0])
    write_json(tmp_path / given / "config.json", {"changed": True})
    assert why(run, steps[0]) == "the files of its data or its model changed"


@pytest.mark.parametrize(("name", "given"), [("data", "world"), *(("model", base) for base in SHIPPED)])
def test_what_is_the_labs_own_is_no_folder_that_happens_to_lie_here(
    steps: list[Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / given / "config.json", {})
    write_json(run.path / "prompts" / "experiment.json", {name: given})
    assert inputs_of(run, steps[0], {})["own files"] is None


def test_files_of_ones_own_that_changed_are_noticed(steps: list[Path], run: Run, tmp_path: Path) -> None:
    own = tmp_path / "mine"
    own.mkdir()
    (own / "comparisons.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    write_json(run.path / "prompts" / "experiment.json", {"data": str(own), "model": "medium"})
    for step in steps:
        finish(run, step)
    assert [why(run, step) for step in steps] == ["", "", ""]
    with open(own / "comparisons.jsonl", "a") as out:
        out.write('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    assert {why(run, step) for step in steps} == {"the files of its data or its model changed"}


@pytest.mark.parametrize(("status", "words"), [("failed", "failed"), ("stopped", "stopped")])
def test_a_bad_end_runs_again(steps: list[Path], run: Run, status: str, words: str) -> None:
    finish(run, steps[0])
    record_of(run, steps[0].stem).finish(status, error="no luck")
    assert words in why(run, steps[0])


def test_a_record_whose_process_is_gone_runs_again(steps: list[Path], run: Run) -> None:
    record = record_of(run, steps[0].stem)
    record.begin(settings={})
    manifest = record.manifest
    from labkit.disk import write_json

    write_json(record.path / "run.json", {**manifest, "pid": 2**22 + 1})
    assert why(run, steps[0]) == "its last run was killed"


def test_plan_runs_everything_after_the_first_stale_one(steps: list[Path], run: Run) -> None:
    for step in steps:
        finish(run, step)
    write_notebook(steps[1], ["print('new')"])
    rows = plan(run, steps, {})
    assert [(r.action, r.why) for r in rows] == [
        ("skip", "done and unchanged"),
        ("run", "its code changed"),
        ("run", "02_sft runs again"),
    ]
    assert [r.action for r in plan(run, steps, {}, again=True)] == ["run"] * 3


def test_a_given_parameter_goes_to_those_that_declare_it(steps: list[Path], run: Run) -> None:
    write_notebook(steps[0], parameters='run = "x"  # name of the run\nwords = 3  # how many')
    for step in steps:
        finish(run, step)
    assert [r.action for r in plan(run, steps[:1], {"words": "4"})] == ["run"]
    assert [r.action for r in plan(run, steps, {"kl_coef": "0.5"})] == ["skip", "run", "run"]
    for given in ({"bogus": "1"}, {"run": "x"}):
        with pytest.raises(SettingsError, match="No notebook here has a parameter"):
            pipeline(run, steps, given, say=lambda s: None)


def test_a_stage_that_a_person_ended_early_counts_where_its_model_was_kept(steps: list[Path], run: Run) -> None:
    finish(run, steps[0], stages=["sft"])
    run.stage("sft").finish("stopped")
    assert not is_whole(run.stage("sft")) and "is stopped" in why(run, steps[0])
    run.stage("sft").model.mkdir()
    assert is_whole(run.stage("sft")) and why(run, steps[0]) == ""


JUDGED = """\
run = "tiny"  # name of the folder under runs/
kl_coef = 0.02  # β: weight of the KL penalty
seed = 0  # every random draw comes from it
model = "medium"  # what the policy starts from
judge = ""  # what the reward model starts from; empty: the reader for the world's bases, else the same model"""


@pytest.mark.parametrize(
    ("model", "judge", "base", "same", "another"),
    [
        ("medium", "small", "small", ["small"], ["", "reader"]),
        ("medium", "", "reader", ["", "reader"], ["small"]),
        ("medium", "reader", "reader", ["", "reader"], ["medium"]),
        ("./mine", "", "./mine", ["", "./mine"], ["reader"]),
    ],
)
def test_what_the_reward_model_starts_from_stays_as_the_run_was_prepared(
    steps: list[Path], run: Run, model: str, judge: str, base: str, same: list[str], another: list[str]
) -> None:
    """The facts hold what was meant, the parameter what was said; saying the same in other words makes nothing stale."""
    write_notebook(steps[0], parameters=JUDGED)
    finish(run, steps[0], model=model, judge=judge)
    write_json(run.path / FACTS, {"model": model, "reward_base": base})
    for given in ({}, *({"judge": said} for said in same)):
        assert [r.action for r in plan(run, steps[:1], given)] == ["skip"], given
    for said in another:
        with pytest.raises(SettingsError, match="was prepared with judge = .* Nothing was started"):
            plan(run, steps[:1], {"judge": said})


def test_a_run_that_does_not_exist_is_told_before_a_later_notebook_makes_all_of_it(steps: list[Path], run: Run) -> None:
    """A mistyped name is no new run; with another name the plan says what comes first, and nothing is said of a run that begins at its beginning."""
    late = plan(run, steps[1:], {"scale": "full"})
    assert "does not exist" in late[0].why and "01_prompts" in late[0].why and "scale full" in late[0].why
    assert "does not exist" not in late[1].why
    write_json(run.path / FACTS, {"scale": "full"})
    typo, other = Run("tinny", run.path.parent), Run("another", run.path.parent)
    with pytest.raises(RunError, match="Did you mean tiny.* --only 01_prompts.* Nothing was started"):
        plan(typo, steps[1:], {})
    assert "There is tiny" in plan(other, steps[1:], {})[0].why
    for begun, chosen in ((run, steps[1:]), (typo, steps), (other, steps[:1])):
        assert all("exist" not in row.why for row in plan(begun, chosen, {}))
