"""Figures say what the run says: traces hold its numbers, twins need no browser, hostile text stays text."""

import base64
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labkit import figures
from labkit.errors import DataError
from labkit.experiment import Evaluation
from labkit.figures.panels import PANELS, value_of
from labkit.figures.png import draw_png
from labkit.figures.records import Record, interventions, number
from labkit.figures.theme import plain
from labkit.knobs import PPOKnobs
from labkit.runs import StageFolder
from labkit.types import Completion, Prompt, Ranking, Step

HOSTILE = '<img src=x onerror="alert(1)"> $x^2$ <b>bold</b> %{x} \u202eevil'


def steps(count: int = 12, **extra: float) -> list[Step]:
    def metrics(n: int) -> dict[str, float]:
        return {
            "score": n / count, "objective": n / count - 0.01, "gold": 0.5 + 0.3 * n / count, "kl_k1": 0.1 * n,
            "kl_k3": 0.09 * n,
            "entropy": 2.0, "grad_norm_ppo": 2.0, "grad_norm_ptx": 1.0, "grad_cosine": 0.1, "ptx_loss": 1.0,
            "time_generation": 0.5, "time_scoring": 0.2, "time_update": 0.7, "time_total": 1.6, **extra,
        }  # fmt: skip

    return [Step("ppo", n, metrics(n), PPOKnobs().to_json()) for n in range(1, count + 1)]


def row(step: int, why: str = "", by: str = "hand", **changed) -> dict:
    plain_row = {"knob": "kl_coef", "asked": 0.1, "old": 0.02, "new": 0.1, "outcome": "applied", "reason": ""}
    return {**plain_row, "step": step, "by": by, "why": why, **changed}


def drawn(fig) -> dict[str, list[float]]:
    """Trace data by hover label, as numbers."""
    return {t.hovertemplate: list(t.y) for t in fig.data if t.y is not None and t.hovertemplate}


def test_curves_hold_the_numbers_of_the_steps() -> None:
    fig = figures.training_curves(steps())
    scores = next(y for label, y in drawn(fig).items() if "RM score" in label)
    assert scores == pytest.approx([n / 12 for n in range(1, 13)], rel=1e-4)
    ratio = next(y for label, y in drawn(fig).items() if label.endswith("ratio %{y:.4g}<extra></extra>"))
    assert ratio == [0.5] * 12


def test_what_is_measured_once_an_epoch_is_joined_and_marked() -> None:
    """Points with a gap on both sides are drawn by nobody: the validation loss was never seen."""
    epochs = {n: {"valid_loss": 1.0 + n} for n in (10, 20, 30)}
    trained = [Step("sft", n, {"loss": 2.0, **epochs.get(n, {})}, {}) for n in range(1, 31)]
    fig = figures.training_curves({"sft": trained, "init": trained}, panels=["loss"])
    valid = [t for t in fig.data if "validation" in t.hovertemplate]
    assert [(list(t.x), list(t.y), t.mode, t.zorder) for t in valid] == [([10, 20, 30], [11, 21, 31], "lines+markers", 1)] * 2
    assert all(t.mode == "lines" and not t.zorder for t in fig.data if t not in valid)


def test_the_loss_of_the_ppo_init_is_not_called_that_of_demonstrations() -> None:
    """Pretraining text is averaged in; a board that calls it as SFT's makes the PPO init the better learner."""
    heading = {}
    for stage in ("sft", "ppo_init"):
        (note,) = figures.training_curves([Step(stage, n, {"loss": 2.0, "valid_loss": 2.5}, {}) for n in (1, 2)], panels=["loss"]).layout.annotations
        heading[stage] = (note.text, note.hovertext)
    assert "train + pretraining" in heading["ppo_init"][0] and "Only the latter can be compared" in heading["ppo_init"][1]
    assert "pretraining" not in "".join(heading["sft"])


def test_panels_without_data_are_left_out_and_panels_can_be_chosen() -> None:
    titles = [a.text for a in figures.training_curves(steps()).layout.annotations]
    assert not any("Clip fraction" in t for t in titles) and any("Gold" in t for t in titles)
    assert len(figures.training_curves(steps(), panels=["kl"]).layout.annotations) == 1
    assert len(figures.training_curves(steps(), panels=["ptx_loss", "kl_k1", "kl"]).layout.annotations) == 2
    with pytest.raises(DataError, match="nonsense"):
        figures.training_curves(steps(), panels=["nonsense"])


def test_few_steps_are_marked_one_by_one() -> None:
    assert figures.training_curves(steps(2)).layout.xaxis.dtick == 1
    assert figures.training_curves(steps(40)).layout.xaxis.dtick is None


