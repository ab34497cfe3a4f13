"""The paper's numbers, the presets made from them, and the table that sets them side by side."""

from __future__ import annotations

from dataclasses import fields

import pytest

from labkit import paper
from labkit.data.use_cases import USE_CASES
from labkit.errors import SettingsError
from labkit.ppo import PPOSettings
from labkit.presets import COLUMNS, SCALES, STAGES, as_markdown, paper_table, preset


def rows(stage, scale="tour", **options):
    return {row["setting"]: row for row in paper_table(stage, scale, **options)}


def test_derived_numbers_are_those_that_the_paper_states():
    assert paper.DERIVED["episodes"] == 256_000 and paper.DERIVED["policy_steps"] == 4_000
    assert paper.DERIVED["pretraining_examples"] == 2_048_000 and paper.DERIVED["reward_steps"] == 519
    assert sum(USE_CASES.values()) == pytest.approx(99.9, abs=0.11)


@pytest.mark.parametrize("stage", STAGES)
def test_no_number_is_both_in_the_paper_and_not(stage):
    stated = set(paper.stage_facts(stage))
    assert not stated & {g.name for g in paper.NOT_IN_PAPER if g.stage == stage}


def test_a_gap_is_a_setting_or_says_that_it_is_none():
    for gap in paper.NOT_IN_PAPER:
        assert (gap.name in preset("tour").stage(gap.stage)) != gap.origin.startswith("no setting of the lab"), gap


def test_a_limit_on_the_gradient_has_one_origin():
    assert {paper.gap(stage, "max_grad_norm").origin for stage in STAGES} == {"1, as in GPT-3 (Brown et al. 2020, App. B)"}
    assert "GPT-3" in PPOSettings.__dataclass_fields__["max_grad_norm"].metadata["doc"]


def test_what_counts_as_a_pretraining_example_is_said_with_its_reason():
    row = rows("ppo")["ptx_tokens"]
    assert row["here"] == "8" and "of a packed row" in row["why"] and "less than twice PPO" in row["why"]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stage", STAGES)
def test_every_row_says_why_and_never_shows_our_value_as_the_papers(stage, scale):
    for name, row in rows(stage, scale).items():
        assert all(row[c] for c in COLUMNS), name
        if name in paper.stage_facts(stage):
            fact = paper.stage_facts(stage)[name]
            assert fact.where in row["paper"]
            assert (row["why"] == "as in the paper") == (preset(scale).stage(stage)[name] == fact.value)
        else:
            assert row["paper"] == "not stated" and row["why"] != "our own", name


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stage", STAGES)
def test_a_reason_that_names_the_value_names_the_one_shown(stage, scale):
    for name, row in rows(stage, scale).items():
        first = row["why"].split()[0].rstrip(",:;")
        if row["paper"] == "not stated" and first.replace(".", "").replace("e-", "").isdigit():
            assert float(first) == float(row["here"]), name


def test_sixteen_epochs_come_with_the_papers_dropout():
    """EXPERIMENTS.md, "dropout starved the small models": tour and smoke train without, `full` keeps the paper's."""
    assert {scale: (preset(scale).sft.epochs, preset(scale).sft.dropout) for scale in SCALES} == {
        "smoke": (1, 0.0), "tour": (4, 0.0), "full": (paper.SFT.epochs.value, paper.SFT.dropout.value)
    }  # fmt: skip
    assert rows("sft", "full")["dropout"]["why"] == "as in the paper" and preset("full").ppo_init.dropout == 0.0


@pytest.mark.parametrize("stage", ["sft", "ppo_init", "reward"])
def test_limits_of_half_the_context_are_shown_in_tokens(stage):
    for name in ("max_prompt_tokens", "max_response_tokens"):
        assert rows(stage, context=256)[name]["here"] == "128" and rows(stage)[name]["here"] == "half the context"
        assert rows(stage, context=256, changed={name: 40})[name]["here"] == "40"


