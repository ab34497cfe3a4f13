"""The reward model (section 3.5): learn a scalar score from whole rankings of K completions.

    state = start(base_path("medium"), seed=0)
    for step in loop(state, rankings, Dial(RewardKnobs()), RewardSettings(), valid=..., demonstrations=...): ...

All pairs of a prompt form one batch element and each completion is read once. Afterwards a bias centres the
demonstrations; it is part of the saved model, which plain `AutoModelForTokenClassification` reloads.
"""

from labkit.reward.data import Ranked, encode_rankings
from labkit.reward.ensemble import Ensemble, likelihood
from labkit.reward.folds import Fold, labeler_folds
from labkit.reward.loop import RewardState, centre, loop, retrain, start, total_steps
from labkit.reward.loss import kwise_loss
from labkit.reward.report import Accuracy, Share, accuracy, share
from labkit.reward.settings import RewardSettings

__all__ = [
    "Accuracy",
    "Ensemble",
    "Fold",
    "Ranked",
    "RewardSettings",
    "RewardState",
    "Share",
    "accuracy",
    "centre",
    "encode_rankings",
    "kwise_loss",
    "labeler_folds",
    "likelihood",
    "loop",
    "retrain",
    "share",
    "start",
    "total_steps",
]
