"""Other methods on one sheet: what is missing is trained, what no longer fits is trained again, the rest is left alone."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from labkit.disk import write_json
from labkit.errors import SettingsError
from labkit.experiment.needs import fingerprints
from labkit.runs import Run

module = import_module("labkit.baselines.compare")  # the name labkit.baselines.compare is the function


def leave(run: Run, stage: str, *parents: str, weights: str = "first") -> None:
    folder = run.stage(stage)
    folder.begin(settings={}, parents=fingerprints(run, *parents))
    write_json(folder.model / "weights.json", {stage: weights})
    folder.finish()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A run with an init, a reward model, PPO-ptx and DPO; what is trained and judged is written down, not done."""
    run = Run("main", tmp_path)
    for stage in ("ppo_init", "reward", "ppo_ptx"):
        leave(run, stage)
    leave(run, "dpo", "ppo_init")
    made = SimpleNamespace(run=run, scale="smoke", seed=0, ensure=lambda *names, say: None, trained=[], judged=[])
    monkeypatch.setattr(module, "settings_of", lambda lab, method: None)
    monkeypatch.setattr(module, "train", lambda lab, method: lab.trained.append(method))
    monkeypatch.setattr("labkit.experiment.evaluate", lambda lab, models, **how: lab.judged.append((models, how["stage"])))
    return made


def test_what_is_there_and_fits_is_judged_as_it_is(lab: SimpleNamespace) -> None:
    module.compare(lab, ["dpo"], best_of=4, say=print)
    assert lab.trained == [] and lab.judged == [(["sft", "best-of-4", "ppo_ptx", "dpo"], module.EVALUATION)]


def test_what_is_missing_or_was_made_from_something_else_is_trained(lab: SimpleNamespace) -> None:
    leave(lab.run, "ppo_init", weights="second")
    said: list[str] = []
    module.compare(lab, ["dpo", "kto"], say=said.append)
    assert lab.trained == ["dpo", "kto"] and "its ppo_init changed" in said[0] and "training, from" in said[1]


def test_an_unknown_method_is_refused_before_anything_trains(lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(SettingsError, match="no method 'ppo2'"):
        module.compare(lab, ["ppo2"])