@pytest.mark.parametrize("changed", [{}, {"steps": 90}, {"ema_per": "iteration"}])
def test_the_average_of_the_weights_is_explained_with_the_steps_at_hand(changed):
    """The share of the init after every step of the average, moved one by one."""
    here, share, moves = {**preset("tour").stage("ppo"), **changed}, 1.0, 0
    for _ in range(here["steps"]):
        for _ in range(here["batch"] // here["minibatch"] if here["ema_per"] == "minibatch" else 1):
            share, moves = paper.PPO.ema_decay.value * share, moves + 1
    why = rows("ppo", changed=changed)["ema_decay"]["why"]
    assert f"all {moves} steps" in why and f"the init {share:.2f} of" in why and "= 10 steps" in why


def test_defaults_of_settings_are_the_papers():
    from labkit.reward import RewardSettings
    from labkit.sft import SFTSettings, init_settings

    for settings, stage in ((SFTSettings(), "sft"), (init_settings(), "ppo_init"), (RewardSettings(), "reward")):
        names = {f.name for f in fields(settings)} - {"max_prompt_tokens", "max_response_tokens"}
        for name, fact in paper.stage_facts(stage).items():
            if name in names:
                assert getattr(settings, name) == fact.value, name


def test_tables_render_as_markdown():
    table = paper_table("reward")
    markdown = as_markdown(table).splitlines()
    assert markdown[0] == "| setting | paper | here | why |" and len(markdown) == len(table) + 2
    assert {line.count("|") for line in markdown} == {5}


def test_a_parameter_of_a_notebook_is_shown_as_your_choice():
    row = rows("sft", changed={"epochs": 7})["epochs"]
    assert (row["here"], row["why"]) == ("7", "your choice") and row["paper"].startswith("16")
    with pytest.raises(SettingsError, match="sft has no setting 'epoch'"):
        paper_table("sft", changed={"epoch": 7})


def test_unknown_scales_and_stages_are_one_sentence():
    with pytest.raises(SettingsError, match="There is no scale 'huge'; the scales are smoke, tour, full"):
        preset("huge")
    with pytest.raises(SettingsError, match="There is no stage 'rm'"):
        paper_table("rm")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0; it must be a whole number of at least 1"),
        ({"epochs": 1.5}, "epochs is 1.5; it must be a whole number"),
        ({"lr": -1.0}, "lr is -1.0; it must be a number from 0 to 1"),
        ({"choose_by": "luck"}, "choose_by is 'luck'; it must be rm_score or valid_loss or last"),
        ({"lrr": 1.0}, "There is no setting 'lrr'; the settings are epochs"),
        ({"batch_size": 10, "micro_batch": 4}, "batch_size 10 is not a multiple of micro_batch 4"),
        ({"gradient_checkpointing": "no"}, "gradient_checkpointing is 'no'; it must be True or False"),
        ({"batch_size": None}, "batch_size is None; it must be a whole number"),
    ],
)
def test_bad_settings_are_one_sentence(change, sentence):
    with pytest.raises(SettingsError, match=sentence):
        preset("smoke").sft.but(**change)


@pytest.mark.parametrize("stage", STAGES)
def test_no_limit_on_the_gradient_norm_may_be_none(stage):
    settings = getattr(preset("smoke"), stage)
    assert settings.but(max_grad_norm=None).max_grad_norm is None
    with pytest.raises(SettingsError, match="max_grad_norm is -1; .* 0 or None: no limit"):
        settings.but(max_grad_norm=-1)


def test_adapters_are_in_the_table_when_they_are_used():
    assert not [name for name in rows("ppo") if name.startswith("lora_")]
    shown = rows("ppo", changed={"lora_rank": 8})
    assert (shown["lora_rank"]["here"], shown["lora_rank"]["why"]) == ("8", "your choice")
    assert {"lora_alpha", "lora_targets"} <= set(shown)
