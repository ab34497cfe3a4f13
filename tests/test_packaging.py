"""pyproject.toml, constraints.txt, environment.yml and the Makefile agree; the package carries its data files."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

NOT_PINNED = {"eval"}  # the tests never install it, so no version of its is known to work
NOT_INSTALLED = {*NOT_PINNED, "dev"}  # extras that `make test` leaves out


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins(repository: Path) -> dict[str, Version]:
    """Name and version of every line of constraints.txt."""
    lines = (repository / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[^,+]+", str(r.specifier)) for r in found), "exact public versions only"
    return {canonicalize_name(r.name): Version(str(r.specifier)[2:]) for r in found}


def requirements(project: dict, *, without: set[str] = NOT_PINNED) -> list[Requirement]:
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(v for k, v in extras.items() if k not in without)]
    return [r for r in map(Requirement, sum(lists, [])) if r.name != project["name"]]


def test_every_dependency_is_pinned_within_its_range(project: dict, pins: dict[str, Version]) -> None:
    for requirement in requirements(project):
        version = pins.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} has no line in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


def test_every_dependency_of_a_dependency_is_pinned(project: dict, pins: dict[str, Version]) -> None:
    waiting, seen = requirements(project, without=NOT_INSTALLED), set()  # what a package needs is read off the installed one
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, tuple(requirement.extras)) in seen:
            continue
        seen.add((name, tuple(requirement.extras)))
        assert name in pins, f"{name} has no line in constraints.txt"
        for line in metadata.requires(name) or ():
            below = Requirement(line)
            extras = [*requirement.extras, ""]
            if below.marker is None or any(below.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(below)


def test_conda_environment_asks_for_the_same(repository: Path, project: dict) -> None:
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    plain = [d for d in environment["dependencies"] if isinstance(d, str)]
    python = next(d.removeprefix("python=") for d in plain if d.startswith("python="))
    assert SpecifierSet(project["requires-python"]).contains(python)
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip[0] == "--constraint constraints.txt"
    extras = re.fullmatch(r"--editable \.\[(.+)\]", pip[1])[1].split(",")
    assert set(extras) <= set(project["optional-dependencies"]) and len(pip) == 2


def test_make_installs_the_pinned_torch_first_and_everything_under_the_constraints(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text()
    installs = re.findall(r"\$\(PIP\) install (.+)", makefile)
    assert "grep '^torch=='" in installs[0] and len(re.findall(r"^torch==", _constraints(repository), re.M)) == 1
    assert all("--constraint constraints.txt" in line for line in installs[1:])


def test_make_lab_brings_the_labs_own_settings(repository: Path) -> None:
    recipe = re.search(r"^lab:.*\n\t(.+)", (repository / "Makefile").read_text(), re.M)[1]
    folder = re.search(r"JUPYTER_CONFIG_PATH=\$\(CURDIR\)/(\S+)", recipe)[1]
    code = (
        "from jupyter_server.services.config.manager import ConfigManager\n"
        "found = ConfigManager(config_dir_name='labconfig').get('default_setting_overrides')\n"
        "print(found['@jupyterlab/apputils-extension:kernels-settings']['commsOverSubshells'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JUPYTER_CONFIG_PATH": str(repository / folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip() == "disabled", ended.stderr


def test_continuous_integration_runs_make_test_and_nothing_else(repository: Path) -> None:
    script = repository / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith(("#", "set", "cd"))]
    assert commands == ["exec make test"]


def test_git_keeps_nothing_of_runs_but_the_readme(repository: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "runs"], cwd=repository, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    assert tracked.stdout.split() == ["runs/README.md"]


def test_the_wheel_carries_every_data_file(repository: Path) -> None:
    patterns = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for package, globs in patterns.items():
        carried = {p for g in globs for p in (repository / package).glob(g)}
        data = [
            p
            for p in (repository / package).rglob("*")
            if p.is_file() and p.suffix not in {".py", ".pyc", ".md"} and "__pycache__" not in p.parts
        ]
        missing = [str(p.relative_to(repository)) for p in data if p not in carried]
        assert not missing, f"add to [tool.setuptools.package-data]: {missing}"


def _constraints(repository: Path) -> str:
    return (repository / "constraints.txt").read_text()