def test_a_run_folder_a_path_and_its_steps_draw_alike(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "ppo")
    folder.begin(settings={})
    for step in steps():
        folder.append_step(step)
    as_json = [figures.training_curves({"ppo": source}).to_json() for source in (folder, str(folder.path), steps())]
    assert as_json[0] == as_json[1] == as_json[2]


def test_several_runs_have_colours_of_their_own_and_one_legend_entry_each() -> None:
    fig = figures.training_curves({"a": steps(), "b": steps(6)})
    assert [t.name for t in fig.data if t.showlegend] == ["a", "b"]
    hues = {name: {t.line.color for t in fig.data if t.name == name} for name in "ab"}
    assert len(hues["a"]) == len(hues["b"]) == 1 and hues["a"] != hues["b"]


def test_what_a_rollback_superseded_is_marked_no_more() -> None:
    row = {"by": "hand", "outcome": "applied", "reason": "", "why": "", "asked": 0.1, "old": 0.02, "new": 0.1}
    back = {**row, "knob": "rollback", "asked": 5, "step": 12, "old": 12, "new": 5}
    ledger = [{**row, "knob": "kl_coef", "step": n} for n in (3, 9)] + [back, {**row, "knob": "clip", "step": 7}]
    marks = interventions(Record("ppo", [], ledger))
    assert [m.step for m in marks] == [3, 5, 7] and "rolled back from step 12 to step 5" in marks[1].sentence


def test_interventions_are_marked_with_their_why_and_effect_but_not_the_controllers_moves() -> None:
    record = Record(
        "ppo", steps(), [row(5, "KL ran away"), row(6, by="controller"), row(8, outcome="refused", reason="too high")]
    )
    marks = interventions(record)
    assert [m.step for m in marks] == [5, 8] and [m.refused for m in marks] == [False, True]
    assert "KL ran away" in marks[0].sentence and "score" in marks[0].sentence and "0.02 → 0.1" in marks[0].sentence
    hovers = [t.text for t in figures.training_curves(record).data if t.meta == "mark"]
    assert hovers and all(len(h) == 2 for h in hovers)


@pytest.mark.parametrize("asked", ["0.05", [0.1], None, {"a": 1}])
def test_a_ledger_with_a_value_that_is_no_number_is_read_all_the_same(asked: object) -> None:
    (mark,) = interventions(Record("ppo", steps(), [row(5, asked=asked, old=asked, outcome="applied")]))
    assert mark.step == 5 and number(asked) in mark.sentence


def test_hostile_text_is_shown_not_run() -> None:
    shown = plain(HOSTILE)
    assert "<img" not in shown and "$" not in shown and "\u202e" not in shown and "RLO" in shown
    record = Record(HOSTILE, steps(), [row(3, HOSTILE)])
    everything = [
        figures.training_curves([record, Record("b", steps())], title=HOSTILE),
        figures.win_rates([{"name": HOSTILE, "rate": 0.5, "low": 0.4, "high": 0.6, "group": HOSTILE}]),
        figures.reward_histogram({HOSTILE: [1.0, 2.0]}),
        figures.token_strip([HOSTILE, "b"], {"KL": [0.1, 0.2]}),
        figures.alignment_tax([{"benchmark": HOSTILE, "model": HOSTILE, "value": 0.5}]),
        figures.time_profile({HOSTILE: steps()}),
    ]
    for fig in everything:
        text = _strings(json.loads(fig.to_json()))
        assert not any("<img" in t or "$x" in t for t in text)
        assert draw_png(fig)[:4] == b"\x89PNG"


def _strings(value) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [s for v in inner for s in _strings(v)]


def test_a_bundle_shows_everywhere_and_is_small() -> None:
    fig = figures.training_curves({"a": steps(60), "b": steps(60)})
    made = figures.bundle(fig)
    assert set(made) == {"application/vnd.plotly.v1+json", "image/png", "text/plain"}
    assert len(json.dumps(made)) < 250_000
    assert made["text/plain"].endswith("a, b")


def test_the_png_holds_every_series_in_its_colour() -> None:
    from PIL import Image

    fig = figures.training_curves({"a": steps(), "b": [*steps(6)]})
    picture = Image.open(io.BytesIO(base64.b64decode(figures.bundle(fig)["image/png"]))).convert("RGBA")
    pixels = np.asarray(picture).reshape(-1, 4)
    for hue in {t.line.color for t in fig.data if t.line.color and t.line.color.startswith("#")}:
        wanted = [int(hue[i : i + 2], 16) for i in (1, 3, 5)]
        near = np.abs(pixels[:, :3].astype(int) - wanted).max(axis=1) < 24
        assert (near & (pixels[:, 3] > 200)).sum() > 50, f"no line in {hue}"
    assert (pixels[:, 3] < 10).mean() > 0.5, "the background is transparent"


