"""Plans are complete, ordered and checked; an earlier plan may grow but not change."""

import json
from pathlib import Path

import pytest

from labkit.disk import write_json
from labkit.errors import SettingsError
from labkit.findings.merge import joined
from labkit.findings.pieces import PIECES
from labkit.findings.plan import BEYOND, ENSEMBLE, Plan, load_plan, plan_of, variants, whole_numbers
from labkit.findings.report import about
from labkit.findings.scales import SCALES, preset_of

THREE = plan_of("tour", ("large", "small", "medium"), (12, 11))


def test_sizes_and_seeds_are_ordered_the_middle_size_judges_and_is_swept() -> None:
    assert THREE.sizes == ("small", "medium", "large") and THREE.seeds == (11, 12)
    assert THREE.judge == "medium" and THREE.sweep == ("medium",)
    assert plan_of("smoke", ["large", "small"], [1]).judge == "small"


@pytest.mark.parametrize("plan", [THREE, plan_of("smoke", ["small"], [11])], ids=["three sizes", "one"])
def test_whatever_a_task_needs_comes_before_it_or_can(plan: Plan) -> None:
    tasks = {t.key: t for t in plan.tasks()}
    assert len(tasks) == len(plan.tasks()), "two tasks share a key"
    done: set[str] = set()
    while len(done) < len(tasks):
        ready = {key for key, t in tasks.items() if key not in done and set(t.needs) <= done}
        assert ready, f"nothing can begin any more: {sorted(set(tasks) - done)}"
        done |= ready
    assert {t.piece for t in tasks.values()} <= set(PIECES)


def test_other_sizes_wait_for_the_judge_and_sweeps_are_made_at_their_size_only() -> None:
    tasks = {t.key: t for t in THREE.tasks()}
    assert "medium-s11/judge" in tasks["small-s11/judge"].needs
    assert "medium-s11/variant.ppo-beta=2" in tasks and "small-s11/variant.ppo-beta=2" not in tasks
    chosen = {t.key for t in plan_of("tour", THREE.sizes, [11], sweep=["small"]).tasks()}
    assert "small-s11/variant.ppo-beta=2" in chosen and "medium-s11/variant.ppo-beta=2" not in chosen


def test_what_goes_beyond_the_paper_is_measured_at_one_swept_size() -> None:
    for sweep, size in (((), "medium"), (("small", "large"), "small"), (("small", "medium", "large"), "medium")):
        plan = plan_of("tour", THREE.sizes, [11], sweep=sweep)
        further = {t.size for t in plan.tasks() if (t.piece in BEYOND and t.piece != "sheet") or t.argument == ENSEMBLE}
        assert further == {size} == {plan.further}
        swept = {t.size for t in plan.tasks() if t.argument == "ppo-beta=2"}
        assert swept == {*(sweep or ["medium"])}


def test_the_papers_rows_of_every_seed_come_before_what_goes_beyond_them() -> None:
    tasks = THREE.tasks()
    beyond = [t.piece in ("rounds", "method", "best-of-n", "sheet") or "ensemble" in t.key for t in tasks]
    assert any(beyond) and not any(beyond[: beyond.index(True)])
    paper = [t.seed for t in tasks[: beyond.index(True)]]
    assert paper == sorted(paper) and set(paper) == set(THREE.seeds)


@pytest.mark.parametrize("scale", SCALES)
def test_every_variant_is_a_possible_run_of_its_own_name(scale: str) -> None:
    found = variants(scale)
    assert len({v.name for v in found}) == len(found)
    for variant in found:
        preset_of(scale).ppo_knobs.turned(**variant.knobs)  # raises where a knob is unknown or out of bounds
    assert [v.name for v in found[:2]] == ["ppo", "ppo_ptx"] and not found[0].knobs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("huge", ["small"], [1]), "no scale 'huge'"),
        (("smoke", ["tiny"], [1]), "no size 'tiny'"),
        (("smoke", ["small"], [1, 1]), "no seed twice"),
        (("smoke", [], [1]), "at least one size"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(arguments: tuple, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        plan_of(*arguments)


def test_a_plan_grows_by_seeds_and_sizes_but_keeps_its_scale_and_judge(tmp_path: Path) -> None:
    home = tmp_path / "set"
    load_plan(home, plan_of("smoke", ["small", "medium"], [11], judge="small"))
    grown = load_plan(home, plan_of("smoke", ["large", "small"], [12], judge="small"))
    assert grown.sizes == ("small", "medium", "large") and grown.seeds == (11, 12) and grown.judge == "small"
    assert load_plan(home) == grown
    with pytest.raises(SettingsError, match="use another name"):
        load_plan(home, plan_of("tour", ["small"], [11]))


def test_records_of_other_settings_keep_their_mark_when_they_are_read(tmp_path: Path) -> None:
    """Read and merged they would else pass for today's."""
    home, wanted = tmp_path / "set", plan_of("smoke", ["small"], [12])
    today = load_plan(home, wanted).settings
    row = json.loads((home / "plan.json").read_text())
    write_json(home / "plan.json", {**row, "settings": "0123456789ab"})
    found = load_plan(home)
    assert found.settings == found.to_json()["settings"] == "0123456789ab" != today
    assert "0123456789ab" in about(home, found) and "0123456789ab" not in about(home, wanted)
    write_json(tmp_path / "findings.json", {"plan": plan_of("smoke", ["small"], [13]).to_json(), "findings": []})
    with pytest.raises(SettingsError, match="settings"):
        joined(found, [], tmp_path / "findings.json")


def test_the_records_of_the_docs_were_made_with_todays_settings(repository: Path) -> None:
    """A field more in a stage's settings, or a preset that moved, would make another set of the next seed."""
    told = json.loads((repository / "docs" / "findings.json").read_text())["plan"]
    assert plan_of("findings", ["small"], [1]).settings == told["settings"] == "fbbc79f102f5"


def test_findings_that_were_never_made_say_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="labkit findings nowhere"):
        load_plan(tmp_path / "nowhere")


def test_lists_of_seeds_are_read_or_refused() -> None:
    assert whole_numbers("11, 12,13") == [11, 12, 13]
    with pytest.raises(SettingsError, match="with commas"):
        whole_numbers("11-13")
