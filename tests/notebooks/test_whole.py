"""The notebooks as a newcomer runs them: the README's commands, word for word, at the smallest scale.

In the order of the file: later commands work on the run that earlier ones made.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.batch import records
from labkit.errors import DataError
from labkit.experiment import Experiment, simulated_labelers
from labkit.runs import Run
from labkit.world.pretrain import base_path
from tests.conftest import REPOSITORY
from tests.own_files import own_files
from tests.readme import command, commands

pytestmark = [pytest.mark.slow, pytest.mark.kernel]

PLOTLY, VIEW = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
STEPS = ["01_prompts", "02_sft", "03_rank", "04_reward", "05_ppo_ptx", "06_evaluate"]
FIGURES = {
    "00_tour": 6,
    "01_prompts": 2,
    "02_sft": 1,
    "03_rank": 1,
    "04_reward": 2,
    "05_ppo_ptx": 2,
    "06_evaluate": 4,
}  # at least


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder in which the README's commands are given; their runs lie in runs/, as there."""
    return tmp_path_factory.mktemp("readme")


def carry_out(words: list[str], root: Path, *more: str) -> subprocess.CompletedProcess:
    """A command of the README, with what makes it small (`more`) after it; files of the repository are those here."""
    here = [str(REPOSITORY / w) if w.startswith("notebooks/") else w for w in words]
    program = Path(sys.executable).with_name(here[0])
    environment = {**os.environ, "LABKIT_RUNS": str(root / "runs"), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([program, *here[1:], *more], cwd=root, env=environment, capture_output=True, text=True, timeout=580)


SMALL = ("--scale", "smoke", "-p", "model=small", "-p", "epochs=2")


@pytest.fixture(scope="module")
def tour(root):
    """The tour's run and what the command behind `make demo` printed."""
    done = carry_out(["labkit", "demo"], root, "-p", "scale=smoke", "-p", "model=small")
    return Run("tour", root / "runs"), done


@pytest.fixture(scope="module")
def pipeline(root):
    """The run of `labkit run mine` and what the command printed."""
    return Run("mine", root / "runs"), carry_out(command("labkit run mine"), root, *SMALL)


def check_done(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def outputs(notebook: Path) -> list[dict]:
    """All outputs of an executed notebook, none of which may be an error."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    found = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [o for o in found if o["output_type"] == "error"]
    return found


def check_reads_well(run: Run, name: str) -> None:
    """An executed notebook shows its figures as pictures, holds no widget state and is small."""
    notebook = run.path / "notebooks" / f"{name}.ipynb"
    shown = [o["data"] for o in outputs(notebook) if "data" in o]
    figures = [data for data in shown if PLOTLY in data]
    assert len(figures) >= FIGURES[name], name
    assert all("image/png" in data or "image/svg+xml" in data for data in figures), "a picture where no script runs"
    assert not [data for data in shown if VIEW in data]
    assert "widgets" not in json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    assert notebook.stat().st_size < 1_000_000, name


def tables_say(run: Run, name: str) -> str:
    """The plain text of all that an executed notebook shows."""
    return "\n".join("".join(o["data"].get("text/plain", "")) for o in outputs(run.path / "notebooks" / f"{name}.ipynb") if "data" in o)


def test_the_tour_ends_well_with_its_stages_and_numbers(tour):
    run, done = tour
    check_done(done)
    assert {s.path.name for s in run.stages() if s.status == "done"} >= {"sft", "reward", "ppo", "ppo_ptx", "evaluate"}
    for name in ("RM accuracy", "ppo_ptx gold", "ppo_ptx preferred to sft", "ppo_ptx LM loss"):
        assert re.search(rf"{name}\W+[\d.]+", done.stdout), done.stdout[-2000:]
    assert Path(re.search(r"Report: (.+)", done.stdout)[1]).is_file()


def test_the_executed_tour_reads_well(tour):
    check_reads_well(tour[0], "00_tour")


def test_the_pipeline_ends_well_and_writes_its_report(pipeline):
    run, done = pipeline
    check_done(done)
    assert [records.record_of(run, name).status for name in STEPS] == ["done"] * len(STEPS)
    assert (run.path / "report").is_dir() and "Report: " in done.stdout


@pytest.mark.parametrize("name", STEPS)
def test_each_executed_notebook_reads_well(pipeline, name):
    check_reads_well(pipeline[0], name)


def test_where_a_person_may_rank_or_judge_the_twin_stands_and_says_that_nobody_did(pipeline):
    shown = {name: json.dumps(outputs(pipeline[0].path / "notebooks" / f"{name}.ipynb")) for name in ("03_rank", "06_evaluate")}
    assert all("Ranking board of labeler me (static: nobody can rank here)" in text for text in shown.values())
    assert "no finished reward model yet: the cards come in their order" in shown["03_rank"]
    assert "Nobody has judged these answers blind yet: 0 rankings by people." in shown["06_evaluate"]


def test_a_second_run_has_nothing_to_do(pipeline, root):
    again = carry_out(command("labkit run mine"), root, *SMALL, "--dry-run")
    assert again.returncode == 0, again.stderr[-2000:]
    assert len(re.findall(r"skip +done and unchanged", again.stdout)) == len(STEPS)


def test_sft_trains_as_many_epochs_as_asked_and_the_choice_goes_over_all(pipeline):
    """Smoke would train one; the PPO init has its own."""
    run, _ = pipeline
    assert [run.stage(name).manifest["settings"]["epochs"] for name in ("sft", "ppo_init")] == [2, 1]
    chosen = json.loads((run.stage("sft").path / "epochs.json").read_text(encoding="utf-8"))
    assert [row["epoch"] for row in chosen["epochs"]] == [1, 2] and chosen["chosen"]["by"] == "rm_score"
    assert tables_say(run, "02_sft").count("your choice") == 1


def test_one_notebook_runs_again_with_another_number(pipeline, root):
    check_done(carry_out(command("labkit run mine --only"), root, "--scale", "smoke"))
    assert {s.knobs["kl_coef"] for s in pipeline[0].stage("ppo_ptx").steps()} == {0.1}


def test_a_sweep_starts_from_the_run(pipeline, root):
    done = carry_out(command("labkit sweep"), root, "-p", "scale=smoke", "--jobs", "1")
    check_done(done)
    points = [p for p in (root / "runs" / "05_ppo_ptx-sweep").iterdir() if (p / "ppo_ptx" / "run.json").is_file()]
    assert len(points) == 4 and Path(re.search(r"Comparison: (.+)", done.stdout)[1]).is_file()


def test_plain_papermill_trains_and_replays(pipeline, root):
    first, second = (w for w in map(shlex.split, commands()) if w[0] == "papermill")
    check_done(carry_out(first, root, "-p", "scale", "smoke"))
    trained = pipeline[0].stage("ppo_ptx").steps()
    assert {s.knobs["kl_coef"] for s in trained} == {0.05}
    shutil.copytree(pipeline[0].path, root / "runs" / "again", ignore=shutil.ignore_patterns("ppo*_ptx", "notebooks"))
    check_done(carry_out(second, root, "-p", "scale", "smoke"))
    replayed = Run("again", root / "runs").stage("ppo_ptx").steps()
    assert [s.metrics["score"] for s in replayed] == [s.metrics["score"] for s in trained]


def test_a_model_and_data_of_ones_own_go_to_the_board_and_through_ppo(pipeline, root):
    """Three notebooks of six, which make the stages of the others as they need them."""
    run, _ = pipeline
    shutil.copytree(base_path("small"), root / "path" / "to" / "model")
    own_files(Experiment(run, scale="smoke"), root / "path" / "to" / "folder")
    chosen = [word for name in ("01_prompts", "03_rank", "05_ppo_ptx") for word in ("--only", name)]
    check_done(carry_out(command("labkit run own"), root, "--scale", "smoke", *chosen))
    own = Run("own", root / "runs")
    assert "Whose answers win" in (own.path / "notebooks" / "03_rank.ipynb").read_text(encoding="utf-8")
    assert all("gold" not in s.metrics for s in own.stage("ppo_ptx").steps()), "nobody knows the truth of one's own data"
    lab = Experiment(own, scale="smoke")
    assert simulated_labelers(lab, 3) == [] and len(simulated_labelers(Experiment(run, scale="smoke"), 3)) == 3
    with pytest.raises(DataError, match="no simulated labelers"):
        _ = lab.source.labelers
