"""The reward model (section 3.5): learn a scalar score from whole rankings of K completions.

    prompt, answers = Prompt(id="p0", text="What is a fox?"), (" An animal.", " A plant.")         # labkit.types
    completions = tuple(Completion(f"c{i}", prompt.id, text) for i, text in enumerate(answers))
    rankings = [Ranking(prompt, completions, groups=(("c0",), ("c1",)))]                          # ids, best first
    state = start("path/to/model", seed=0)    # or labkit.world.pretrain.base_path("small"), a base of the world
    for step in loop(state, rankings, constant(RewardKnobs()), RewardSettings(), valid=..., demonstrations=...): ...
    state.save_model("mine")                  # labkit.models.load_reward_model("mine") loads it again
    text_scorer(state.model, state.tokenizer)(["What is a fox?"], [" An animal."], [True])         # ended by itself: True

All pairs of a prompt form one batch element and each completion is read once. Afterwards a bias centres the
demonstrations; it is part of the saved model, which plain `AutoModelForTokenClassification` reloads.
"""

from labkit.reward.data import Ranked, encode_rankings
from labkit.reward.ensemble import Ensemble, likelihood
from labkit.reward.folds import Fold, labeler_folds
from labkit.reward.loop import RewardState, centre, loop, retrain, start, total_steps
from labkit.reward.loss import kwise_loss
from labkit.reward.report import Accuracy, Share, accuracy, share
from labkit.reward.scorer import text_scorer
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
    "text_scorer",
    "total_steps",
]