def test_an_unknown_trace_is_an_error_not_a_silent_gap() -> None:
    import plotly.graph_objects as go

    from labkit.figures.theme import template

    with pytest.raises(DataError, match="pie"):
        draw_png(go.Figure(go.Pie(values=[1, 2]), layout={"template": template()}))


def test_seconds_of_a_step_add_up_to_its_total() -> None:
    fig = figures.time_profile(steps())
    assert sum(t.x[0] for t in fig.data) == pytest.approx(1.6)
    assert {t.name for t in fig.data} == {"generation", "scoring", "update", "idle"}


def rankings() -> tuple[list[Ranking], list[dict[str, float]]]:
    """Forty prompts whose RM is right about every pair of distance 2 and about none of distance 1 by labeler 'odd'."""
    made, scores = [], []
    for n in range(40):
        ids = list("abc")  # the same for every prompt, as in many people's files
        prompt = Prompt(f"p{n}", "x")
        texts = tuple(Completion(i, prompt.id, "t") for i in ids)
        made.append(Ranking(prompt, texts, tuple((i,) for i in ids), "odd" if n % 2 else "even"))
        scores.append(dict(zip(ids, (1.0, 2.0, 0.0) if n % 2 else (2.0, 1.0, 0.0), strict=True)))
    return made, scores


def test_accuracy_by_gap_and_labeler_counts_pairs() -> None:
    pairs = figures.pair_rows(*rankings())
    assert len(pairs) == 120 and {p["gap"] for p in pairs} == {1, 2}
    gap = dict(zip(*(lambda t: (t.x, t.y))(figures.accuracy_by(pairs, "gap").data[0]), strict=True))
    assert gap["2<br>n=40"] == 1.0 and gap["1<br>n=80"] == pytest.approx(0.75)
    labeler = figures.accuracy_by(pairs, "labeler").data[0]
    assert dict(zip(labeler.x, labeler.y, strict=True))["odd<br>n=60"] == pytest.approx(2 / 3)


def test_many_labelers_lie_the_best_on_top_with_room_for_their_names() -> None:
    pairs = [{"margin": 1.0 if i % 30 < n else -1.0, "labeler": f"labeler_{n:02d}"} for n in range(30) for i in range(30)]
    fig = figures.accuracy_by(pairs, "labeler")
    bars = fig.data[0]
    assert list(bars.x) == sorted(bars.x) and bars.y[-1] == "labeler_29 · n=30", "the last is drawn on top"
    assert fig.layout.width <= 760 and fig.layout.margin.l > 100 and fig.layout.height > 30 * 15


def test_no_picture_is_wider_than_a_page() -> None:
    import plotly.graph_objects as go

    for width, pixels in ((1120, 1200), (520, 780)):
        picture = base64.b64decode(figures.bundle(go.Figure(layout={"width": width, "height": 200}))["image/png"])
        assert int.from_bytes(picture[16:20], "big") == pytest.approx(pixels, abs=2)


def test_a_calibrated_rm_lies_on_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    strength = np.abs(rng.normal(0, 1.5, 20_000))
    right = rng.random(20_000) < 1 / (1 + np.exp(-strength))
    fig = figures.calibration([{"margin": m} for m in np.where(right, strength, -strength)])
    model = fig.data[1]
    assert np.abs(np.array(model.x) - np.array(model.y)).max() < 0.03


def test_a_calibration_bar_ends_inside_its_figure() -> None:
    fig = figures.calibration([{"margin": m} for m in (-4.0, -3.5, -3.0, -2.5, -2.0, 1.0, 1.1, 1.2, 1.3, 1.4)])
    model = fig.data[1]
    lowest = min(y - below for y, below in zip(model.y, model.error_y.arrayminus, strict=True))
    assert fig.layout.yaxis.range[0] < lowest < 0.35


def test_a_title_stands_above_all_rows_of_its_legend() -> None:
    for count, rows in ((2, 1), (8, 3)):
        names = [f"model {n}" for n in range(count)]
        drawn = [
            figures.reward_histogram({name: [n, n + 1.0, n + 2.0] for n, name in enumerate(names)}),
            figures.reward_against_length([{"source": s, "length": n, "score": n % 3} for s in names for n in range(9)]),
        ]
        for fig in drawn:
            assert fig.layout.title.y == 1 and fig.layout.title.yanchor == "top"
            assert fig.layout.margin.t >= 32 + 19 * rows


