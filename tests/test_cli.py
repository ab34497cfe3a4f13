"""The command line: one sentence for a mistake, the right exit code, the same results as the library."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from labkit.batch.notebooks import Outcome
from labkit.batch.pipeline import Row
from labkit.cli import main
from labkit.disk import write_jsonl
from labkit.errors import RunError
from labkit.runs import Run
from tests.batch.tiny import train, write_notebook


@dataclass
class Ended:
    """What a call of the command line left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def labkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> Callable[..., Ended]:
    """Call the console script's own entry point, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABKIT_RUNS", raising=False)

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["labkit", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        return Ended(left.value.code, *capsys.readouterr())

    return call


def test_the_folder_of_runs_may_be_named_from_home(labkit: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_RUNS", "~/elsewhere")
    assert str(tmp_path / "elsewhere" / "nobody") in labkit("report", "nobody").err
    assert str(tmp_path / "there" / "nobody") in labkit("report", "nobody", "--root", "~/there").err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["notebook", "05_x.ipynb", "-p", "bogus=1"], 2, "05_x has no parameter 'bogus'"),
        (["notebook", "05_x.ipynb", "-p", "kl_coef=11"], 2, "must lie between 0 and 10"),
        (["notebook", "05_x.ipynb", "-p", "kl_coef"], 2, "write -p name=value"),
        (["notebook", "no_such"], 2, "There is no notebook 'no_such'"),
        (["notebook", "05_x.ipynb", "--run", "../up"], 2, "cannot name a run"),
        (["sweep", "05_x.ipynb", "-p", "seed=0,x"], 2, "parameter seed is 'x'"),
        (["sweep", "05_x.ipynb", "-p", "seed=0", "--from", "nobody"], 1, "nobody does not exist"),
        (["report", "nobody"], 1, "holds no executed notebook"),
        (["report", "--sheet", "nobody"], 1, "holds no stage"),
        (["agreement", "missing.jsonl"], 2, "missing.jsonl"),
        (["winrate", "missing.jsonl"], 2, "missing.jsonl"),
        (["world", "pretrain", "huge"], 2, "no base 'huge'"),
    ],
)
def test_a_mistake_is_one_sentence_and_no_traceback(
    labkit: Callable[..., Ended], tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write_notebook(tmp_path / "05_x.ipynb")
    ended = labkit(*arguments)
    assert words in ended.err and "Traceback" not in ended.err, ended.err
    assert ended.code == code
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["findings", "--jobs", "-1"],
        ["findings", "--jobs", "0"],
        ["sweep", "05_x.ipynb", "-p", "seed=0", "--jobs", "0"],
        ["methods", "--best-of", "-3"],
    ],
)
def test_a_count_out_of_range_is_refused_before_anything_begins(labkit: Callable[..., Ended], tmp_path: Path, arguments: list[str]) -> None:
    write_notebook(tmp_path / "05_x.ipynb")
    ended = labkit(*arguments)
    assert ended.code == 2 and arguments[-2] in ended.err and not (tmp_path / "runs").exists()


def test_debug_lets_the_error_through(labkit: Callable[..., Ended]) -> None:
    with pytest.raises(RunError, match="holds no executed notebook"):
        labkit("--debug", "report", "nobody")


@pytest.mark.kernel
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk; what was there before stays whole."""
    write_notebook(tmp_path / "05_x.ipynb", ["for i in range(3000):\n    print('a line of a long log', i)"])
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)); "
        "sys.argv = ['labkit', 'notebook', '05_x.ipynb', '--run', 'full']; from labkit.cli import main; main()"
    )
    before = tmp_path / "runs" / "full" / "labels" / "ada.jsonl"
    write_jsonl(before, [{"rank": 1}])
    ended = subprocess.run([sys.executable, "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "Could not write" in ended.stderr and "Free some space" in ended.stderr
    assert before.read_text() == '{"rank": 1}\n'


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RunError("Could not write index.html")])
@pytest.mark.parametrize("fails", [True, False])
def test_a_report_that_cannot_be_written_does_not_hide_what_failed(labkit, tmp_path, monkeypatch, error, fails) -> None:
    path = write_notebook(tmp_path / "05_x.ipynb")
    outcome = Outcome(path.stem, "failed" if fails else "done", 1.0, "05_x failed: no luck" if fails else "")
    monkeypatch.setattr("labkit.batch.notebooks.execute", lambda *a, **k: outcome)
    row = Row("05_x", outcome.status, outcome.error)
    monkeypatch.setattr("labkit.batch.pipeline.pipeline", lambda *a, **k: [row])

    def full(run: Run) -> Path:
        raise error

    monkeypatch.setattr("labkit.batch.report.write_report", full)
    for command in (["notebook", "05_x.ipynb"], ["run", "--only", "05_x.ipynb"]):
        ended = labkit(*command)
        assert ended.code == 1 and "Traceback" not in ended.err
        assert ended.err.startswith("05_x failed: no luck\nThere is no report of it: ") == fails
        assert str(error).split("] ")[-1] in ended.err


@pytest.mark.kernel
def test_run_executes_skips_reports_and_fails_truthfully(labkit: Callable[..., Ended], tmp_path: Path) -> None:
    write_notebook(
        tmp_path / "notebooks" / "01_a.ipynb",
        [train("sft")],
        finish="session.finish(stages=['sft'], summary={'loss': .5})",
    )
    second = write_notebook(tmp_path / "notebooks" / "02_b.ipynb", ["raise ValueError('no luck')"])
    here = ["--notebooks", "notebooks", "--root", "runs"]
    dry = labkit("run", "try", "--dry-run", *here)
    assert dry.code == 0 and dry.out.count("not run yet") == 2 and not (tmp_path / "runs").exists()

    first = labkit("run", "try", *here)
    assert first.code == 1 and "ValueError: no luck" in first.err and "Traceback" not in first.err
    assert (tmp_path / "runs" / "try" / "report" / "index.html").is_file()

    write_notebook(second)
    again = labkit("run", "try", *here)
    assert again.code == 0, again.err
    assert "done and unchanged" in again.out and "its last run failed" in again.out and "loss 0.5" in again.out
    manifest = json.loads((Run("try", tmp_path / "runs").path / "notebooks" / "01_a" / "run.json").read_text())
    assert manifest["status"] == "done"
