"""Every command that the README shows is carried out by a test, named here; the cheap ones run here."""

import contextlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.disk import read_jsonl, write_jsonl
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.world.pretrain import base_path
from tests.conftest import REPOSITORY
from tests.labels.helpers import draft, tasks
from tests.readme import command, commands, programs

CHEAP = (
    "labkit agreement labels.jsonl",
    "labkit screening labels.jsonl",
    "labkit winrate judgments.jsonl --json",
    "labkit labels export runs/mine/labels --to trl --out pairs.jsonl",
    "labkit labels export runs/mine/labels --to remarks --out remarks.jsonl",
    "labkit findings --plan",
)
WHOLE, LAUNCH, FINDINGS = "tests.notebooks.test_whole", "tests.speed.test_launch", "tests.findings.test_smoke"
#: command -> the test that carries it out, at the smallest scale; of `make demo` all but the installation.
RUN_BY = {
    "make demo": f"{WHOLE}.test_the_tour_ends_well_with_its_stages_and_numbers",
    "make lab": "tests.notebooks.test_make_lab.test_make_lab_serves_the_tour_with_its_settings",
    "labkit run mine": f"{WHOLE}.test_the_pipeline_ends_well_and_writes_its_report",
    "labkit run mine --only": f"{WHOLE}.test_one_notebook_runs_again_with_another_number",
    "labkit sweep": f"{WHOLE}.test_a_sweep_starts_from_the_run",
    "papermill": f"{WHOLE}.test_plain_papermill_trains_and_replays",
    "labkit findings first": f"{FINDINGS}.test_the_command_reads_what_was_made",
    "labkit iterate": f"{FINDINGS}.test_iterate_by_command_goes_on_where_it_was",
    "labkit methods": f"{FINDINGS}.test_methods_by_command_train_what_is_missing_and_share_one_sheet",
    "labkit compare": "tests.experiment.test_side_by_side.test_the_command_prints_the_table_or_json",
    "labkit replay": "tests.test_replays.test_a_run_by_hand_is_made_again_from_start_to_end",
    "labkit benchmarks": "tests.evaluation.test_harness.test_the_command_asks_the_models_of_a_run_a_task_of_ones_own",
    "labkit folds": "tests.test_groups.test_the_command_takes_a_runs_rankings_and_says_where_they_are_too_few",
    "labkit close": "tests.batch.test_closing.test_the_command_shows_closes_and_refuses",
    "labkit tidy": "tests.batch.test_tidying.test_the_command_lists_frees_and_refuses",
    "labkit run own": f"{WHOLE}.test_a_model_and_data_of_ones_own_go_to_the_board_and_through_ppo",
    "accelerate launch --multi_gpu --num_processes": f"{LAUNCH}.test_a_line_of_the_readme_gives_the_run_of_one_process",
    "accelerate launch --use_fsdp": f"{LAUNCH}.test_a_line_of_the_readme_gives_the_run_of_one_process",
    "accelerate launch --multi_gpu --num_machines": f"{LAUNCH}.test_the_line_for_several_machines_gives_it_too",
    "python -m labkit.experiment.launch": f"{LAUNCH}.test_the_line_for_little_memory_runs",
    **dict.fromkeys(CHEAP, "tests.test_readme.test_cheap_command_runs"),
}

LABELS = [
    {"prompt": f"p{i}", "labeler": labeler, "ranks": {"a": 1, "b": 2, "c": 2 + (i + len(labeler)) % 2}}
    for i in range(6)
    for labeler in ("ada", "grace")
]
JUDGMENTS = [
    {"prompt_id": f"p{i}", "model_a": "ppo_ptx", "model_b": "sft", "preference": (1, 1, 0.5, 0)[i % 4], "judge": "ada"}
    for i in range(12)
]


def test_every_command_is_carried_out_by_a_test() -> None:
    for line in commands():
        start = max((s for s in RUN_BY if line.startswith(s)), key=len, default=None)
        assert start, f"no test carries out {line!r}"
        module, _, name = RUN_BY[start].rpartition(".")
        source = (REPOSITORY / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
        assert f"def {name}(" in source, RUN_BY[start]


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("labkit")])
def test_the_parser_knows_the_options(line: str) -> None:
    """Without running it: an unknown option fails before --help shows."""
    from typer.testing import CliRunner

    from labkit.cli import app

    ended = CliRunner().invoke(app, [*shlex.split(line)[1:], "--help"])
    assert ended.exit_code == 0, ended.output


@pytest.mark.parametrize("target", [c.split()[1] for c in commands() if c.startswith("make")])
def test_make_knows_the_target(target: str) -> None:
    dry = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr
    assert {"demo": "labkit demo", "lab": "jupyter lab"}[target] in dry.stdout


@pytest.mark.parametrize("line", [*CHEAP[:-1], pytest.param(CHEAP[-1], marks=pytest.mark.slow)])
def test_cheap_command_runs(line: str, tmp_path: Path) -> None:
    arguments = command(line)[1:]
    if "export" in arguments:
        with contextlib.closing(LabelSession(tasks(3), "ada", labels_path(tmp_path / "runs" / "mine", "ada"))) as desk:
            desk.submit(draft("c1", "c0 c2", comment="was torn"))
            desk.skip("too long")
    else:
        for name in (a for a in arguments if a.endswith(".jsonl")):
            write_jsonl(tmp_path / name, JUDGMENTS if "winrate" in arguments else LABELS)
    ended = subprocess.run(
        [sys.executable, "-m", "labkit.cli", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout) > 100
    assert "--out" not in arguments or len(list(read_jsonl(tmp_path / arguments[-1]))) == 2


@pytest.mark.parametrize("program", programs())
def test_a_program_runs_as_it_stands(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a base of the world in the place of one's own model."""
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(tmp_path)
    own: dict[str, object] = {}
    exec(program.replace("path/to/model", str(base_path("small"))), own)
    assert own["step"].number == own["settings"].steps and AutoModelForCausalLM.from_pretrained(tmp_path / "mine")
