"""The report and the model sheet: whole without a network, truthful about failures, safe with hostile text."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from soupsieve import SelectorSyntaxError

from labkit.batch.records import record_of
from labkit.batch.report import notebook_page, summary_table, write_report
from labkit.batch.sheet import write_sheet
from labkit.disk import write_json, write_jsonl
from labkit.errors import RunError
from labkit.runs import Run
from labkit.types import Step

HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with one done stage, one failed stage and one record of a notebook."""
    run = Run("tiny", tmp_path / "runs")
    ppo = run.stage("ppo")
    ppo.begin(settings={"batch_size": 4}, seed=7, parents={"policy": "runs/tiny/sft"})
    for number in (1, 2, 3):
        sample = {"prompt_id": "p1", "prompt": "Say it.\n", "response": HOSTILE, "score": 0.5}
        ppo.append_step(Step("ppo", number, {"score": 0.25 * number, "kl_k1": 0.1}, {"kl_coef": 0.02}, (sample,)))
    turned = {"step": 2, "knob": "kl_coef", "asked": 0.1, "old": 0.02, "new": 0.1}
    ppo.append_ledger({**turned, "outcome": "applied", "by": "hand", "why": "KL <b>"})
    ppo.finish("done", test_win_rate=0.7125)
    sft = run.stage("sft")
    sft.begin(settings={})
    sft.finish("failed", error="loss is NaN at step 3")
    record = record_of(run, "05_x")
    record.begin(settings={"run": "tiny"})
    record.finish("done", summary={"win rate": 0.71234, "verdict": HOSTILE})
    return run


