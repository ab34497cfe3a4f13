"""The scale of the findings is the tour with less of everything: no rate, β or γ is its own."""

from pathlib import Path

import pytest

from labkit.disk import write_json
from labkit.errors import RunError, SettingsError
from labkit.experiment import amounts
from labkit.findings.scales import FINDINGS_SCALE, SCALES, amounts_of, departures, lab_at, preset_of
from labkit.presets import paper_table, preset
from labkit.runs import Run


def test_it_differs_from_the_tour_in_how_much_and_in_nothing_else() -> None:
    ours, tour = preset_of(FINDINGS_SCALE), preset("tour")
    assert ours.ppo_knobs == tour.ppo_knobs
    assert (ours.sft, ours.ppo_init, ours.reward) == (tour.sft, tour.ppo_init, tour.reward)
    changed = {name for name, value in ours.stage("ppo").items() if tour.stage("ppo")[name] != value}
    assert changed == {"steps", "warmup"}
    assert ours.ppo.steps * ours.ppo.batch < tour.ppo.steps * tour.ppo.batch
    fewer, all_of_them = amounts_of(FINDINGS_SCALE).to_json(), amounts("tour").to_json()
    assert all(fewer[name] <= all_of_them[name] for name in fewer)
    told = departures(FINDINGS_SCALE)
    assert {f"ppo {name}" for name in changed} <= set(told) and told["rankings"] == (
        fewer["rankings"],
        all_of_them["rankings"],
    )
    assert departures("tour") == {}


def test_every_departure_from_the_paper_has_a_reason() -> None:
    rows = paper_table("ppo", preset_of(FINDINGS_SCALE))
    told = {row["setting"]: row["why"] for row in rows}
    assert "three hours of two cores" in told["steps"]


def test_a_run_of_the_scale_says_so_and_is_found_again(tmp_path: Path) -> None:
    run = Run("cell", tmp_path)
    lab = lab_at(run, FINDINGS_SCALE, seed=1, model="small")
    assert lab.scale == lab.facts["scale"] == FINDINGS_SCALE and lab.preset.ppo.steps == preset_of(lab.scale).ppo.steps
    assert lab.amounts == amounts_of(FINDINGS_SCALE)
    write_json(run.path / "prompts" / "experiment.json", lab.facts)
    assert lab_at(run, FINDINGS_SCALE, seed=1).facts == lab.facts
    with pytest.raises(RunError, match="scale = 'findings', now it is 'tour'"):
        lab_at(run, "tour", seed=1, model="small")


def test_an_unknown_scale_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=", ".join(SCALES)):
        preset_of("huge")
