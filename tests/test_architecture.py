"""The house stands as it was drawn: imports go down only, Jupyter stays above, notebooks hold prose and short cells."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
#: Floors of labkit from the bottom up; a module may import its own floor (not another stage) and those below.
FLOORS = [
    {"disk", "errors", "types", "knobs", "processes", "runs", "seeds", "settings"},
    {"sampling", "rl", "models", "data", "labels", "world", "stepwise", "dropout"},
    {"sft", "reward", "ppo"},
    {"jobs", "figures", "evaluation", "batch", "presets", "paper", "alerts"},
    {"experiment"},
    {"baselines", "iterate"},
    {"findings"},
    {"cli"},
]
STAGES = FLOORS[2]
WORDS = FLOORS[0]
JUPYTER = ("IPython", "ipykernel", "ipywidgets", "anywidget", "jupyter", "jupyterlab", "notebook")
MODULES = sorted(p for folder in ("labkit", "widgets") for p in (REPOSITORY / folder).rglob("*.py"))
LIBRARY = [p for p in MODULES if p.is_relative_to(REPOSITORY / "labkit")]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
LONGEST_CELL = 25
WIDEST_TOUR = 106  # letters of a line that JupyterLab shows at 1,280 pixels with its file browser open; the tour is what newcomers see


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Absolute names of all modules that a file imports, inside functions as well unless `top_only`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in _top(tree) if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: imports are absolute"
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return found


def _top(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run when the module is imported; `if TYPE_CHECKING` blocks do not."""
    flat = []
    for node in tree.body:
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        flat += [] if typing_only else [n for n in ast.walk(node) if not isinstance(node, ast.FunctionDef)]
    return flat


def part_of(module: str) -> str | None:
    """The part of labkit that a module belongs to: "labkit.ppo.loop" -> "ppo"."""
    pieces = module.split(".")
    return pieces[1] if pieces[0] == "labkit" and len(pieces) > 1 else None


def floor_of(part: str) -> int:
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def own_part(path: Path) -> str:
    return path.relative_to(REPOSITORY / "labkit").parts[0].removesuffix(".py")


def test_every_part_of_the_library_stands_on_a_floor() -> None:
    parts = {own_part(p) for p in LIBRARY} - {"__init__"}
    assert parts == set().union(*FLOORS) & parts, f"give {parts - set().union(*FLOORS)} a floor in design and test"


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    own = own_part(path)
    used = {part_of(m) for m in imports(path)} - {None, own} & set().union(*FLOORS)
    if own == "__init__":
        assert not used, "importing labkit loads the standard library only"
        return
    above = {part for part in used if floor_of(part) > floor_of(own)}
    assert not above, f"{name_of(path)} imports {above} from a floor above its own"
    assert not (own in STAGES and used & STAGES), f"{name_of(path)}: the stages never import each other"


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_nothing_below_the_widgets_knows_jupyter(path: Path) -> None:
    used = {m for m in imports(path) if m.split(".")[0] in (*JUPYTER, "widgets")}
    assert not used, f"{name_of(path)} imports {used}"


@pytest.mark.parametrize("path", [p for p in LIBRARY if own_part(p) in WORDS], ids=name_of)
def test_words_need_the_standard_library_only(path: Path) -> None:
    used = {m.split(".")[0] for m in imports(path)} - {"labkit"}
    assert used <= set(sys.stdlib_module_names), f"{name_of(path)} imports {used - set(sys.stdlib_module_names)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text and len(text.split()) >= 4, f"{name_of(path)} needs a docstring"


@pytest.mark.parametrize("path", [p for p in LIBRARY if p.name == "__init__.py"], ids=name_of)
def test_a_package_that_lists_its_files_lists_them_all(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    listed, there = set(re.findall(r"\b(\w+\.py)\b", told)), {p.name for p in path.parent.glob("[!_]*.py")}
    assert not listed or listed == there, f"{name_of(path)} forgets {there - listed}, or names {listed - there}"


def test_files_stay_readable() -> None:
    long = {name_of(p): n for p in MODULES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long, f"make folders of these: {long}"


def test_lint() -> None:
    ended = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-4000:]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebooks_are_committed_clean(path: Path) -> None:
    book = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in book["metadata"], "strip the widget state"
    assert book["metadata"]["kernelspec"]["name"] == "python3", "papermill asks the notebook for its kernel"
    for cell in book["cells"]:
        assert not cell.get("outputs") and not cell.get("execution_count"), "strip the outputs (nbstripout)"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebooks_are_short_cells_of_public_names(path: Path) -> None:
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        where = f"{path.name}, cell {number + 1}"
        assert len(source.splitlines()) <= LONGEST_CELL, f"{where} is longer than {LONGEST_CELL} lines"
        cut = [line for line in source.splitlines() if len(line) > WIDEST_TOUR and path.stem == "00_tour"]
        assert not cut, f"{where} has lines that are cut beside an open file browser: {cut}"
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.ClassDef), f"{where} defines a class"
            private = isinstance(node, ast.ImportFrom) and any(a.name.startswith("_") for a in node.names)
            assert not private, f"{where} imports a private name"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebooks_check_their_parameters_and_state_their_end(path: Path) -> None:
    from labkit.batch import check_parameters, read_parameters

    declared = read_parameters(path)
    assert "run" in declared
    check_parameters(declared, {}, path.stem)
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    tagged = next(i for i, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", []))
    begins = "".join(cells[tagged + 1]["source"])
    assert "begin(globals()" in begins and path.stem in begins, "check the parameters in the next cell"
    assert ".finish(" in "".join(cells[-1]["source"]), "the last cell states the outcome"