def write_executed(path: Path, *, markdown: str = "# Title") -> Path:
    output = nbformat.v4.new_output(
        "display_data",
        data={"application/vnd.plotly.v1+json": {"data": []}, "image/png": "iVBORw0KGgo=", "text/plain": "a figure"},
    )
    cells = [nbformat.v4.new_markdown_cell(markdown), nbformat.v4.new_code_cell("show", outputs=[output])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_an_executed_notebook_that_was_cut_off_costs_its_own_page_alone(run: Run) -> None:
    for name in ("05_x", "06_y", "07_z"):
        if name != "05_x":
            record_of(run, name).begin(settings={"run": "tiny"})
            record_of(run, name).finish("failed" if name == "06_y" else "done", error="the kernel died" if name == "06_y" else None)
        write_executed(run.path / "notebooks" / f"{name}.ipynb")
    (run.path / "notebooks" / "06_y.ipynb").write_text('{"cells": [{"cell_type": "code", "sou')
    (run.path / "notebooks" / "07_z.ipynb").write_text("[7]")
    index = write_report(run).read_text()
    assert "failed: the kernel died" in index and index.count("cannot be read as a notebook") == 2
    assert "05_x.html" in index and "06_y.html" not in index and "07_z.html" not in index


def test_sheet_shows_curves_numbers_samples_knobs_and_provenance(run: Run) -> None:
    page = write_sheet(run).read_text()
    for words in ("0.75", "test_win_rate", "0.7125", "batch_size", "runs/tiny/sft", "Say it.", "loss is NaN at step 3"):
        assert words in page, words
    assert len(re.findall(r"data:image/png;base64,[A-Za-z0-9+/=]{2000,}", page)) == 1


def test_sheet_executes_nothing_that_a_model_wrote(run: Run) -> None:
    page = write_sheet(run).read_text()
    assert "<script" not in page and "KL <b>" not in page
    assert "\u202e" not in page and "⟨RLO⟩" in page


def test_sheet_shows_an_evaluation_with_its_answers_side_by_side(run: Run) -> None:
    stage = run.stage("evaluate")
    stage.begin(settings={})
    results = {
        "baseline": "sft",
        "preferences": [{"model": "ppo", "group": "held-out labelers", "rate": 0.71, "low": 0.6, "high": 0.8}],
        "quality": [{"model": "ppo", "gold": 0.83125, "flags": {"hallucination": 0.1}}],
        "benchmarks": [{"model": m, "benchmark": "reading", "value": 0.5} for m in ("sft", "ppo")],
    }
    write_json(stage.path / "results.json", results)
    write_jsonl(run.path / "prompts" / "test.jsonl", [{"id": "p1", "text": "What does the fox eat?\n"}])
    answers = [
        {"prompt_id": "p1", "model": "sft", "text": "Fish."},
        {"prompt_id": "p1", "model": "ppo", "text": HOSTILE},
        {"prompt_id": "p1", "model": "base", "text": ""},
    ]
    write_jsonl(stage.path / "samples.jsonl", answers)
    stage.finish()
    page = write_sheet(run).read_text()
    for words in ("0.71", "0.8313", "What does the fox eat?", "Fish.", "held-out labelers", "(empty answer)"):
        assert words in page, words
    assert page.count("data:image/png;base64") == 3 and "<script" not in page


def test_sheet_of_a_run_without_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no stage"):
        write_sheet(Run("empty", tmp_path))


def test_report_links_the_notebooks_and_the_sheet(run: Run) -> None:
    write_executed(run.path / "notebooks" / "05_x.ipynb")
    index = write_report(run)
    page = index.read_text()
    assert 'href="05_x.html"' in page and 'href="sheet.html"' in page and "0.7123" in page and "<script" not in page
    assert (index.parent / "sheet.html").exists()
    assert "win rate" in summary_table(run, "05_x") and "0.7123" in summary_table(run, "05_x")


@pytest.mark.parametrize(("scale", "warned"), [("smoke", 1), ("tour", 0)])
def test_report_and_sheet_say_at_which_scale_seed_and_model_and_what_smoke_is_worth(run: Run, scale: str, warned: int) -> None:
    write_executed(run.path / "notebooks" / "05_x.ipynb")
    assert "scale" not in write_report(run).read_text().split("<body>")[1].split("<table>")[0]  # nothing says it: no empty line
    write_json(run.path / "prompts" / "experiment.json", {"scale": scale, "seed": 3, "model": "medium"})
    for page in (write_report(run), write_sheet(run)):
        head = page.read_text().split("<h1>")[1].split("<table>")[0]
        assert f"scale {scale} · seed 3 · model medium" in head
        assert head.count("its numbers mean nothing") == warned


def test_report_of_a_run_without_notebooks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no executed notebook"):
        write_report(Run("empty", tmp_path))


def test_page_of_a_notebook_shows_the_static_twin_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    page = notebook_page(write_executed(tmp_path / "x.ipynb"), tmp_path / "x.html").read_text()
    assert "data:image/png;base64,iVBORw0KGgo=" in page
    assert not re.findall(r"""(?:src|href|from)\s*=?\s*["']https?://""", page)


@pytest.mark.parametrize("formula", [r"$\beta$", r"$$\frac{\pi(y\mid x)}{\pi_\mathrm{ref}(y\mid x)}$$"])
def test_page_with_formulas_draws_them_without_script_or_network(tmp_path: Path, formula: str) -> None:
    page = notebook_page(write_executed(tmp_path / "x.ipynb", markdown=f"So {formula} it is."), tmp_path / "x.html").read_text()
    assert not re.findall(r"""(?:src|href|from)\s*=?\s*["']https?://""", page)
    assert "<math " in page and formula not in page and not re.search(r"<script[^>]+src=", page)


def test_a_formula_that_cannot_be_read_stays_as_it_was_written(tmp_path: Path) -> None:
    page = notebook_page(write_executed(tmp_path / "x.ipynb", markdown=r"$a_1_2 <b>$"), tmp_path / "x.html").read_text()
    assert r"<code>$a_1_2 &lt;b&gt;$</code>" in page


def test_every_formula_of_the_notebooks_can_be_drawn(repository: Path) -> None:
    from labkit.batch.formulas import mathml

    cells = [c for f in (repository / "notebooks").glob("*.ipynb") for c in json.loads(f.read_text())["cells"]]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    found = re.findall(r"\$\$(.+?)\$\$", prose, re.S)
    assert len(found) >= 3 and all(mathml(f, "block").startswith("<math") for f in found)


def test_a_page_is_written_also_where_pythons_re_cannot_read_the_selectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 12 has CPython 3.11.2, in which soupsieve 4 fails: each `labkit run` ended in a traceback at its report."""

    def fails(self: object, selector: str) -> None:
        raise SelectorSyntaxError("Invalid character 'i' position 0", selector, 0)

    monkeypatch.setattr("bs4.BeautifulSoup.select", fails)
    page = notebook_page(write_executed(tmp_path / "x.ipynb", markdown="So $x$ it is."), tmp_path / "x.html").read_text()
    assert "<math " in page and "data:image/png;base64,iVBORw0KGgo=" in page
    assert not re.findall(r"""(?:src|href|from)\s*=?\s*["']https?://""", page) and not re.search(r"<script[^>]+src=", page)
