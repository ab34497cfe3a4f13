"""Every command that the README shows exists, parses, and runs where that is cheap."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.runs import write_jsonl

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
CHEAP = {("labkit", "--help"), ("labkit", "winrate"), ("labkit", "agreement")}

LABELS = [
    {"prompt": f"p{i}", "labeler": labeler, "ranks": {"a": 1, "b": 2, "c": 2 + (i + len(labeler)) % 2}}
    for i in range(6)
    for labeler in ("ada", "grace")
]
JUDGMENTS = [
    {"prompt_id": f"p{i}", "model_a": "ppo_ptx", "model_b": "sft", "preference": (1, 1, 0.5, 0)[i % 4], "judge": "ada"}
    for i in range(12)
]


def commands() -> list[str]:
    """The lines of the README's bash blocks; continued lines are joined, comments dropped."""
    blocks = re.findall(r"^```bash\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip() and not line.strip().startswith("#")]


def simple_commands() -> list[str]:
    return [part.strip() for line in commands() for part in re.split(r"&&|;|\|", line)]


def words(command: str) -> list[str]:
    """The words of a command without its comment and leading assignments."""
    split = shlex.split(command, comments=True)
    while split and re.fullmatch(r"[A-Z_]+=.*", split[0]):
        split = split[1:]
    return split


def check_make(arguments: list[str]) -> None:
    targets = [a for a in arguments if "=" not in a and not a.startswith("-")]
    dry = subprocess.run(["make", "-n", *targets], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


def check_labkit(arguments: list[str]) -> None:
    """Let the parser read the command without running it: an unknown option fails before --help shows."""
    from typer.testing import CliRunner

    from labkit.cli import app

    ended = CliRunner().invoke(app, [*arguments, "--help"])
    assert ended.exit_code == 0, ended.output


def check_papermill(arguments: list[str]) -> None:
    from labkit.batch import read_parameters

    notebook = REPOSITORY / arguments[0]
    declared = read_parameters(notebook)
    for flag, name, value in zip(arguments, arguments[1:], arguments[2:], strict=False):
        if flag == "-p":
            declared[name].parse(value, notebook.stem)


def check_python(arguments: list[str]) -> None:
    if arguments[:1] == ["-m"] and arguments[1].startswith(("labkit", "tests")):
        path = REPOSITORY.joinpath(*arguments[1].split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    elif arguments and arguments[0].endswith(".py"):
        assert (REPOSITORY / arguments[0]).is_file()


def test_the_readme_shows_commands() -> None:
    assert {"make demo", "make lab"} <= set(simple_commands())


@pytest.mark.parametrize("command", simple_commands())
def test_command_of_the_readme_exists(command: str) -> None:
    program, *arguments = words(command)
    checks = {
        "make": check_make,
        "labkit": check_labkit,
        "papermill": check_papermill,
        "python": check_python,
    }
    known = {"git", "cd", "pip", "conda", "jupyter", "accelerate", "pre-commit", "source", "export"}
    assert program in checks or program in known, f"no check knows {program!r}"
    if program in checks:
        checks[program](arguments)
    for argument in arguments:  # files of the repository that a command names are there
        if argument.startswith(("notebooks/", "labkit/", "widgets/", "tests/")):
            assert (REPOSITORY / argument).exists(), argument


@pytest.mark.parametrize("command", [c for c in simple_commands() if tuple(words(c)[:2]) in CHEAP] or ["labkit --help"])
def test_cheap_command_of_the_readme_runs(command: str, tmp_path: Path) -> None:
    program, *arguments = words(command)
    for name in (a for a in arguments if a.endswith(".jsonl")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(tmp_path / name, JUDGMENTS if "winrate" in arguments else LABELS)
    ended = subprocess.run(
        [sys.executable, "-m", "labkit.cli", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout) > 100