def test_no_pairs_is_a_sentence() -> None:
    with pytest.raises(DataError, match="rankings"):
        figures.calibration([])


@pytest.mark.parametrize("kind", ["rl", "bon"])
def test_gaos_fit_recovers_its_own_law(kind: str) -> None:
    d = np.linspace(0.1, 3, 30)
    bend = np.log(d) if kind == "rl" else d
    assert figures.gao_fit(d, d * (1.3 - 0.4 * bend), kind=kind) == pytest.approx((1.3, 0.4))


def test_likert_bars_stand_on_one_and_say_their_mean() -> None:
    fig = figures.likert_bars({"SFT": [3, 5], "PPO": [7, 7]})
    bar = fig.data[0]
    assert [b + y for b, y in zip([bar.base] * 2, bar.y, strict=True)] == [4.0, 7.0]
    assert list(bar.customdata) == [4.0, 7.0]


def test_likert_intervals_are_of_prompts_not_of_ratings() -> None:
    """Three labelers who say the same of a prompt say no more than one of them."""
    scores, prompts = [1, 4, 2, 7, 5, 3], list("abcdef")
    once = figures.likert_bars({"SFT": scores}, prompts={"SFT": prompts}).data[0].error_y.array
    thrice = figures.likert_bars({"SFT": scores * 3}, prompts={"SFT": prompts * 3}).data[0].error_y.array
    assert thrice == pytest.approx(once) and once[0] > 1
    assert figures.likert_bars({"SFT": scores}).data[0].error_y.array == once, "one rating each"
    assert figures.likert_bars({"SFT": scores}, prompts={}).data[0].error_y.array == (0.0,), "nobody knows what hangs together"


def test_every_panel_reads_from_a_step_without_failing() -> None:
    empty = Step("ppo", 1, {})
    for panels in PANELS.values():
        for panel in panels:
            assert panel.reading.endswith((".", "?")) and all(math.isnan(value_of(empty, k)) for k, _ in panel.series)


def test_figures_import_no_jupyter_and_every_name_resolves() -> None:
    code = (
        "import sys, labkit.figures as f; [getattr(f, n) for n in f.__all__]; [getattr(f, n) for n in f.__all__];"
        "assert callable(f.bundle) and callable(f.visible);"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('IPython', 'ipywidgets', 'torch')]; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_letters_and_marks_that_look_like_nothing_are_named() -> None:
    """The same as on the page (tests/widgets/visible.test.mjs)."""
    from labkit.figures.text import visible

    hidden = "\u034f\u3164\u180b\ufe00\U000e0101\u2800"
    assert visible(hidden) == "".join(f"⟨U+{ord(c):04X}⟩" for c in hidden)
    assert visible("\u2764\ufe0f é 日本語") == "\u2764\ufe0f é 日本語"


def test_judges_of_one_model_never_stand_in_the_row_of_another():
    for count in range(1, 9):
        rows = [{"name": n, "rate": 0.5, "low": 0.4, "high": 0.6, "group": f"group {g}"} for n in "ab" for g in range(count)]
        fig = figures.win_rates(rows)
        places = [[trace.y[row] for trace in fig.data] for row in (0, 1)]
        assert max(places[0]) < 0.5 < min(places[1]) and len(set(places[0])) == count
        assert len({(t.marker.color, t.marker.symbol) for t in fig.data}) == count


def test_bars_of_shares_end_where_shares_end() -> None:
    measured = [{"benchmark": "reading", "model": m, "value": v, "stderr": 0.05} for m, v in (("ppo", 0.02), ("ppo_ptx", 0.97))]
    result = Evaluation(baseline="sft", models=["ppo", "ppo_ptx"], preferences=[], quality=[], benchmarks=measured)
    low, high = (trace.error_x for trace in figures.alignment_tax(result.benchmark_rows()).data)
    assert (low.array, low.arrayminus, high.array, high.arrayminus) == tuple((pytest.approx(v),) for v in (0.1, 0.02, 0.03, 0.1))


def test_rows_of_models_and_benchmarks_have_no_line_of_zero_and_first_steps_are_drawn_whole() -> None:
    shares = figures.win_rates([{"name": "ppo", "rate": 0.5, "low": 0.4, "high": 0.6}])
    tax = figures.alignment_tax([{"benchmark": "reading", "model": "ppo", "value": 0.5}])
    assert shares.layout.yaxis.zeroline is False and tax.layout.yaxis.zeroline is False, "the first row lies at zero"
    first = figures.proxy_and_gold(steps(1), fit=False).data
    assert first and all(trace.cliponaxis is False for trace in first), "half of a mark at no KL is cut off by the axis"
