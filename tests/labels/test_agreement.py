"""Agreement statistics: known values, properties, files as people write them."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from typer.testing import CliRunner

from labkit.cli import app
from labkit.errors import DataError, LabError
from labkit.labels.agreement import Records, agreement, agreement_of_files, agreement_of_records
from labkit.labels.agreement import statistics as stats
from labkit.labels.agreement.records import read_records
from labkit.labels.agreement.tables import comparison_labels, rank_labels, rating_labels
from labkit.labels.intervals import resamples
from labkit.labels.session import LabelSession
from labkit.labels.store import labels_path
from labkit.types import Completion, Prompt, Ranking
from tests.labels.helpers import draft, tasks

FAST = {"replicates": 200}


def ranked(prompts: int, labelers: int, k: int, *, seed: int = 0, noise: float = np.inf, ties: bool = False) -> Records:
    """Rankings around a common truth: noise 0 is perfect agreement, infinite noise is independence."""
    rng, records = np.random.default_rng(seed), Records()
    for p in range(prompts):
        truth = rng.permutation(k)
        for labeler in range(labelers):
            values = truth + rng.normal(size=k) * noise if np.isfinite(noise) else rng.normal(size=k)
            places = np.argsort(np.argsort(values))
            places = places // 2 if ties else places
            records.add_ranks(f"p{p}", f"L{labeler}", {f"c{i}": float(places[i]) for i in range(k)})
    return records


def rated(table: list[list[float | None]]) -> Records:
    """Ratings from rows of raters and columns of items; None is missing."""
    records = Records()
    for rater, row in enumerate(table):
        for item, value in enumerate(row):
            if value is not None:
                records.add_rating(f"i{item:03}", "", f"L{rater}", value)
    return records


def test_perfect_agreement_is_one_everywhere():
    section = agreement_of_records(ranked(30, 3, 4, noise=0), **FAST).rankings
    assert {name: figure.value for name, figure in section.figures.items()} == dict.fromkeys(section.figures, 1.0)
    assert all(row["cohen_kappa"].value == 1 for row in section.labeler_pairs)
    assert "does not mean certainty" in section.figures["agreement_strict"].note


def test_of_no_labels_there_is_nothing_to_tell_and_no_error():
    """A board that nobody has ranked on yet is no mistake; files without a ranking are."""
    report = agreement([])
    assert report.rankings is None and report.ratings is None and report.tables() == []


def test_independent_labelers_agree_by_chance():
    section = agreement_of_records(ranked(400, 3, 4), **FAST).rankings
    for name, figure in section.figures.items():
        chance = 0.5 if name.startswith("agreement") else 0.0
        assert figure.value == pytest.approx(chance, abs=0.04), name
        assert figure.low < chance < figure.high, name


def test_tie_counting_is_as_defined():
    records = Records()
    records.add_ranks("p", "ann", {"a": 1, "b": 1, "c": 2, "d": 3})
    records.add_ranks("p", "bob", {"a": 1, "b": 2, "c": 2, "d": 1})
    # pairs          ab    ac    ad    bc    bd    cd
    # ann            =     <     <     <     <     <
    # bob            <     <     =     =     >     >
    section = agreement_of_records(records, **FAST).rankings
    assert section.counts["pairs"] == 6 and section.counts["pairs_strict"] == 3
    assert section.counts["pairs_tied_by_one"] == 3 and section.counts["pairs_tied_by_both"] == 0
    assert section.figures["agreement_strict"].value == pytest.approx(1 / 3)
    assert section.figures["agreement_all"].value == pytest.approx(1 / 6)
    assert section.figures["agreement_half"].value == pytest.approx((1 + 3 * 0.5) / 6)
    assert section.figures["agreement_strict"].low is None and "One prompt" in section.figures["agreement_strict"].note


@pytest.mark.parametrize("ties", [False, True])
def test_kendall_is_the_mean_of_scipys(ties):
    records = ranked(25, 3, 5, noise=2.0, ties=ties)
    expected = []
    for by_rater in records.rankings.values():
        rows = [[ranks[i] for i in sorted(ranks)] for _, ranks in sorted(by_rater.items())]
        expected += [kendalltau(rows[a], rows[b]).statistic for a in range(3) for b in range(a + 1, 3)]
    figure = stats.kendall_tau(comparison_labels(records.rankings).pairs(), **FAST)
    assert figure.value == pytest.approx(np.mean(expected)) and figure.n == 75


def test_kendall_leaves_out_a_labeler_who_ties_everything():
    records = ranked(5, 2, 3, noise=0)
    records.add_ranks("p0", "L1", {"c0": 1, "c1": 1, "c2": 1})
    assert stats.kendall_tau(comparison_labels(records.rankings).pairs(), **FAST).n == 4


def test_known_values_of_cohen_fleiss_and_krippendorff():
    yes_no = [[1.0] * 25 + [0.0] * 25, [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15]
    labels = rating_labels(rated(yes_no).ratings)
    assert stats.cohen_kappa(labels.pairs(), 2, **FAST).value == pytest.approx(0.4)  # Cohen's textbook table
    counts = [
        *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
        *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
    ]
    columns = [[float(v) for v, n in enumerate(row) for _ in range(n)] for row in counts]
    fleiss = stats.fleiss_kappa(rating_labels(rated(list(map(list, zip(*columns, strict=True)))).ratings), **FAST)
    assert fleiss.value == pytest.approx(0.210, abs=5e-4)  # Fleiss 1971
    n = None
    table = [
        [n, n, n, n, n, 3, 4, 1, 2, 1, 1, 3, 3, n, 3],
        [1, n, 2, 1, 3, 3, 4, 3, n, n, n, n, n, n, n],
        [n, n, 2, 1, 3, 4, 4, n, 2, 1, 1, 3, 3, n, 4],
    ]
    labels = rating_labels(rated(table).ratings)
    assert stats.alpha(labels, "nominal", **FAST).value == pytest.approx(0.691, abs=5e-4)  # Krippendorff 2011
    assert stats.alpha(labels, "interval", **FAST).value == pytest.approx(0.811, abs=5e-4)
    assert "alpha" in stats.fleiss_kappa(labels, **FAST).note and stats.fleiss_kappa(labels, **FAST).value is None


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_on_weights_equals_the_package_on_every_resample(level):
    import krippendorff

    rng = np.random.default_rng(3)
    table = [[float(v) if rng.random() < 0.8 else None for v in rng.integers(1, 6, 12)] for _ in range(4)]
    labels = rating_labels(rated(table).ratings)
    estimate = stats.alpha_on_weights(labels, level)
    (weights,) = resamples(labels.clusters, replicates=25, seed=1)
    counts = np.zeros((labels.clusters, len(labels.domain)), int)
    np.add.at(counts, (labels.cluster, labels.value), 1)
    for row, value in zip(weights.astype(int), estimate(weights), strict=True):
        drawn = np.repeat(counts, row, axis=0)
        expected = krippendorff.alpha(value_counts=drawn, value_domain=labels.domain, level_of_measurement=level)
        assert value == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(table=st.lists(st.lists(st.integers(1, 5), min_size=6, max_size=6), min_size=2, max_size=4), data=st.data())
def test_alpha_does_not_depend_on_who_is_who(table, data):
    shuffled = [list(column) for column in zip(*table, strict=True)]
    shuffled = [data.draw(st.permutations(column)) for column in shuffled]  # labels change hands within each item
    one, other = (
        rating_labels(rated([list(map(float, row)) for row in t]).ratings)
        for t in (table, list(map(list, zip(*shuffled, strict=True))))
    )
    for level in ("nominal", "ordinal", "interval"):
        a, b = (stats.alpha_on_weights(x, level)(np.ones((1, x.clusters)))[0] for x in (one, other))
        assert a == pytest.approx(b, nan_ok=True)


def test_figures_do_not_depend_on_completion_names():
    records, renamed = ranked(40, 2, 4, noise=1.5, ties=True), Records()
    for prompt, home in records.rankings.items():
        for (rater, _), ranks in home.items():
            renamed.add_ranks(prompt, rater, {f"{9 - int(i[1])}": rank for i, rank in ranks.items()})
    one, other = (agreement_of_records(r, **FAST).rankings for r in (records, renamed))
    for name in one.figures:
        assert one.figures[name].value == pytest.approx(other.figures[name].value), name
    kappas = [s.labeler_pairs[0]["cohen_kappa"].value for s in (one, other)]
    assert kappas[0] == pytest.approx(kappas[1])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    inside = 0
    for seed in range(60):
        rng, records = np.random.default_rng(seed), Records()
        for p in range(60):
            clear = rng.random() < 0.5  # agreement is 1 on clear prompts and 1/2 on the others: 0.75 in truth
            for labeler in "ab":
                order = np.arange(3) if clear else rng.permutation(3)
                records.add_ranks(f"p{p}", labeler, {f"c{i}": float(order[i]) for i in range(3)})
        figure = stats.share_strict(comparison_labels(records.rankings).pairs(), **FAST)
        inside += figure.low <= 0.75 <= figure.high
    assert inside >= 50


def test_partial_rankings_are_compared_where_they_meet():
    records = Records()
    records.add_ranks("p", "ann", {"a": 1, "b": 2, "c": 3})
    records.add_ranks("p", "bob", {"b": 1, "c": 2, "d": 3})
    section = agreement_of_records(records, **FAST).rankings
    assert section.counts["pairs"] == 1 and section.figures["agreement_strict"].value == 1
    places = rank_labels(records.rankings, places=True)
    assert sorted(places.domain[places.value]) == [1, 1, 2, 2]  # both say: b before c


def test_places_do_not_depend_on_how_ties_are_written():
    records, other = ranked(20, 3, 4, noise=1.0, ties=True), Records()
    for prompt, home in records.rankings.items():
        for (rater, _), ranks in home.items():
            other.add_ranks(prompt, rater, {i: 10.0 * rank + 3 for i, rank in ranks.items()})
    one, two = (agreement_of_records(r, **FAST).rankings.figures for r in (records, other))
    assert one["alpha_ordinal_places"] == two["alpha_ordinal_places"] and one["kendall_tau_b"] == two["kendall_tau_b"]


def test_alpha_of_rankings_is_the_packages_on_the_ranks_as_given():
    import krippendorff

    records = ranked(15, 3, 4, noise=1.0, ties=True)
    every = frozenset(f"c{i}" for i in range(4))
    table = [[home[f"L{n}", every][f"c{i}"] for home in records.rankings.values() for i in range(4)] for n in range(3)]
    figures = agreement_of_records(records, **FAST).rankings.figures
    for level in ("nominal", "ordinal", "interval"):
        expected = krippendorff.alpha(reliability_data=table, level_of_measurement=level)
        assert figures[f"alpha_{level}"].value == pytest.approx(expected)


def test_nothing_in_common_is_said_not_guessed():
    records = Records()
    records.add_ranks("p", "ann", {"a": 1, "b": 2})
    records.add_ranks("q", "bob", {"a": 1, "b": 2})
    report = agreement_of_records(records, **FAST)
    assert all(f.value is None and f.note for f in report.rankings.figures.values())
    assert report.text().count("nothing to compare") == 1, "said once for all figures"


def test_few_prompts_carry_a_caution():
    figure = agreement_of_records(ranked(8, 2, 3, noise=1.0), **FAST).rankings.figures["agreement_strict"]
    assert "Only 8 prompts: too few to say" in figure.note and figure.low <= figure.value <= figure.high
    text = agreement_of_records(ranked(8, 8, 3, noise=1.0), **FAST).text()
    assert "... and 8 more rows" in text and "28 of these 28 rows rest on fewer than 20 prompts" in text


def test_of_many_labelers_those_are_shown_who_agree_least():
    """A class was shown without its careless labeler, who came last by name."""
    records = Records()
    for prompt in map(str, range(20)):
        for n in range(22):
            records.add_ranks(prompt, f"L{n:02}", {"a": 1, "b": 2} if n < 21 or int(prompt) % 2 else {"a": 2, "b": 1})
    shown = [table.rows for table in agreement_of_records(records, replicates=50).tables()[1:]]
    assert [len(rows) for rows in shown] == [20, 20]
    assert shown[1][0] == {"labeler with the others": "L21", "prompts": 20, "agreement_strict": shown[1][0]["agreement_strict"]}
    assert all(row["labelers"].endswith("L21") for row in shown[0]) and shown[1][0]["agreement_strict"].startswith("0.500 [")


# -- files ---------------------------------------------------------------------------------------------------------


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("prompt", "labeler", "ranks"),
    [("prompt_id", "labeler", "ranks"), ("prompt", "annotator", "ranking"), ("item", "worker_id", "ranks"),
     ("id", "rater", "ranks")],
)  # fmt: skip
def test_key_names_are_read_liberally(tmp_path, prompt, labeler, ranks):
    rows = [{prompt: 7, labeler: who, ranks: {"x": 1, "y": 2, "z": 2}, "other": [1]} for who in ("a", 5)]
    section = agreement_of_files([write(tmp_path / "f.jsonl", rows)], **FAST).rankings
    assert section.counts["pairs_strict"] == 2 and section.counts["pairs_tied_by_both"] == 1
    assert section.labeler_pairs[0]["labelers"] == ["5", "a"]


def test_groups_nulls_and_gzip_are_read(tmp_path):
    rows = [
        {"prompt_id": "p", "labeler": "a", "ranking": ["x", ["y", "z"]]},
        {"prompt_id": "p", "labeler": "b", "ranks": {"x": 1.5, "y": None, "z": 2}},
    ]
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert agreement_of_files([path], **FAST).rankings.counts["pairs"] == 1


def test_rows_with_ids_alone_meet_rankings_with_texts(tmp_path):
    """K-wise rows need not carry the texts: an id names what another file has under it."""
    whole = Ranking(Prompt("p", "q"), tuple(Completion(i, "p", f"text of {i}") for i in "xyz"), (("x",), ("y",), ("z",)), "a")
    lines = [{"prompt_id": "p", "labeler": "b", "completion_ids": ["x", "y", "z"], "ranks": [1, 2, 3]}]
    files = [write(tmp_path / "whole.jsonl", [whole.to_json()]), write(tmp_path / "ids.jsonl", lines)]
    section = agreement_of_files(files, **FAST).rankings
    assert section.counts["pairs"] == 3 and section.figures["agreement_strict"].value == 1


def test_a_packed_label_log_is_read_and_a_damaged_one_named(tmp_path):
    session = LabelSession(tasks(3), "ann", labels_path(tmp_path, "ann"))
    while session.current:
        session.submit(draft("c1", "c0 c2"))
    log = labels_path(tmp_path, "ann").read_bytes()
    packed = tmp_path / "ann.jsonl.gz"
    packed.write_bytes(gzip.compress(log))
    assert len(read_records([packed]).rankings) == len(read_records([labels_path(tmp_path, "ann")]).rankings) == 3
    packed.write_bytes(gzip.compress(log)[:-20])
    with pytest.raises(LabError, match="ann.jsonl.gz.*damaged"):
        read_records([packed])


def test_ratings_numbers_text_numbers_and_categories(tmp_path):
    rows = [{"item": i, "worker": w, "score": s} for i in range(5) for w, s in (("a", i), ("b", str(i)))]
    section = agreement_of_files([write(tmp_path / "n.jsonl", rows)], **FAST).ratings
    assert section.figures["agreement"].value == section.figures["alpha_interval"].value == 1
    rows = [
        {"id": i, "annotator": w, "label": label} for i in range(5) for w, label in (("a", "xy"[i % 2]), ("b", "x"))
    ]
    section = agreement_of_files([write(tmp_path / "c.jsonl", rows)], **FAST).ratings
    assert section.figures["agreement"].value == pytest.approx(0.6)
    assert section.figures["alpha_nominal"].value is not None
    assert section.figures["alpha_ordinal"].value is None and "numbers" in section.figures["alpha_ordinal"].note


def test_own_logs_and_ranking_lines_give_the_same_figures(tmp_path):
    rankings = []
    for labeler, orders in (("ann", ("c0", "c1", "c2")), ("bob", ("c0", "c2", "c1"))):
        session = LabelSession(tasks(4), labeler, labels_path(tmp_path, labeler), repeat_share=0.5)
        while session.current:
            session.submit(draft(*orders))
        rankings += session.rankings
    logs = agreement_of_files([tmp_path / "labels"], **FAST)
    lines = agreement_of_files([write(tmp_path / "r.jsonl", [r.to_json() for r in rankings])], **FAST)
    assert logs.to_json() == lines.to_json() == agreement(rankings, **FAST).to_json()
    assert logs.rankings.counts["rankings"] == 8 and logs.rankings.figures["agreement_strict"].value == pytest.approx(
        2 / 3
    )


def test_a_later_line_replaces_an_earlier_one_and_that_is_said(tmp_path):
    line = {"prompt_id": "p", "labeler": "a", "ranks": {"x": 1, "y": 2}}
    rows = [line, {**line, "labeler": "b"}, {**line, "ranks": {"x": 2, "y": 1}}]
    report = agreement_of_files([write(tmp_path / "f.jsonl", rows)], **FAST)
    assert report.rankings.figures["agreement_strict"].value == 0 and "1 label(s) were replaced" in report.text()


GOOD = '{"prompt_id": "p", "labeler": "a", "ranks": {"x": 1, "y": 2}}\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{nonsense", "line 2 is not JSON"),
        ("[1]", "line 2 is .1.; write one JSON object"),
        ('{"labeler": "a", "ranks": {"x": 1, "y": 2}}', "line 2 has no prompt or item"),
        ('{"prompt_id": "p", "ranks": {"x": 1, "y": 2}}', "line 2 has no labeler; add the field 'labeler_id'"),
        ('{"prompt_id": "p", "labeler": null, "ranks": {"x": 1, "y": 2}}', "field 'labeler' is None"),
        ('{"prompt_id": "p", "labeler": "a"}', "neither ranks nor a rating"),
        ('{"prompt_id": "p", "labeler": "a", "ranks": {"x": 1}}', "K >= 2"),
        ('{"prompt_id": "p", "labeler": "a", "ranks": {"x": 1, "y": "two"}}', "'y' the rank 'two'"),
        ('{"prompt_id": "p", "labeler": "a", "ranks": {"x": 1, "y": NaN}}', "rank nan"),
        ('{"prompt_id": "p", "labeler": "a", "ranks": 3}', "lower is better"),
        ('{"prompt_id": "p", "labeler": "a", "ranking": [["x", "x"]]}', "twice"),
        ('{"prompt_id": "p", "labeler": "a", "ranks": [2, 1, 3]}', "a list of 3, so 'completion_ids'"),
        ('{"prompt_id": "p", "labeler": "a", "ranks": [2, 1], "completions": ["x"]}', "a list of 2"),
        ('{"prompt_id": "p", "labeler": "a", "ranks": [2, 1], "completions": ["x", "x"]}', "a completion twice"),
        ('{"prompt_id": "p", "labeler": "a", "ranks": [2, null], "completions": ["x", "y"]}', "K >= 2"),
        ('{"prompt_id": "p", "labeler": "a", "rating": null}', "field 'rating' is None"),
        ('{"prompt": {"id": "p"}, "completions": [], "groups": []}', "not a complete Ranking"),
    ],
)
def test_a_bad_line_is_named_with_field_and_remedy(tmp_path, line, words):
    path = tmp_path / "f.jsonl"
    path.write_text(GOOD + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=words.replace("(", r"\(")) as error:
        agreement_of_files([path])
    assert str(path) in str(error.value) and "line 2" in str(error.value)


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_or_missing_file_is_an_error(tmp_path, content):
    path = tmp_path / "f.jsonl"
    with pytest.raises(DataError, match="cannot be read"):
        agreement_of_files([path])
    path.write_text(content)
    with pytest.raises(DataError, match="no ranking and no rating"):
        agreement_of_files([path])


def test_json_holds_every_figure_and_survives_json():
    report = agreement_of_records(ranked(12, 3, 3, noise=1.0), **FAST).to_json()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert set(report["rankings"]["figures"]) | {"agreement", "cohen_kappa"} == set(report["definitions"])
    assert len(report["rankings"]["labeler_pairs"]) == len(report["rankings"]["by_labeler"]) == 3


def test_the_command_prints_the_table_and_the_same_figures_as_json(tmp_path):
    rows = [{"prompt_id": p, "labeler": w, "ranks": {"x": 1, "y": 2 + p % 2}} for p in range(25) for w in "ab"]
    path = write(tmp_path / "f.jsonl", rows)
    table, as_json = (CliRunner().invoke(app, ["agreement", str(path), *more]) for more in ([], ["--json"]))
    assert table.exit_code == as_json.exit_code == 0
    report = agreement_of_files([path])
    assert table.stdout.strip() == report.text() and json.loads(as_json.stdout) == report.to_json()
