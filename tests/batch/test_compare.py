"""The comparison of a sweep: gathered over seeds, drawn, written as one page."""

import json
import math
import shutil
from pathlib import Path

import pytest

from labkit.batch import compare
from labkit.batch.parents import bring_parents
from labkit.batch.records import record_of
from labkit.disk import write_json
from labkit.errors import RunError
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.runs import Run
from tests.batch.tiny import write_notebook
from tests.labels.helpers import draft, tasks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep of two β and three seeds, of which one point failed."""
    folder = tmp_path / "beta"
    write_json(folder / "sweep.json", {"notebook": "05_x", "base": None})
    for beta in (0.01, 0.1):
        for seed in (0, 1, 2):
            record = record_of(Run(f"kl_coef={beta},seed={seed}", folder), "05_x")
            record.begin(settings={"run": "r", "seed": seed, "kl_coef": beta})
            if (beta, seed) == (0.1, 2):
                record.finish("failed", error="05_x failed: <b>no luck</b>")
            else:
                record.finish("done", summary={"reward": beta + seed, "kl": 1.0, "note": "text", "bad": math.nan})
    return folder


def test_groups_leave_the_seed_out_and_count_done_points_only(folder: Path) -> None:
    low, high = compare.groups(compare.results(folder))
    assert (low.parameters, high.parameters) == ({"kl_coef": 0.01}, {"kl_coef": 0.1})
    assert low.mean("reward") == pytest.approx(1.01) and low.spread("reward") == pytest.approx(1.0)
    assert low.spread("kl") == 0.0
    assert len(high.numbers["reward"]) == 2
    assert set(low.numbers) == {"reward", "kl"}


def test_a_seed_that_was_trained_twice_counts_once(folder: Path) -> None:
    """As where a smaller grid, without a seed in its names, was made before."""
    record = record_of(Run("kl_coef=0.01", folder), "05_x")
    record.begin(settings={"run": "r", "seed": 0, "kl_coef": 0.01})
    record.finish("done", summary={"reward": 5.0})
    low, _ = compare.groups(compare.results(folder))
    assert sorted(low.numbers["reward"]) == [1.01, 2.01, 5.0], "the newest of the two"


def test_a_point_whose_base_has_changed_is_shown_and_not_counted(folder: Path) -> None:
    """A smaller grid was made, the base trained anew, and a larger grid left this point out."""
    base = Run("base", folder.parent)
    write_json(folder / "sweep.json", {"notebook": "05_x", "base": "base"})
    write_json(base.path / "labels.json", {"rankings": 10})
    notebook = write_notebook(folder.parent / "05_x.ipynb")
    for point in sorted(p for p in folder.iterdir() if p.is_dir()):
        bring_parents(base, Run(point.name, folder), notebook)
    assert not any(row["outdated"] for row in compare.results(folder))

    write_json(base.path / "labels.json", {"rankings": 11})
    for beta in (0.01, 0.1):
        for seed in (0, 1):
            bring_parents(base, Run(f"kl_coef={beta},seed={seed}", folder), notebook)
    low, high = compare.groups(compare.results(folder))
    assert sorted(low.numbers["reward"]) == [0.01, 1.01] and sorted(high.numbers["reward"]) == [0.1, 1.1]
    assert "outdated: labels.json of base changed" in compare.write_comparison(folder).read_text()
    shutil.rmtree(base.path)
    assert not any(row["outdated"] for row in compare.results(folder)), "of a base that is gone nothing can be said"


def test_looking_at_the_board_of_the_base_changes_no_point(folder: Path) -> None:
    """An opened session writes to its log; what counts is the rankings in force."""
    base, run = Run("base", folder.parent), Run("kl_coef=0.1,seed=0", folder)
    write_json(folder / "sweep.json", {"notebook": "05_x", "base": "base"})
    session = LabelSession(tasks(3), "ann", labels_path(base.path, "ann"))
    session.submit(draft("c1", "c0 c2"))
    bring_parents(base, run, write_notebook(folder.parent / "05_x.ipynb"))
    LabelSession(tasks(3), "ann", labels_path(base.path, "ann"))
    assert not any(row["outdated"] for row in compare.results(folder))
    LabelSession(tasks(3), "ann", labels_path(base.path, "ann")).submit(draft("c1", "c0 c2"))
    assert [row["point"] for row in compare.results(folder) if row["outdated"]] == [run.name]


def test_a_number_without_repetitions_has_no_spread() -> None:
    alone = compare.Group({}, {"reward": [1.0]})
    assert alone.mean("reward") == 1.0 and math.isnan(alone.spread("reward")) and math.isnan(alone.mean("other"))


def test_figure_has_a_panel_per_number_over_the_first_swept_parameter(folder: Path) -> None:
    fig = compare.comparison_figure(compare.groups(compare.results(folder)))
    assert [list(t.x) for t in fig.data] == [[0.01, 0.1]] * 2
    assert fig.layout.xaxis.type == "log"


def test_page_shows_means_spreads_and_failures_safely(folder: Path) -> None:
    page = compare.write_comparison(folder).read_text()
    assert "1.01 ± 1" in page and "data:image/png;base64" in page
    assert "&lt;b&gt;no luck" in page and "<b>no luck" not in page
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [r["status"] for r in rows].count("done") == 5
    assert (folder / "comparison.png").stat().st_size > 2000


def test_a_point_that_trained_something_has_a_model_sheet_and_a_link_to_it(folder: Path) -> None:
    stage = Run("kl_coef=0.1,seed=0", folder).stage("ppo_ptx")
    stage.begin(settings={"steps": 1}, seed=0)
    stage.finish()
    page = compare.write_comparison(folder).read_text()
    sheets = [r["sheet"] for r in map(json.loads, (folder / "results.jsonl").read_text().splitlines()) if r["sheet"]]
    assert sheets == ["kl_coef=0.1,seed=0/report/sheet.html"] and (folder / sheets[0]).exists()
    assert page.count("model sheet") == 1


def row(summary: dict, **parameters) -> dict:
    return {"status": "done", "parameters": {"seed": 0, **parameters}, "summary": summary}


def test_a_parameter_that_only_newer_points_have_is_no_seed() -> None:
    """The notebook was given another parameter after a first sweep: the older points stand first."""
    rows = [row({"y": 1.0}, a=1.0), *(row({"y": 100.0 * b}, a=1.0, b=b) for b in (3.0, 1.0, 2.0))]
    header, body = compare.comparison_table(compare.groups(rows))
    assert header == ["b", "y", "runs"]
    assert [line[-3:] for line in body] == [["1", "100", "1"], ["2", "200", "1"], ["3", "300", "1"], ["not there", "1", "1"]]
    assert compare.comparison_figure(compare.groups(rows)).layout.xaxis.type == "category"


def test_a_parameter_that_only_outdated_points_have_has_no_column() -> None:
    rows = [{**row({"y": 1.0}, a=1.0, b=b), "outdated": "its code changed"} for b in (1.0, 2.0)]
    rows += [row({"y": a}, a=a) for a in (1.0, 2.0)]
    assert compare.comparison_table(compare.groups(rows))[0] == ["a", "y", "runs"]


def test_points_of_a_notebook_with_other_parameters_are_outdated(folder: Path) -> None:
    notebook = write_notebook(folder.parent / "05_x.ipynb", parameters='run = "r"  # its name\nseed = 0  # its seed\nkl_coef = 0.1  # its beta')
    assert not any("parameters" in r["outdated"] for r in compare.results(folder, notebook))
    write_notebook(notebook, parameters='run = "r"  # its name\nseed = 0  # its seed\nb = 1.0  # another')
    told = {r["outdated"] for r in compare.results(folder, notebook) if r["status"] == "done"}
    assert told == {"the notebook has other parameters now: b, kl_coef"}


def test_seeds_that_diverged_or_say_nothing_are_counted_beside_the_mean() -> None:
    summaries = [{"y": 1.0, "c": 1, "d": math.inf}, {"y": math.nan, "c": 1, "d": math.nan}, {"y": 3.0, "d": math.nan}]
    rows = [{**row(s, kl_coef=k), "parameters": {"seed": n, "kl_coef": k}} for k in (0.01, 0.1) for n, s in enumerate(summaries)]
    rows[3:] = [{**r, "summary": {"y": 5.0, "c": 2, "d": 1.0}} for r in rows[3:]]
    found = compare.groups(rows)
    header, (some, whole) = compare.comparison_table(found)
    assert dict(zip(header, some, strict=True)) == {
        "kl_coef": "0.01", "y": "2 ± 1.4 (1 of 3 not finite)", "c": "1 ± 0 (1 of 3 not stated)", "d": "3 of 3 not finite", "runs": "3",
    }  # fmt: skip
    assert whole == ["0.1", "5 ± 0", "2 ± 0", "1 ± 0", "3"]
    notes = {(a.text, a.yref, a.x) for a in compare.comparison_figure(found).layout.annotations}
    assert notes == {("1 of 3 not finite", "y domain", -2.0), ("1 of 3 not stated", "y2 domain", -2.0), ("3 of 3 not finite", "y3 domain", -2.0)}


def test_a_folder_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no sweep"):
        compare.results(tmp_path)
