"""Token views of the samples that every step kept: by the model that the stage ended with, and saying so."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from labkit.errors import RunError
from labkit.experiment.inspected import explain_samples
from labkit.models import load_policy, new_reward_model, response_logprobs
from labkit.runs import Run
from labkit.types import Step
from tests.toy import END, NumberTokenizer, save_toy

ROW = {"source": "ppo", "step": 1, "prompt": "5 6 7", "response": "9 10", "length": 3, "finished": True}


@pytest.fixture
def lab(tmp_path: Path) -> SimpleNamespace:
    """A run whose PPO stage ended at step 3, and no other: as much of an Experiment as is asked for."""
    run = Run("toy", tmp_path)
    for seed, stage in enumerate(("ppo", "ppo_init")):
        save_toy(run.stage(stage).model, seed=seed, spread=0.3)
    new_reward_model(run.stage("ppo").model, 0, device="cpu").save_pretrained(run.stage("reward").model)
    for number in (1, 2, 3):
        run.stage("ppo").append_step(Step("ppo", number, {"score": 0.0}, {"kl_coef": 0.1 * number}))

    def policy(stage: str) -> torch.nn.Module:
        if not run.stage(stage).model.is_dir():
            raise RunError(f"{stage} has no finished model")
        return load_policy(run.stage(stage).model)

    return SimpleNamespace(run=run, tokenizer=NumberTokenizer(), policy=policy)


def test_the_numbers_are_those_of_the_model_that_the_stage_left_and_the_view_says_so(lab: SimpleNamespace) -> None:
    view = explain_samples(lab, ["ppo"])(ROW)
    for column, stage in (("log π", "ppo"), ("log π_ref", "ppo_init")):
        alone = response_logprobs(load_policy(lab.run.stage(stage).model), [[5, 6, 7]], [[9, 10, END]])
        assert view.columns[column] == pytest.approx(alone.tolist(), abs=1e-5)
    assert "advantage" in view.columns and view.columns["KL (k1)"][0] != 0
    note = view.facts["note"]
    assert "ppo ended with (step 3)" in note and "sampled at step 1" in note and "not kept" in note
    assert "tokens" not in note


def test_a_text_that_falls_into_other_tokens_now_is_said(lab: SimpleNamespace) -> None:
    note = explain_samples(lab, ["ppo"])({**ROW, "length": 7}).facts["note"]
    assert "3 tokens here and 7 when it was sampled" in note


def test_models_are_loaded_when_somebody_looks_and_what_is_missing_is_a_sentence(lab: SimpleNamespace) -> None:
    explain = explain_samples(lab, ["ppo", "ppo@gentle"])
    assert "log π" in explain(ROW).columns, "a stage without a model does not hide the others"
    with pytest.raises(RunError, match="ppo@gentle has no finished model"):
        explain({**ROW, "source": "ppo@gentle"})
